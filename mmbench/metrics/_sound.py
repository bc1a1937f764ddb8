"""Whether a network can be measured at all: it gives logits, which are finite, reproducible and each image's own."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mmbench.errors import DataError, ScoreError, UndefinedError
from mmbench.landscape.surface import Surface

COUPLED = 1e3
"""Change of an image's logits with the other images, in units of rounding, above which they depend on those."""


def require_output(model: nn.Module, images: Tensor, what: str = "network") -> Tensor:
    """The network's output for a few images.

    Args:
        model: in evaluation mode.
        images: a few.
        what: `network` or `base`, for the message.

    Returns:
        A tensor without a graph.

    Raises:
        DataError: the network does not take the images, or does not return one tensor.
    """
    try:
        with torch.no_grad():
            logits = model(images)
    except Exception as error:  # a network may fail in any way on images that it was not made for
        raise DataError(f"the {what} cannot take images of shape {tuple(images.shape[1:])}: {error}") from error
    if not isinstance(logits, Tensor):
        raise DataError(
            f"the {what} must return logits (N, classes): it returns {type(logits).__name__}; "
            "wrap it in a module that returns its logits alone"
        )
    return logits


def require_logits(model: nn.Module, images: Tensor, what: str = "network", labels: int = 0) -> None:
    """Raise unless the network takes the images and returns logits (N, classes).

    Args:
        model: in evaluation mode.
        images: a few.
        what: `network` or `base`, for the message.
        labels: the largest label of the data.

    Raises:
        DataError: it does not, or has too few classes.
    """
    logits = require_output(model, images, what)
    if logits.dim() != 2 or logits.shape[1] < 2 or len(logits) != len(images):
        raise DataError(
            f"the {what} must return logits (N, classes) of at least two classes: "
            f"it returns {tuple(logits.shape)} for {len(images)} images"
        )
    if labels >= logits.shape[1]:
        raise DataError(f"label {labels} is out of range: the {what} has {logits.shape[1]} classes, numbered from 0")


def require_sound(surface: Surface) -> None:
    """Raise unless the logits of a few images are finite, reproducible, and depend on the images or the weights.

    Args:
        surface: the network and the few images.

    Raises:
        ScoreError: the logits are not finite, or the network is dead.
        UndefinedError: two forward passes give different logits.
    """
    few = surface.images

    def constant(rows: Tensor) -> bool:
        return torch.equal(rows, rows[:1].expand_as(rows))

    with torch.no_grad():
        logits, again = surface.model(few.images), surface.model(few.images)
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


def require_independent(surface: Surface) -> None:
    """Raise `UndefinedError` if the logits of an image change when other images of its pass are replaced."""
    images = surface.images.images
    # Any two numbers differ in a bit, so any two images are apart in a split by some bit: one kept, one replaced.
    numbers = torch.arange(len(images), device=images.device)
    splits = [(numbers >> bit & 1) == side for bit in range((len(images) - 1).bit_length()) for side in (0, 1)]
    with torch.no_grad():
        logits = surface.model(images)
        for kept in splits:
            own = images[kept][0]
            others = torch.where(kept.view(-1, *[1] * (images.dim() - 1)), images, own)
            change = float((surface.model(others)[kept] - logits[kept]).abs().max())
            if change > COUPLED * torch.finfo(logits.dtype).eps * float(logits.abs().max()):
                raise UndefinedError(
                    "the logits of an image depend on the other images of its pass, so there is no loss of a single "
                    "image and the value would depend on the size of the passes; does a batch norm keep no running "
                    "statistics (track_running_stats=False)? Zero-cost proxies take metric.batch_norm=batch"
                )
