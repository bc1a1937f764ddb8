"""What the README shows must work."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import timm
import torch

from mmbench.expansions.base import EXPANSIONS
from mmbench.metrics.base import METRICS, measure
from mmbench.models.mlp import MLP

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)


def digits():
    from mmbench.data.digits import Digits

    return Digits().load()


def test_its_example_of_a_metric_is_a_metric(monkeypatch):
    METRICS.names()  # found first, so that only the example is forgotten afterwards
    monkeypatch.setattr(METRICS, "_classes", dict(METRICS._classes))
    exec(next(snippet for snippet in SNIPPETS if "gradient_norm" in snippet), {"__name__": "example"})
    data = digits()
    estimate = measure(MLP().build(data.shape), (data.train.images, data.train.labels), "gradient_norm", images=64)
    assert estimate.value > 0


def test_its_notebook_lines_work(monkeypatch, tmp_path):
    (tmp_path / "results" / "records").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    data = digits()
    names = {"images": data.train.images, "labels": data.train.labels, "model": MLP().build(data.shape)}
    exec(next(snippet for snippet in SNIPPETS if "import mmbench" in snippet), names)
    assert torch.allclose(names["large"](names["images"]), names["model"](names["images"]), atol=1e-5)
    assert names["trace"].value > 0
    assert all(estimate.value > 0 for estimate in names["scores"].values())


def test_its_lines_about_a_network_of_ones_own_work(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=10)
    torch.save(model.state_dict(), "tiny.pth")
    names: dict[str, Any] = {}
    exec(next(snippet for snippet in SNIPPETS if "tiny.pth" in snippet), names)
    images = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(names["model"](images), model(images)), "the file's weights"
        assert torch.allclose(names["large"](images), model(images), atol=1e-5)
        assert torch.equal(names["again"](images), names["large"](images))


def test_its_table_of_expansions_says_what_the_operators_declare():
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in README.splitlines() if line.startswith("| `")]
    table = {row[0].strip("`"): row for row in rows if len(row) == 5 and row[0].strip("`") in EXPANSIONS.names()}
    assert table.keys() == set(EXPANSIONS.names())
    for name, (_, _, axes, keeps, families) in table.items():
        operator = EXPANSIONS[name]
        assert axes == ", ".join(operator.axes()), name
        assert keeps == ("exactly" if operator.preserves == "exact" else "no"), name
        assert families.startswith(", ".join(operator.families or ["all"])), name


def test_its_table_of_metrics_says_what_they_declare():
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in README.splitlines() if line.startswith("| `")]
    table = {row[0].strip("`"): row[1:] for row in rows if len(row) == 3 and row[0].strip("`") in METRICS.names()}
    assert table.keys() == set(METRICS.names())
    for name, (sign, what) in table.items():
        first = (ROOT / "conf" / "metric" / f"{name}.yaml").read_text().splitlines()[0]
        assert sign == {1: "+", -1: "-", 0: "none"}[METRICS[name].expected_sign], name
        assert first.startswith(f"# {what.replace('&#124;', '|')}."), name
        assert f"{len(METRICS.names()) - 1} rivals" in README
        assert f"All {len(METRICS.names())} are measured" in README


def test_what_it_points_to_is_there():
    for target in re.findall(r"\]\(((?!http|#)[^)]+)\)", README):
        assert (ROOT / target).exists(), target
    assert not re.findall(r"[A-Z]+_[A-Z]+", README.replace("OMP_NUM_THREADS", "")), "a placeholder is left"


def test_every_choice_stands_in_it():
    from mmbench.paths import GROUP_NAMES, choices

    for group in GROUP_NAMES:
        for name in choices(group):
            assert name in README, f"{group}={name}"


def test_its_sweep_can_be_planned(mmbench_here, tmp_path):
    sweep = re.findall(r"```yaml\n(.*?)```", README, flags=re.DOTALL)[0]
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "mine.yaml").write_text("# @package _global_\n" + sweep)
    done = mmbench_here("plan", "-cd", ".", "sweeps=mine")
    assert done.returncode == 0, done.stderr
    metrics, seeds = len(METRICS.names()), 3
    assert f"{metrics * seeds} of {4 * metrics * seeds} combinations are left out" in done.stdout
    assert f"{3 * metrics * seeds} runs:" in done.stdout
