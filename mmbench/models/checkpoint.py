"""Load weights from a file into a network: safetensors, or a torch file that holds only weights.

A state dict may lie anywhere in the file, under any names and prefixes (`state_dict`, `teacher`, `model.`, `module.`,
`_orig_mod.`): it is found by the names of the network's own tensors. Averaged weights, as timm saves them, are
preferred. A torch file is a pickle, which can run code when it is read, so only tensors and plain containers are
accepted.
"""

from __future__ import annotations

import re
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mmbench.errors import ConfigError
from mmbench.models.files import KEY, read_file
from mmbench.models.parts import unwrapped

SHOWN = 5
"""Largest number of tensors that a message names."""
AVERAGED, PLAIN = ("state_dict_ema", "model_ema"), ("state_dict", "model")
"""Where timm saves averaged weights, which are preferred to those beside them."""
COUNTER = "num_batches_tracked"
"""A buffer of batch norms that old files lack; without a momentum of None it is not used."""
INSERTED = re.compile(r"(?:_orig_mod|_checkpoint_wrapped_module|_fsdp_wrapped_module)\.")
"""What torch inserts into the names of compiled and checkpointed modules."""
DEPTH = 4
"""The deepest level of a file's dictionaries at which a state dict is looked for."""
Tell = Callable[[str], Any]


@dataclass(frozen=True)
class Option:
    """A state dict in a file: the keys that lead to it, the prefix of its names, and its tensors without the prefix."""

    path: tuple[str, ...]
    prefix: str
    state: dict[str, torch.Tensor]
    others: int
    """Tensors beside it that have another prefix."""

    @property
    def name(self) -> str:
        """How a message calls it, and how a user chooses it."""
        return ".".join([*self.path, *self.prefix.split(".")]).strip(".")

    def covers(self, own: Mapping[str, Any]) -> bool:
        """Whether it has all of a network's tensors."""
        return all(name in self.state or name.endswith(COUNTER) for name in own)

    def fits(self, own: Mapping[str, torch.Tensor]) -> bool:
        """Whether it has all of a network's tensors in the right shapes, and no others."""
        return (
            self.covers(own)
            and self.state.keys() <= own.keys()
            and all(tensor.shape == own[name].shape for name, tensor in self.state.items())
        )


def load_checkpoint(model: nn.Module, path: str | Path, tell: Tell = warnings.warn) -> nn.Module:
    """Load all weights of `model` from a file, in place.

    Position embeddings of another image size are resampled, as timm does it.

    Args:
        model: the network; its tensors must have the names and shapes of those in the file.
        path: a safetensors or torch file; FILE::NAME chooses one of several state dicts in it.
        tell: receives a sentence if position embeddings were resampled.

    Returns:
        `model`, in evaluation mode.

    Raises:
        ConfigError: the file does not exist or holds something other than weights, a weight has no values or is not
            finite, or the weights belong to another network; the message names the tensors that differ.
    """
    file, _, wanted = str(path).partition("::")
    content, _ = read_file(Path(file))
    network = unwrapped(model)
    own = network.state_dict()
    options = [option for keys, tensors in _state_dicts(content) for option in _options(keys, tensors, own)]
    option = _chosen(options, own, str(path), wanted)
    state = {name: _dense(name, tensor, own, str(path)) for name, tensor in option.state.items()}
    state |= {name: torch.zeros_like(tensor) for name, tensor in own.items() if _is_old(name, state)}
    if resampled := _resample(network, state, own):
        tell(f"{KEY} = {str(path)!r} is of another image size: {resampled} was resampled to this one")
    if problems := _problems(state, own):
        names = [option.name for option in options if option.name]
        holds = f" (the file holds {named(names)}; this is {option.name})" if names else ""
        raise ConfigError(
            f"{KEY} = {str(path)!r} does not fit the model: {'; '.join(problems)}{holds}. Give the model and its sizes "
            "as they were trained: model=NAME model.OPTION=VALUE"
        )
    if bad := [name for name, tensor in state.items() if tensor.is_floating_point() and not _finite(tensor)]:
        raise ConfigError(f"{KEY} = {str(path)!r} has values that are not finite numbers in {named(bad)}")
    network.load_state_dict(state)
    return model.eval()


def _is_old(name: str, state: Mapping[str, Any]) -> bool:
    return name.endswith(COUNTER) and name not in state and name.removesuffix(COUNTER) + "running_mean" in state


