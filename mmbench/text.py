"""Formats numbers, intervals, counts, lists and names as text for people.

Numbers have a true minus sign. A missing value (None, NaN, pandas' NA) is a dash.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from hashlib import sha256
from typing import Any

MINUS, DASH = "\N{MINUS SIGN}", "\N{EN DASH}"


def is_missing(value: Any) -> bool:
    """Whether a value is None, NaN or pandas' NA."""
    try:
        return value is None or bool(value != value)
    except TypeError:  # pandas' NA has no truth value
        return True


def signed(value: Any) -> str:
    """Two decimals: `0.31`, `−0.50`."""
    return DASH if is_missing(value) else f"{value:.2f}".replace("-0.00", "0.00").replace("-", MINUS)


def interval(low: Any, high: Any) -> str:
    """An interval in brackets: `[−0.10, 0.62]`."""
    return DASH if is_missing(low) or is_missing(high) else f"[{signed(low)}, {signed(high)}]"


def number(value: Any, digits: int = 3) -> str:
    """A few significant digits; powers of ten only for long numbers."""
    if is_missing(value):
        return DASH
    text = f"{value:.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.{digits}g}"
    return re.sub(r"e([+-])0*", lambda match: "e" + match[1].strip("+"), text).replace("-", MINUS)


def percent(share: Any, digits: int = 0) -> str:
    """A share as a percentage: `27 %`."""
    return DASH if is_missing(share) else f"{100 * share:.{digits}f} %"


def points(share: Any) -> str:
    """A difference of accuracies in percentage points, two decimals."""
    return DASH if is_missing(share) else f"{100 * share:.2f}".replace("-", MINUS)


def probability(value: Any) -> str:
    """A p or q value."""
    return DASH if is_missing(value) else "<0.001" if value < 0.001 else f"{value:.3f}"


def expected(sign: Any) -> str:
    """An expected sign as one character: +, a true minus, or 0 where theory says nothing."""
    return "0" if is_missing(sign) or sign == 0 else "+" if sign > 0 else MINUS


def power(value: float) -> str:
    """The nearest power of ten: `10³`, `−10⁻²`, `0`."""
    if value == 0:
        return "0"
    exponent = str(round(math.log10(abs(value)))).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{MINUS if value < 0 else ''}10{exponent}"


def count(n: int, noun: str) -> str:
    """A number and its noun: `1 run`, `2,000 runs`."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def listed(names: Iterable[str], most: int | None = None) -> str:
    """`a, b and c`; past `most` names `a, b and 3 more`."""
    items = list(names)
    if most is not None and len(items) > most:
        items = [*items[:most], f"{len(items) - most} more"]
    *first, last = items
    return f"{', '.join(first)} and {last}" if first else last


def shortened(name: Any, length: int = 30) -> str:
    """A text of at most `length` characters; a longer one ends with an ellipsis."""
    text = str(name)
    return text if len(text) <= length else f"{text[: length - 1]}…"


def metric_name(metric: str) -> str:
    """A metric's registered name, without its options (`rho=0.1` or `@ID`) and its moment (`after 5 epochs`)."""
    return re.split("[@ ]", metric, maxsplit=1)[0]


def file_stem(name: str) -> str:
    """A name as part of a file name; a changed name gets a hash, so that two never collide."""
    safe = re.sub(r"[^A-Za-z0-9_.-]", "_", name)[:80]
    return safe if safe == name else f"{safe}_{sha256(name.encode()).hexdigest()[:8]}"
