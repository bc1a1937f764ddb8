"""Parts of a given network by name: what is not as expected is refused with the module that differs."""

from __future__ import annotations

from typing import Any

from torch import nn

from mmbench.errors import UndefinedError

WRAPPERS = {
    ("torch", "DataParallel"): "module",
    ("torch", "DistributedDataParallel"): "module",
    ("torch", "AveragedModel"): "module",
    ("torch", "OptimizedModule"): "_orig_mod",
    ("timm", "ModelEmaV2"): "module",
    ("timm", "ModelEmaV3"): "module",
    ("timm", "ModelEma"): "ema",
}
"""By package and class, the attribute that holds the network; the wrapper computes what that network computes."""


def unwrapped(model: Any) -> Any:
    """The network inside `DataParallel`, `DistributedDataParallel`, `torch.compile`, and averages of weights.

    Args:
        model: a network, perhaps in several wrappers.

    Returns:
        The innermost network, not copied; `model` itself if it is in none.
    """
    for cls in type(model).__mro__:
        if attribute := WRAPPERS.get((cls.__module__.partition(".")[0], cls.__name__)):
            return unwrapped(getattr(model, attribute))
    return model


def class_of(module: nn.Module) -> str:
    """A module's class by name. torch's and timm's LayerNorm compute the same; one from elsewhere may not."""
    kind = type(module)
    if kind is nn.Sequential and not module._modules:  # computes the same
        return "Identity"
    known = kind.__module__.partition(".")[0] in ("torch", "timm", "mmbench")
    return kind.__name__ if known else f"{kind.__module__}.{kind.__qualname__}"


def part(model: nn.Module, name: str, *kinds: str) -> Any:
    """A module of a network, of one of the expected classes.

    Args:
        model: the network.
        name: of the module, with dots.
        *kinds: names of classes.

    Returns:
        The module.

    Raises:
        UndefinedError: there is none, or it has another class; the message names the innermost module that exists.
    """
    module: Any = model
    seen: list[str] = []
    for step in name.split("."):
        found = module._modules.get(step)
        if found is None:
            subject = f"module {'.'.join(seen)!r}" if seen else "it"
            raise UndefinedError(f"{subject} has class = {class_of(module)}, without a module {step}")
        module = found
        seen.append(step)
    if class_of(module) not in kinds:
        raise UndefinedError(f"module {name!r} has class = {class_of(module)}, expected {' or '.join(kinds)}")
    return module


def outputs(model: nn.Module, name: str) -> int:
    """The number of logits of a network's last layer, whatever the network states; 0 if the layer is left out."""
    layer = part(model, name, "Linear", "Identity")
    return layer.weight.shape[0] if class_of(layer) == "Linear" else 0


def eps_of(model: nn.Module, name: str, *kinds: str) -> float:
    """The epsilon of a norm, which is a LayerNorm unless other classes are given."""
    return float(part(model, name, *(kinds or ("LayerNorm",))).eps)
