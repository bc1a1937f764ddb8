"""The luck of a seed, which all expansions of one trained base model share, taken out of their targets.

A base model that happened to end badly makes every gain over it large. Among the expansions of one base model that
shifts all gains alike and orders none of them. The additive model y[c, s] = a[c] + e[s] + error, fitted by least
squares inside each base model (c: configuration, s: seed), finds the shifts e; y - e is what can be chosen. Where every
configuration has every seed, the mean over seeds is unchanged; where a seed is missing for some, they no longer owe
their rank to it.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Array = NDArray[np.float64]
Codes = NDArray[np.int64]

TRAINED_BASE = ["dataset", "base", "seed"]
"""The columns of prepared runs that tell one trained base model from another."""


def without_seed_luck(runs: pd.DataFrame, target: str) -> pd.DataFrame:
    """The runs with the shift of their trained base model taken out of a target.

    Args:
        runs: as of `configurations.prepare`, with finite targets.
        target: a column.

    Returns:
        The same rows; the mean of each base model over its trainings is unchanged.
    """
    if runs.empty:
        return runs
    trained = pd.Series(runs.groupby(TRAINED_BASE, dropna=False).ngroup().to_numpy(), index=runs.index, name="trained")
    # One training has a record for each metric, but counts once.
    trainings = runs[target].groupby([runs["number"], trained]).mean().reset_index()
    number, place = (trainings[name].to_numpy() for name in ("number", "trained"))
    shifts = additive(number, place, trainings[target].to_numpy(dtype=float))
    return runs.assign(**{target: runs[target] - shifts[trained.to_numpy()]})


def additive(row: Codes, column: Codes, values: Array, rounds: int = 1000) -> Array:
    """The column effects of the additive least-squares fit of incomplete two-way tables; several tables may be given.

    Rows and columns are fitted in turn until nothing moves. Columns that no chain of shared rows connects keep the mean
    of their own values, since nothing tells their effects apart.

    Args:
        row: the number of each value's row, shape (n,).
        column: the number of each value's column, shape (n,).
        values: shape (n,).
        rounds: the most rounds.

    Returns:
        One effect per column number, shape (columns,); their sum over the values of a table is 0.
    """
    rows, columns = np.bincount(row).clip(1), np.bincount(column).clip(1)
    effects = np.zeros(len(columns))
    scale = float(np.ptp(values))
    for _ in range(rounds):
        means = np.bincount(row, values - effects[column]) / rows
        step = np.bincount(column, values - effects[column] - means[row]) / columns
        effects += step
        if np.abs(step).max() <= 1e-13 * scale:
            break
    return effects
