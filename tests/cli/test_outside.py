"""Components of a package that is not part of mmbench: one is written, installed and swept."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from mmbench import registry
from mmbench.store.store import Store

COMPONENTS = '''
from pydantic import Field

from mmbench.expansions.base import EXPANSIONS
from mmbench.expansions.zero_pad import ZeroPad
from mmbench.metrics.base import METRICS, Estimate, Metric


@METRICS.register("mean_power")
class MeanPower(Metric):
    """Mean of |w|^power over all weights."""

    expected_sign = 1
    power: float = Field(2.0, gt=0)
    """The exponent."""

    def measure(self, subject):
        weights = [p.detach().abs().flatten() ** self.power for p in subject.network().parameters()]
        total = sum(float(w.sum()) for w in weights)
        return Estimate(total / sum(w.numel() for w in weights), 0.0)


@METRICS.register("of_rank")
class OfRank(Metric):
    """A metric with an option that has no default."""

    expected_sign = 0
    rank: int = Field(ge=1)
    """The rank."""

    def measure(self, subject):
        return Estimate(float(self.rank), 0.0)


@EXPANSIONS.register("my_pad")
class MyPad(ZeroPad):
    """Zero padding by another name."""
'''
TINY = ["model.hidden=[5]", "dataset.train_size=200", "training.steps=20", "training.warmup_steps=2"]


def install(site, modules, points):
    """A package as pip would install it: its modules, and the metadata with the entry points."""
    (site / "my_package").mkdir(parents=True)
    (site / "my_package" / "__init__.py").touch()
    for name, text in modules.items():
        (site / "my_package" / f"{name}.py").write_text(text)
    info = site / "my_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    lines = "\n".join(f"{name} = {value}" for name, value in points.items())
    (info / "entry_points.txt").write_text(f"[mmbench.components]\n{lines}\n")


@pytest.fixture
def installed(tmp_path_factory, monkeypatch):
    """Puts a package where this process and its forks find it, and forgets it afterwards."""

    def put(modules, points):
        site = tmp_path_factory.mktemp("site")
        install(site, modules, points)
        monkeypatch.syspath_prepend(str(site))
        registry.load_outside.cache_clear()
        return site

    yield put
    registry.load_outside.cache_clear()
    for kind in registry.Registry.by_kind.values():
        for name in [name for name, cls in kind._classes.items() if cls.__module__.startswith("my_package")]:
            del kind._classes[name]
    for name in [name for name in sys.modules if name.partition(".")[0] == "my_package"]:
        del sys.modules[name]


@pytest.fixture
def mine(installed):
    return installed({"components": COMPONENTS}, {"mine": "my_package.components"})


def test_a_sweep_with_a_metric_and_an_expansion_of_another_package(mine, mmbench, mmbench_here, tmp_path):
    where = {**os.environ, "PYTHONPATH": os.pathsep.join([str(mine), os.environ.get("PYTHONPATH", "")])}
    sweep = [*TINY, "metric=mean_power,random", "expansion=my_pad,zero_pad", "metric.power=1,3"]
    done = mmbench("run", "-m", *sweep, env=where)  # its workers are processes of their own
    assert done.returncode == 0, done.stderr
    assert "6 runs: 6 done" in done.stdout, done.stdout
    store = Store(tmp_path / "results")
    scores = {
        (record["expansion"], record["definition"]): record["score"]
        for record in map(store.read_record, store.record_ids())
    }
    for expansion in ("my_pad", "zero_pad"):
        assert 0 < scores[expansion, "mean_power(power=3.0)"] < scores[expansion, "mean_power(power=1.0)"]
    assert "6 have their record" in mmbench_here("plan", *sweep).stdout
    analysis = mmbench_here("analyze")
    assert analysis.returncode == 0, analysis.stderr
    assert "mean_power" in (tmp_path / "results" / "analysis" / "correlations.csv").read_text()


def test_it_is_found_by_name_wherever_ours_are(mine, mmbench_here):
    assert "mean_power" in mmbench_here("run", "--help").stdout
    plan = mmbench_here("plan", "metric=glob(mean*)", "expansion=my_pad", "expansion.factor=2,3")
    assert "2 runs: 2 defined" in plan.stdout, plan.stderr
    again = mmbench_here("run", "-m", *TINY, "metric=mean_power", "metric.power=1", "hydra/launcher=basic")
    assert "1 runs: 1 done" in again.stdout, again.stdout + again.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "metric=mean_powr"], ["metric = 'mean_powr' is unknown; did you mean 'mean_power'?", "sharpness"]),
        (
            ["run", "metric=mean_power", "metric.pwer=1"],
            ["metric.pwer", "did you mean 'power'? (allowed: after, power)"],
        ),
        (["run", "metric=mean_power", "metric.power=0"], ["metric.power = 0 is not allowed: must be a number > 0"]),
        (["run", "metric=of_rank"], ["metric.rank is missing: an integer >= 1"]),
        (["plan", "expansion=my_pda,none"], ["'my_pda' is unknown; did you mean 'my_pad'?"]),
    ],
    ids=lambda value: " ".join(value) if value[0] in ("run", "plan") else "",
)
def test_a_mistake_with_it_is_explained(mine, mmbench_here, arguments, said):
    done = mmbench_here(*arguments)
    assert done.returncode == 2
    assert all(words in done.stderr for words in said), done.stderr


def test_python_finds_it(mine):
    import torch

    import mmbench

    network = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2))
    data = torch.zeros(3, 1, 2, 2), torch.tensor([0, 1, 0])
    found = mmbench.measure(network, data, "mean_power", power=2)
    weights = torch.cat([p.detach().flatten() for p in network.parameters()])
    assert found.value == pytest.approx(float((weights**2).mean()))


BROKEN = {
    "import": ("import not_installed", "ModuleNotFoundError: No module named 'not_installed'"),
    "exit": ("import sys; sys.exit('no licence')", "SystemExit: no licence"),
    "clash": (COMPONENTS.replace("mean_power", "sharpness"), "'sharpness' is registered twice"),
}


@pytest.mark.parametrize(("text", "said"), BROKEN.values(), ids=BROKEN)
def test_a_broken_package_is_named_and_breaks_nothing_else(installed, mmbench_here, text, said):
    installed({"components": text}, {"mine": "my_package.components"})
    fine = mmbench_here("plan", "metric=random", "expansion=zero_pad")
    assert (fine.returncode, fine.stderr) == (0, ""), "what needs no package of others does not even load it"
    wrong = mmbench_here("run", "metric=mean_power")
    assert wrong.returncode == 2
    one_line = " ".join(wrong.stderr.split())
    assert "mine = 'my_package.components' of the package my-package cannot be loaded" in one_line
    assert said in one_line
    assert "metric = 'mean_power' is unknown" in one_line
    assert "Traceback" not in wrong.stderr
    everything = mmbench_here("plan", "metric=glob(ran*)")
    assert "1 runs: 1 defined" in everything.stdout
    assert "cannot be loaded" in everything.stderr, "whoever asks for all is told that some are missing"
    assert said in mmbench_here("run", "--help").stdout


def test_a_package_that_nobody_asks_for_is_not_imported(installed, mmbench_here, tmp_path):
    installed({"components": f"open({str(tmp_path / 'seen')!r}, 'w')"}, {"mine": "my_package.components"})
    assert mmbench_here("plan", "metric=random,sharpness", "expansion=zero_pad", "model=mlp,resnet").returncode == 0
    assert not Path(tmp_path / "seen").exists()
    mmbench_here("plan", "metric=glob(*)")
    assert Path(tmp_path / "seen").exists()
