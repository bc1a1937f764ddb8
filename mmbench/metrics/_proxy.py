"""What the zero-cost proxies share: which weights they are computed at, and which weights are kernels.

Abdelfattah et al. (2021) compute proxies at random weights, which ignore what an expansion inherited. So each proxy
has three states: the network just expanded, a freshly initialised copy, and the network after a few training steps.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from mmbench.errors import UndefinedError
from mmbench.metrics._options import Trained
from mmbench.metrics.base import Estimate
from mmbench.metrics.subject import State, Subject


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
    """The kernels by name; `UndefinedError` if there are none."""
    weights = {name: p for name, p in model.named_parameters() if is_kernel(name, p)}
    if not weights:
        raise UndefinedError("the network has no linear layer or convolution, whose weights this metric needs")
    return weights


@contextmanager
def hooked(modules: Iterable[nn.Module], hook: Callable[..., Any]) -> Iterator[None]:
    """`hook(module, inputs, output)` after each call of each of the modules."""
    handles = [module.register_forward_hook(hook) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
