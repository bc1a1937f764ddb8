"""Whether a network can be measured at all: its logits are finite and reproducible, and it is not dead."""

from __future__ import annotations

import torch

from mmbench.errors import DataError, ScoreError, UndefinedError
from mmbench.landscape.surface import Surface


def require_sound(surface: Surface, labels: int) -> None:
    """Raise unless the logits of a few images are finite, reproducible, and depend on the images or the weights.

    Args:
        surface: the network and the few images.
        labels: the largest label of the data.

    Raises:
        DataError: the network does not take the images, does not give logits, or has too few classes.
        ScoreError: the logits are not finite, or the network is dead.
        UndefinedError: two forward passes give different logits.
    """
    few = surface.images

    def constant(rows: torch.Tensor) -> bool:
        return torch.equal(rows, rows[:1].expand_as(rows))

    shape = tuple(few.images.shape[1:])
    try:
        with torch.no_grad():
            logits, again = surface.model(few.images), surface.model(few.images)
    except (RuntimeError, TypeError, ValueError, AttributeError, IndexError, AssertionError) as error:
        raise DataError(f"the network cannot take images of shape {shape}: {error}") from error
    if not isinstance(logits, torch.Tensor) or logits.dim() != 2 or logits.shape[1] < 2:
        kind = tuple(logits.shape) if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise DataError(f"the network must return logits (N, classes) of at least two classes: it returns {kind}")
    if labels >= logits.shape[1]:
        raise DataError(f"label {labels} is out of range: the network has {logits.shape[1]} classes, numbered from 0")
    if not torch.isfinite(logits).all():
        raise ScoreError("the network has diverged: its logits are not finite numbers")
    if not torch.allclose(logits, again, rtol=1e-3, atol=1e-5 * float(logits.abs().max())):
        raise UndefinedError(
            "the network returns different logits each time, so its loss has no derivative; "
            "is there a dropout that model.eval() does not switch off?"
        )
    if constant(logits) and not constant(few.images):
        # A new classifier of zeros makes all logits equal, too; but then its gradients differ between the images.
        logits = surface.model(few.images)
        contrast = torch.linspace(-1, 1, len(few)).to(logits)[:, None] * torch.arange(1, 1 + logits.shape[1]).to(logits)
        gradients = [
            torch.cat([g.flatten() for g in torch.autograd.grad(logits, surface.flat.parameters, c, True,
                                                                 materialize_grads=True)])
            for c in (contrast, contrast.abs())
        ]  # fmt: skip
        apart, size = (float(torch.linalg.vector_norm(g)) for g in gradients)
        if apart <= 1e-5 * size:
            raise ScoreError("the network is dead: its logits and gradients do not depend on the image")
