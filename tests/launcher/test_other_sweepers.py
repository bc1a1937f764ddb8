"""Sweepers that choose runs by the results of others, as Optuna's does: what our launchers return to them."""

from __future__ import annotations

import copy
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import open_dict

from hydra_plugins.mmbench_plugins._plugins import PlanLauncher
from mmbench.cli import sources
from mmbench.errors import ConfigError, MmbenchError
from mmbench.execute import execute
from mmbench.launcher.plugins import BaseLauncher
from mmbench.paths import root
from mmbench.store.store import Store

TINY = ["model.hidden=[4]", "dataset.train_size=128", "training.steps=5", "training.warmup_steps=1"]
TINY += ["metric=parameters", "training.clip_norm=null"]


class Here(BaseLauncher):
    """Computes the runs in this process, and ends as a sweep does."""

    status = 0

    def launch_runs(self, runs, settings):
        store = Store(Path(settings.results))
        store.prepare()
        self.launched = runs
        records = [execute(run, store) for run in runs]
        if self.status or any(record["status"] == "failed" for record in records):
            raise SystemExit(self.status or 1)


@pytest.fixture(scope="module")
def hydra():
    sources.register()
    with initialize_config_dir(str(root() / "conf"), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        yield loader, loader.load_configuration("config", [], RunMode.MULTIRUN)


@pytest.fixture
def launch(hydra, tmp_path):
    """What jobs return under a sweeper, through a launcher with these options."""

    def launched(*jobs, sweeper="OptunaSweeper", launcher=Here, status=0, **options):
        loader, master = hydra[0], copy.deepcopy(hydra[1])
        with open_dict(master.hydra):
            master.hydra.sweeper = {"_target_": f"somewhere.{sweeper}"}
        ours = launcher(**options)
        ours.status = status
        ours.setup(hydra_context=SimpleNamespace(config_loader=loader), task_function=None, config=master)
        return ours.launch([[*TINY, f"results={tmp_path / 'results'}", *job] for job in jobs], 0), ours

    return launched


def test_each_job_returns_its_target_and_each_run_is_computed_once(launch, tmp_path):
    returned, launcher = launch(["seed=0"], ["seed=1"], ["seed=0"])
    store = Store(tmp_path / "results")
    gains = [store.read_record(run.run_id)["gain"] for run in launcher.launched]
    assert [job.return_value for job in returned] == [*gains, gains[0]]
    (job,), _ = launch(["seed=1"], target="parameters")
    assert job.return_value == store.read_record(launcher.launched[1].run_id)["parameters"]


def test_a_failed_job_raises_when_it_is_asked_for_its_value(launch):
    (good, bad), _ = launch(["seed=0"], ["seed=0", "training.lr=1e30"])
    assert isinstance(good.return_value, float)
    with pytest.raises(MmbenchError, match="diverged at step"):
        _ = bad.return_value
    with pytest.raises(SystemExit):
        launch(["seed=0", "training.lr=1e30"], sweeper="BasicSweeper")


def test_an_interrupted_sweep_is_not_taken_for_a_failed_run(launch):
    with pytest.raises(SystemExit) as end:
        launch(["seed=0"], status=130)
    assert end.value.code == 130


def test_an_unknown_target_is_refused(launch):
    with pytest.raises(ConfigError, match=r"hydra.launcher.target = 'gian' .*did you mean 'gain'"):
        launch(["seed=0"], target="gian")


def test_a_plan_cannot_know_such_runs(launch):
    with pytest.raises(ConfigError, match="OptunaSweeper chooses its runs as it goes"):
        launch(["seed=0"], launcher=PlanLauncher)