def _chosen(options: list[Option], own: Mapping[str, torch.Tensor], path: str, wanted: str) -> Option:
    """The state dict that has the network's tensors, or else the one that has most of them."""
    if not options:
        raise ConfigError(f"{KEY} = {path!r} does not hold a state dict (tensors by name)")
    if wanted:
        if not (named_so := [option for option in options if option.name == wanted]):
            raise ConfigError(f"{KEY} = {path!r}: the file has {named([o.name for o in options])}, not {wanted!r}")
        return named_so[0]
    complete = [option for option in options if option.fits(own)] or [o for o in options if o.covers(own)]
    if not complete:
        return max(options, key=lambda option: len(option.state.keys() & own.keys()))
    first, *rest = sorted(complete, key=lambda option: option.path not in [(key,) for key in AVERAGED])
    if rest and not (
        first.path[:1] and first.path[0] in AVERAGED and {o.path[:1] for o in rest} <= {(k,) for k in PLAIN}
    ):
        rest = [option for option in rest if not _equal(first.state, option.state)]
        if rest:
            names = [option.name or "(no name)" for option in (first, *rest)]
            raise ConfigError(
                f"{KEY} = {path!r} holds several networks that fit: {', '.join(names)}; choose one: "
                f"{KEY}={path}::{names[-1]}"
            )
    return first


def _state_dicts(content: Any, keys: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, torch.Tensor]]]:
    """All dictionaries that hold tensors by name, with the keys that lead to them."""
    if not isinstance(content, Mapping) or len(keys) > DEPTH:
        return
    tensors = {name: value for name, value in content.items() if isinstance(value, torch.Tensor) and type(name) is str}
    if tensors:
        yield keys, {INSERTED.sub("", name): value for name, value in tensors.items()}
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _state_dicts(value, (*keys, str(key)))


def _options(keys: tuple[str, ...], tensors: Mapping[str, torch.Tensor], own: Mapping[str, Any]) -> Iterator[Option]:
    """The networks in one dictionary: one for each prefix with which the network's own names occur most completely."""
    matches: dict[str, int] = defaultdict(int)
    for name in tensors:
        steps = name.split(".")
        for start in range(len(steps)):
            if ".".join(steps[start:]) in own:
                matches["".join(f"{step}." for step in steps[:start])] += 1
    most = max(matches.values(), default=0)
    for prefix in [prefix for prefix, count in matches.items() if count == most] or [""]:
        state = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
        yield Option(keys, prefix, state, len(tensors) - len(state))


def _equal(one: Mapping[str, torch.Tensor], other: Mapping[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        a.is_meta == other[name].is_meta
        and a.layout == other[name].layout == torch.strided
        and torch.equal(a, other[name])
        for name, a in one.items()
    )


def _dense(name: str, tensor: torch.Tensor, own: Mapping[str, torch.Tensor], path: str) -> torch.Tensor:
    """The tensor, if it has values that the network can use."""
    problem = ""
    if tensor.is_meta:
        problem = "is on the meta device, so it has no values: save the network after its weights were loaded"
    elif tensor.is_quantized or (name in own and own[name].is_floating_point() and not tensor.dtype.is_floating_point):
        problem = f"has the type {tensor.dtype}: save the network before it is quantised"
    elif tensor.layout != torch.strided:
        problem = f"is sparse ({tensor.layout}): save the dense tensors, tensor.to_dense()"
    if problem:
        raise ConfigError(f"{KEY} = {path!r}: {name} {problem}")
    return tensor


def _finite(tensor: torch.Tensor) -> bool:
    return bool((tensor.float() if tensor.element_size() == 1 else tensor).isfinite().all())


def _resample(network: Any, state: dict[str, torch.Tensor], own: Mapping[str, torch.Tensor]) -> str:
    """Resample a Vision Transformer's position embeddings in `state`; returns their name, or "" if they fit."""
    name = "pos_embed"
    old, new = state.get(name), own.get(name)
    if old is None or new is None or old.shape == new.shape or old.dim() != 3 or old.shape[::2] != new.shape[::2]:
        return ""
    prefix = 0 if network.no_embed_class else network.num_prefix_tokens
    side = round(max(0, old.shape[1] - prefix) ** 0.5)
    if not side or side**2 != old.shape[1] - prefix:
        return ""
    from timm.layers import resample_abs_pos_embed

    grid = list(network.patch_embed.grid_size)
    state[name] = resample_abs_pos_embed(old, grid, [side, side], num_prefix_tokens=prefix)
    return name


def _problems(state: Mapping[str, torch.Tensor], own: Mapping[str, torch.Tensor]) -> list[str]:
    """All names and shapes that differ, as clauses."""
    problems = []
    if missing := sorted(own.keys() - state.keys()):
        problems.append(f"it lacks {named(missing)}")
    if foreign := sorted(state.keys() - own.keys()):
        problems.append(f"it has {named(foreign)}, which the model does not have")
    shapes = [
        f"{name} is {tuple(state[name].shape)} there and {tuple(own[name].shape)} in the model"
        for name in sorted(own.keys() & state.keys())
        if state[name].shape != own[name].shape
    ]
    if shapes:
        problems.append(named(shapes))
    return problems


def named(names: list[str]) -> str:
    """Some names, and how many more there are."""
    rest = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")
