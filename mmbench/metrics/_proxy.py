"""What the zero-cost proxies share: the state of the weights that they look at, and which weights are kernels.

At random weights, where Abdelfattah et al. (2021) look, a proxy knows nothing of what an expansion inherited. So each
can be read in three states: of the network just expanded, of its random twin, and of the network after a few steps.
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
    """Base of the zero-cost proxies; `steps` and `training` count where the state is `trained`."""

    state: State = "expanded"
    """Weights that are looked at: as just `expanded`, `random`, or `trained` for some steps."""

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
    found = {name: p for name, p in model.named_parameters() if is_kernel(name, p)}
    if not found:
        raise UndefinedError("the network has no weight of a linear layer or convolution, which this metric is about")
    return found


@contextmanager
def hooked(modules: Iterable[nn.Module], hook: Callable[..., Any]) -> Iterator[None]:
    """`hook(module, inputs, output)` after each call of each of the modules."""
    handles = [module.register_forward_hook(hook) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
