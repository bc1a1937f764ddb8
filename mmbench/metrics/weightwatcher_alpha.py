"""Heavy tails of the weights: the mean exponent alpha of power laws fitted to the layers' spectra.

For each layer the eigenvalues of W'W (of a convolution, those of the matrices of all kernel positions together) are
fitted by p(x) ~ x^-alpha above the x_min of the best fit. Trained layers have heavy tails, and heavier tails are
thought to mean a better network (Martin and Mahoney, 2021; Martin, Peng and Mahoney, 2021): expected sign -1. The fits
are made by the library `weightwatcher` (extra `spectra`); images, biases and normalisation layers are not used.

A fit to few eigenvalues says little, though the library accepts 8; layers with fewer than `eigenvalues` are left out.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from mmbench.errors import UndefinedError
from mmbench.metrics.base import METRICS, Estimate, Metric
from mmbench.metrics.subject import PROBED, Subject

POOR = 6
"""Exponent above which the library calls a layer under-trained."""


@METRICS.register("weightwatcher_alpha")
class WeightWatcherAlpha(Metric):
    """Mean exponent over layers; no standard error, as layers are not draws from a distribution."""

    expected_sign = -1

    eigenvalues: int = Field(8, ge=8)
    """Smallest number of eigenvalues of a layer that is fitted."""

    def measure(self, subject: Subject) -> Estimate:
        """The mean; `details` has the number of layers fitted and the share of poor fits among them."""
        subject = subject.plain
        subject.surface(PROBED)  # raises for broken networks
        with _silence():
            library = _library()
            # By default it reads weights in single precision or, on a machine with a GPU, in half precision.
            with patch.object(library.weightwatcher, "torch_T_to_np", _in_full, create=True):
                watcher = library.WeightWatcher(model=_layers(subject.network().cpu()))
                table = watcher.analyze(min_evals=self.eigenvalues, svd_method="accurate")
        alphas = torch.tensor([alpha for alpha in table.get("alpha", []) if alpha > 0], dtype=torch.float64)
        if not len(alphas):
            raise UndefinedError(
                f"no layer has the {self.eigenvalues} eigenvalues that a power-law fit needs here, or every fit "
                "failed: the network is too small for this metric"
            )
        details = {"layers": float(len(alphas)), "poor": float((alphas > POOR).double().mean())}
        return Estimate(float(alphas.mean()), 0.0, details=details)


def _library() -> Any:
    try:
        import weightwatcher
    except ImportError:
        raise UndefinedError("this metric needs the library weightwatcher: pip install mmbench[spectra]") from None
    return weightwatcher


def _layers(model: nn.Module) -> nn.Module:
    """The layers whose spectra are fitted, alone: the library fails on many others, such as norms without weights."""
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Embedding)
    layers = [(name, module) for name, module in model.named_modules() if isinstance(module, kinds)]
    for _, layer in layers:
        layer.register_parameter("bias", None)
    return nn.ModuleDict({name.replace(".", "/") or "layer": layer for name, layer in layers})


def _in_full(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().double().numpy()


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Suppress the library's output, warnings and logs, and restore the root logger, which its import changes."""
    root = logging.getLogger()
    handlers, level, disabled = root.handlers[:], root.level, root.manager.disable
    logging.disable()
    try:
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            warnings.catch_warnings(action="ignore"),
        ):
            yield
    finally:
        logging.disable(disabled)
        root.handlers[:] = handlers
        root.setLevel(level)
