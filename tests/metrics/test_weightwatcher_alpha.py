from __future__ import annotations

import logging
import sys

import pytest
import torch
from torch import nn

from mmbench import measure
from mmbench.errors import UndefinedError
from mmbench.testing.networks import images, network


def test_without_the_library_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "weightwatcher", None)
    data = images()
    with pytest.raises(UndefinedError, match=r"pip install mmbench\[spectra\]"):
        measure(network("mlp"), (data.images, data.labels), "weightwatcher_alpha")


def wide() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 48), nn.ReLU(), nn.Linear(48, 40), nn.ReLU(), nn.Linear(40, 3))


def test_it_is_the_mean_over_the_layers_that_are_large_enough(capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("weightwatcher")
    root, data = logging.getLogger(), images()
    before = root.handlers[:], root.level
    estimate = measure(wide().double(), (data.images.double(), data.labels), "weightwatcher_alpha")
    assert (root.handlers, root.level) == before
    assert capfd.readouterr() == ("", "")
    import weightwatcher

    table = weightwatcher.WeightWatcher(model=wide()).analyze()
    assert len(table) == 2
    assert estimate.value == pytest.approx(table["alpha"].mean(), rel=1e-4)
    assert estimate.details["layers"] == 2
    mutants = (table["alpha"].sum(), table["alpha"].median() * 2, table["alpha"].iloc[0], table["log_norm"].mean())
    for mutant in mutants:
        assert float(mutant) != pytest.approx(estimate.value, rel=1e-3)


def test_it_is_free_of_scale_and_knows_only_the_kernels() -> None:
    pytest.importorskip("weightwatcher")
    data, model = images(), wide().double()
    first = measure(model, (data.images, data.labels), "weightwatcher_alpha").value
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 3 if parameter.dim() > 1 else -7
    assert measure(model, (data.images, data.labels), "weightwatcher_alpha").value == pytest.approx(first, rel=1e-9)


@pytest.mark.parametrize("eigenvalues", [8, 41], ids="{} eigenvalues".format)
def test_layers_that_are_too_small_are_left_out(eigenvalues: int) -> None:
    pytest.importorskip("weightwatcher")
    data = images()
    given = {"eigenvalues": eigenvalues}
    layers = measure(wide(), (data.images, data.labels), "weightwatcher_alpha", **given).details["layers"]
    assert layers == (2 if eigenvalues == 8 else 1)
    with pytest.raises(UndefinedError, match="too small"):
        measure(network("mlp"), (data.images, data.labels), "weightwatcher_alpha", **given)
