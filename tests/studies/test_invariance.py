"""The certificates of what leaves each metric unchanged, and the file that comes with the report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.studies import invariance, invariances
from benchmarks.studies.invariance import Certificate, _certificate, certificates, images, networks
from mmbench.errors import UndefinedError
from mmbench.metrics.base import METRICS
from mmbench.report.sections.invariances import certificates as kept

CELLS = [
    ("mlp", "permutation"),
    ("mlp", "rescaling"),
    ("mlp", "duplication"),
    ("mlp", "logit shift"),
    ("resnet", "permutation"),
    ("resnet", "folding"),
]
CHEAP = [
    "depth",
    "flops",
    "grad_norm",
    "l2_norm",
    "margin",
    "parameters",
    "path_norm",
    "spectral_norm",
    "training_loss",
]


def test_a_change_keeps_the_predictions_and_changes_the_network() -> None:
    pixels = images()[1].images
    for name, (model, changed) in networks().items():
        assert [(name, change) for change in changed] == [cell for cell in CELLS if cell[0] == name]
        for change, other in changed.items():
            with torch.no_grad():
                before, after = model.eval()(pixels), other.eval()(pixels)
            shift = 1.0 if change == "logit shift" else 0.0
            torch.testing.assert_close(after, before + shift, rtol=1e-10, atol=1e-10)
            old, new = (list(net.parameters()) for net in (model, other))
            assert len(old) != len(new) or any(
                a.shape != b.shape or not torch.allclose(a, b, rtol=0.01) for a, b in zip(old, new, strict=True)
            )


def test_the_file_holds_every_metric_and_every_change() -> None:
    wanted = {(metric, *cell) for metric in METRICS.names() for cell in CELLS}
    present = {(row["metric"], row["network"], row["change"]) for row in kept()}
    missing, gone = ({metric for metric, *_ in rows} for rows in (wanted - present, present - wanted))
    assert not missing, f"not in the file: run python -m benchmarks.studies.invariances {' '.join(sorted(missing))}"
    assert not gone, f"in the file, but not registered: {gone}; run python -m benchmarks.studies.invariances --prune"


@pytest.fixture(scope="module")
def measured() -> dict[tuple[str, str, str], Certificate]:
    """The certificates of the cheap metrics."""
    return {(row.metric, row.network, row.change): row for row in certificates(CHEAP)}


def test_the_file_holds_what_is_measured(measured: dict[tuple[str, str, str], Certificate]) -> None:
    rows = {(row["metric"], row["network"], row["change"]): row for row in kept()}
    for cell, certificate in measured.items():
        assert rows[cell]["verdict"] == certificate.verdict
        assert float(rows[cell]["drift"]) == pytest.approx(certificate.drift, rel=0.01, abs=1e-6)


def test_pruning_removes_the_rows_of_metrics_that_are_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "invariances.csv"
    monkeypatch.setattr(invariances, "FILE", file)
    rows = kept()
    monkeypatch.setattr(invariances.kept, "certificates", lambda: [*rows, {**rows[0], "metric": "gone"}])
    invariances.main(["--prune"])
    assert file.read_text() == invariances.FILE.read_text()


def test_what_is_known_of_some_metrics(measured: dict[tuple[str, str, str], Certificate]) -> None:
    found = measured
    assert all(found[metric, *CELLS[place]].verdict == "invariant" for metric in CHEAP for place in (0, 4))
    assert found["path_norm", "mlp", "rescaling"].verdict == "invariant"
    assert found["path_norm", "resnet", "folding"].verdict == "invariant"
    assert found["spectral_norm", "resnet", "folding"].verdict == "invariant"
    assert found["l2_norm", "mlp", "rescaling"].verdict == "changes"
    assert found["parameters", "mlp", "duplication"].drift == pytest.approx(
        (36 * 32 + 32 + 32 * 24 + 24 + 24 * 3 + 3) / (36 * 16 + 16 + 16 * 12 + 12 + 12 * 3 + 3) - 1
    )
    # After a rescaling by c, the norm of the whole vector: exactly what is added and taken.
    model, changed = networks()["mlp"]
    norms = [
        float(torch.cat([p.detach().flatten() for p in net.parameters()]).norm())
        for net in (model, changed["rescaling"])
    ]
    assert found["l2_norm", "mlp", "rescaling"].drift == pytest.approx(norms[1] / norms[0] - 1, rel=1e-9)


class Named:
    name = "named"


def verdict(before: Callable[[int], float], after: Callable[[int], float]) -> Any:
    return _certificate(Named(), "mlp", "folding", lambda _, seed: before(seed), lambda _, seed: after(seed))


def test_a_score_that_the_seed_does_not_move_is_taken_twice() -> None:
    calls: list[int] = []
    row = verdict(lambda seed: calls.append(seed) or 2.0, lambda seed: 2.5)
    assert calls == [0, 1]
    assert (row.verdict, row.drift, row.error) == ("changes", 0.25, 0.0)
    assert verdict(lambda seed: 2.0, lambda seed: 2.0 + 1e-9).verdict == "invariant"
    assert verdict(lambda seed: 2.0, lambda seed: 2.0 + 1e-5).verdict == "changes"
    assert verdict(lambda seed: -2.0, lambda seed: -2.5).drift == 0.25
    assert verdict(lambda seed: 0.0, lambda seed: 0.5).drift == 0.5


def test_pairs_with_one_seed_cancel_what_the_seed_does() -> None:
    noise = np.random.default_rng(0).normal(size=invariance.SEEDS)
    row = verdict(lambda seed: 5 + noise[seed], lambda seed: 5 + noise[seed] + 1e-12)
    assert row.verdict == "invariant"
    row = verdict(lambda seed: 5 + noise[seed], lambda seed: 5.5 + noise[seed])
    assert (row.verdict, row.drift) == ("changes", pytest.approx(0.5 / (5 + noise.mean())))


def test_a_change_within_the_noise_is_no_change_that_is_shown() -> None:
    draws = np.random.default_rng(0).normal(size=(2, invariance.SEEDS))
    row = verdict(lambda seed: 5 + draws[0, seed], lambda seed: 5 + draws[1, seed])
    mean = (5 + draws[0]).mean()
    assert row.verdict == "within error"
    assert row.error == pytest.approx((draws[1] - draws[0]).std(ddof=1) / 4 / mean)
    assert verdict(lambda seed: 5 + draws[0, seed], lambda seed: 9 + draws[1, seed]).verdict == "changes"


def test_a_metric_without_meaning_there_says_why() -> None:
    def refuse(seed: int) -> float:
        raise UndefinedError("because")

    row = verdict(refuse, refuse)
    assert (row.verdict, row.drift, row.reason) == ("undefined", None, "because")
