"""What the zero-cost proxies share: which weights they are computed at, and which weights are kernels.

Abdelfattah et al. (2021) compute proxies at random weights, which ignore what an expansion inherited. So each proxy
has three states: the network just expanded, a freshly initialised copy, and the network after a few training steps.

Their code, like that of Mellor et al. (2021), leaves the network in training mode, so that its batch norms use the
statistics of the batch. That is `batch_norm = batch`; it makes a difference only to networks that have batch norms.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from mmbench.data.base import Split
from mmbench.errors import UndefinedError
from mmbench.landscape.surface import Surface
from mmbench.metrics._options import Trained
from mmbench.metrics.base import Estimate
from mmbench.metrics.subject import PROBED, State, Subject


class Proxy(Trained):
    """Base of the zero-cost proxies; `steps` and `training` are used only with `state = trained`."""

    state: State = "expanded"
    """Weights that the proxy is computed at: as just `expanded`, `random`, or `trained` for some steps."""

    @property
    def trains(self) -> bool:
        """Whether the state is `trained`."""
        return self.state == "trained"

    def measure(self, subject: Subject) -> Estimate:
        """The proxy in the chosen state."""
        return self.look(subject.in_state(self.state, self.steps, self.training))

    @abstractmethod
    def look(self, subject: Subject) -> Estimate:
        """The proxy at the subject's weights."""


class OnOneBatch(Proxy):
    """Base of the proxies that are computed on one batch of training images."""

    images: int = Field(256, ge=1)
    """Training images used."""
    batch_norm: Literal["running", "batch"] = "running"
    """Statistics that batch norms use: the `running` ones, or those of the `batch` of all images, as in the published
    code."""

    def surface(self, subject: Subject) -> Surface:
        """The loss on the images; `UndefinedError` if the batch is too small for statistics."""
        batch = self.batch_norm == "batch"
        if batch and len(subject.images(self.images)) < 2:
            raise UndefinedError("metric.batch_norm = 'batch' needs the statistics of at least two images")
        return subject.surface(self.images, batch)

    def gradients(self, subject: Subject) -> dict[str, Tensor]:
        """The gradient of the loss by the name of the parameter; shared by all proxies of these images."""
        surface = self.surface(subject)
        key = "gradient", self.images, self.batch_norm
        _, gradient = subject.once(key, surface.loss_and_gradient)
        names = (name for name, p in surface.model.named_parameters() if p.requires_grad)
        return dict(zip(names, surface.flat.views(gradient), strict=True))


def is_kernel(name: str, parameter: Tensor) -> bool:
    """Whether a parameter is a kernel: a weight of a linear layer or convolution.

    Args:
        name: of the parameter; a kernel's ends in `weight`.
        parameter: two or more dimensions make it a kernel.

    Returns:
        False for biases, normalisation layers, layer scales, tokens and position tables.
    """
    return name.endswith("weight") and parameter.dim() > 1


def kernels(model: nn.Module) -> dict[str, nn.Parameter]:
    """The trainable kernels by name; `UndefinedError` if there are none."""
    weights = {name: p for name, p in model.named_parameters() if is_kernel(name, p) and p.requires_grad}
    if not weights:
        raise UndefinedError(
            "the network has no linear layer or convolution, whose weights this metric needs (frozen ones do not count)"
        )
    return weights


def images_per_pass(surface: Surface, rows: Callable[[Split], Tensor]) -> int:
    """How many images may share a pass, for a metric that takes apart the outputs of layers by images.

    Args:
        surface: the network and the images.
        rows: what the metric makes of the images (n, ...), for each image.

    Returns:
        The surface's own number; 1 if `rows` of a few images are not those of each image alone, as where a layer's
        outputs have the images in their second dimension.
    """
    few = Split(surface.images.images[:PROBED], surface.images.labels[:PROBED])
    alone = torch.cat([rows(Split(few.images[i : i + 1], few.labels[i : i + 1])) for i in range(len(few))])
    try:
        together = rows(few)
    except (RuntimeError, ValueError, IndexError):  # shapes that do not divide by the images
        return 1
    same = together.shape == alone.shape and (together - alone).abs().max() <= 1e-4 * alone.abs().max()
    return surface.chunk if same else 1


@contextmanager
def hooked(modules: Iterable[nn.Module], hook: Callable[..., Any]) -> Iterator[None]:
    """`hook(module, inputs, output)` after each call of each of the modules; inputs may be given by keyword."""

    def call(module: nn.Module, inputs: tuple[Any, ...], named: dict[str, Any], output: Any) -> Any:
        return hook(module, (*inputs, *named.values()), output)

    handles = [module.register_forward_hook(call, with_kwargs=True) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
