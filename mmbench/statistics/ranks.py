"""Average ranks and quantiles: scipy's values without the overhead of its general functions.

They are called some hundred thousand times, mostly for arrays of a few dozen values.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import special

Array = NDArray[np.float64]
Codes = NDArray[np.int64]

LEVEL = 0.95
"""Of all intervals."""


def ranks(values: Array) -> Array:
    """Ranks from 1, ties by their average."""
    n = len(values)
    order = np.argsort(values, kind="stable")
    in_order = values[order]
    new = np.empty(n, dtype=bool)
    new[:1], new[1:] = True, in_order[1:] != in_order[:-1]
    starts = np.append(np.flatnonzero(new), n)
    middle = (starts[:-1] + starts[1:] + 1) / 2
    found = np.empty(n)
    found[order] = middle[np.cumsum(new) - 1]
    return found


def ranks_within(place: Codes, values: Array) -> Array:
    """Ranks from 1 inside each cell, `place` being its number, ties by their average."""
    n = len(values)
    order = np.lexsort((values, place))
    cell, in_order = place[order], values[order]
    new_cell, new = np.empty(n, dtype=bool), np.empty(n, dtype=bool)
    new_cell[:1], new_cell[1:] = True, cell[1:] != cell[:-1]
    new[:1], new[1:] = True, in_order[1:] != in_order[:-1]
    new |= new_cell
    starts = np.append(np.flatnonzero(new), n)
    middle = (starts[:-1] + starts[1:] + 1) / 2
    before = np.flatnonzero(new_cell)[np.cumsum(new_cell) - 1]
    found = np.empty(n)
    found[order] = middle[np.cumsum(new) - 1] - before
    return found


def t_quantile(freedom: int) -> float:
    """How many standard errors the interval reaches to each side, by Student's t."""
    return float(special.stdtrit(freedom, (1 + LEVEL) / 2))


def t_sided(t: float, freedom: int) -> float:
    """The two-sided p-value of Student's t."""
    return float(2 * special.stdtr(freedom, -abs(t)))
