"""What people give to a function: numbers of numpy and torch are numbers, and a text with commas is a list of names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from numbers import Integral, Real
from typing import Any

from mmbench.errors import ConfigError

SHOWN = 80
"""The most characters of a wrong value that a message shows."""


def plain(value: Any) -> Any:
    """A number of numpy, or a tensor or array without dimensions, as Python's own number; all else as it is."""
    scalar = getattr(value, "ndim", None) == 0 and callable(getattr(value, "item", None))
    return value.item() if scalar and not getattr(value, "is_meta", False) else value


def shown(value: Any) -> str:
    """A wrong value for a message: the first line of its repr, shortened."""
    lines = repr(value).splitlines() or [""]
    short = len(lines) > 1 or len(lines[0]) > SHOWN
    return f"{lines[0][:SHOWN]}..." if short else lines[0]


def whole(name: str, value: Any) -> int:
    """An integer that may seed a generator.

    Args:
        name: of the argument, for the error.
        value: what was given.

    Returns:
        It as Python's own.

    Raises:
        ConfigError: it is none, or not in [0, 2**63).
    """
    given: Any = plain(value)
    if not isinstance(given, Integral) or isinstance(given, bool) or not 0 <= int(given) < 2**63:
        raise ConfigError(f"{name} = {shown(value)} is not allowed: must be an integer >= 0 and < 2**63")
    return int(given)


def real(name: str, value: Any, low: float, high: float, allowed: str) -> float:
    """A number between two bounds.

    Args:
        name: of the argument, for the error.
        value: what was given.
        low: the smallest that is allowed.
        high: the largest.
        allowed: what is allowed, for the error.

    Returns:
        It as Python's own.

    Raises:
        ConfigError: it is none, or out of the bounds.
    """
    given: Any = plain(value)
    if not isinstance(given, Real) or isinstance(given, bool) or not low <= float(given) <= high:
        raise ConfigError(f"{name} = {shown(value)} is not allowed: must be {allowed}")
    return float(given)


def several(name: str, value: Any, allowed: str) -> list[Any]:
    """A list, from one thing or many: a text is split at its commas, a mapping is one thing.

    Args:
        name: of the argument, for the error.
        value: what was given.
        allowed: what is allowed, for the error.

    Returns:
        At least one thing.

    Raises:
        ConfigError: it is empty, or neither a text, nor a mapping, nor something to iterate over.
    """
    if isinstance(value, str):
        things: list[Any] = [part.strip() for part in value.split(",") if part.strip()]
    elif isinstance(value, Mapping):
        things = [value]
    elif isinstance(value, Iterable):
        things = list(value)
    else:
        raise ConfigError(f"{name} = {shown(value)} is not allowed: must be {allowed}")
    if not things:
        raise ConfigError(f"{name} is empty; allowed: {allowed}")
    return things
