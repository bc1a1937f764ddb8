"""What a score says about two configurations that differ in one choice only: granulated Kendall, robust sign error.

A choice is the expansion, its axis, the budget, the model, the data set or the training. Configurations that are equal
in all choices but one form a stratum; their pairs are listed once and used for all metrics.

* Granulated Kendall's coefficient: psi_i is the mean of tau-b over the strata in which everything but choice i is
  fixed, Psi the mean of psi_i over choices. A score that only follows one choice (size, say) has one large psi. Source:
  Jiang et al., Fantastic Generalization Measures and Where to Find Them (2020).
* Robust sign error: for each two values of one choice (an environment, `net2wider / zero_pad`), the share of pairs in
  which the score points the wrong way, (1 - sign(score difference) sign(target difference)) / 2, weighted by how
  certain the target's sign is; mean, 90th percentile and maximum over environments. Source: Dziugaite et al., In Search
  of Robust Measures of Generalization (2020). They weigh by a Hoeffding bound for the test set; all networks here see
  one test set and one order of images, which that bound ignores, so the noise is estimated from the seeds instead:
  w = max(0, 2 Phi(|difference| / standard error) - 1 - 1/2), with one variance per base model. With one seed every pair
  that differs weighs the same. An environment of fewer than `MIN_PAIRS` effective pairs, (sum w)^2 / sum w^2, does not
  count.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import special

Array = NDArray[np.float64]
Codes = NDArray[np.int64]

FIXED = {
    "dataset": ("model", "training", "expansion", "axis", "budget"),
    "model": ("dataset", "training", "expansion", "axis", "budget"),
    "training": ("dataset", "model", "expansion", "axis", "budget"),
    "expansion": ("dataset", "base", "axis", "budget"),
    "axis": ("dataset", "base", "expansion", "budget"),
    "budget": ("dataset", "base", "expansion", "axis"),
}
"""What two configurations must share to differ in one choice only. A base model fixes its model and training."""

MIN_PAIRS = 5.0
"""Effective pairs below which an environment does not count: its sign error could take only a few values."""
_LARGEST = 300
"""Larger strata are thinned to this many configurations, evenly: 1,000 configurations would make 500,000 pairs."""


@dataclass(frozen=True)
class Pairs:
    """Pairs that differ in one choice: two configurations, and the numbers of choice, stratum and environment."""

    first: Codes
    second: Codes
    choice: Codes
    stratum: Codes
    environment: Codes
    names: list[str]
    """The environments by number."""
    size: int
    """One more than the largest configuration number."""


def pairs_of(configurations: pd.DataFrame) -> Pairs:
    """All pairs among configurations (one row each, with `number` and the choices) that differ in one choice only."""
    frame = configurations.sort_values("number", kind="stable").reset_index(drop=True)
    numbers = frame["number"].to_numpy(dtype=np.int64)
    none = np.zeros(0, dtype=np.int64)
    columns: list[list[Codes]] = [[none] for _ in range(5)]
    names: list[str] = []
    strata = 0
    for place, (choice, fixed) in enumerate(FIXED.items()):
        codes = frame.groupby("base" if choice == "model" else choice, dropna=False).ngroup().to_numpy()
        values, value = np.unique([_shown(value) for value in frame[choice]], return_inverse=True)
        for stratum in frame.groupby(list(fixed), dropna=False).indices.values():
            members = np.asarray(stratum)
            if len(members) > _LARGEST:
                members = members[np.linspace(0, len(members) - 1, _LARGEST).astype(int)]
            i, j = np.triu_indices(len(members), 1)
            i, j = members[i], members[j]
            i, j = i[codes[i] != codes[j]], j[codes[i] != codes[j]]
            low, high = np.minimum(value[i], value[j]), np.maximum(value[i], value[j])
            environment = len(names) + low * len(values) + high
            parts = (numbers[i], numbers[j], np.full(len(i), place), np.full(len(i), strata), environment)
            for column, part in zip(columns, parts, strict=True):
                column.append(part)
            strata += 1
        names += [f"{choice}: {low} / {high}" for low in values for high in values]
    first, second, choice_code, stratum_code, environment = (np.concatenate(column) for column in columns)
    kept, environment = np.unique(environment, return_inverse=True)
    size = int(numbers.max(initial=-1)) + 1
    return Pairs(first, second, choice_code, stratum_code, environment, [names[code] for code in kept], size)


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


@dataclass(frozen=True)
class PairStatistics:
    """What the pairs say about one score."""

    psi: dict[str, tuple[float, int]]
    """The mean tau-b of each choice, and its number of strata."""
    environments: list[tuple[str, float, int, float]]
    """Name, weighted sign error, pairs and effective pairs."""

    @property
    def granulated(self) -> float:
        """Psi, the mean over choices; NaN without any."""
        return float(np.mean([psi for psi, _ in self.psi.values()])) if self.psi else math.nan

    @property
    def errors(self) -> tuple[float, float, float]:
        """Mean, 90th percentile and maximum of the sign error over environments."""
        errors = [error for _, error, _, _ in self.environments]
        return (float(np.mean(errors)), float(np.percentile(errors, 90)), max(errors)) if errors else (math.nan,) * 3


def compare_pairs(
    pairs: Pairs, number: Codes, score: Array, target: Array, variance: Array, n: Codes, sign: float
) -> PairStatistics:
    """Granulated Kendall and sign errors of one score.

    Args:
        pairs: of all configurations.
        number: the configurations that have the score, shape (k,).
        score: of each of them, shape (k,).
        target: of each of them, shape (k,).
        variance: of the target from seed to seed, for each of them, shape (k,); NaN if unknown.
        n: the number of seeds averaged in each of their targets, shape (k,).
        sign: -1 if a larger score means a smaller target, else 1; only the sign errors depend on it.

    Returns:
        The statistics over the pairs in which both configurations have the score.
    """
    position = np.full(max(pairs.size, int(number.max(initial=-1)) + 1), -1)
    position[number] = np.arange(len(number))
    i, j = position[pairs.first], position[pairs.second]
    both = (i >= 0) & (j >= 0)
    i, j = i[both], j[both]
    up, gain = np.sign(score[i] - score[j]), np.sign(target[i] - target[j])
    choices = list(FIXED)
    psi = _psi(pairs.choice[both], pairs.stratum[both], up, gain)
    error = np.sqrt(variance[i] / n[i] + variance[j] / n[j])
    with np.errstate(divide="ignore", invalid="ignore"):
        certainty = special.erf(np.abs(target[i] - target[j]) / error / math.sqrt(2))  # 2 Phi(z) - 1
    weight = np.where(gain == 0, 0.0, np.where(np.isfinite(certainty), np.maximum(certainty - 0.5, 0), 0.5))
    return PairStatistics(
        {choices[code]: mean for code, mean in psi.items()},
        sign_errors(pairs.names, pairs.environment[both], weight, (1 - sign * up * gain) / 2),
    )


def sign_errors(
    names: list[str], environment: Codes, weight: Array, wrong: Array
) -> list[tuple[str, float, int, float]]:
    """The weighted sign error of each environment with at least `MIN_PAIRS` effective pairs.

    Args:
        names: of the environments.
        environment: the number of each pair's environment, shape (k,).
        weight: of each pair, shape (k,); how sure it is that its two targets differ.
        wrong: of each pair, shape (k,); 1 if the score has the wrong sign, 1/2 for a tie, else 0.

    Returns:
        Name, mean of `wrong`, pairs, and effective pairs (sum w)^2 / sum w^2.
    """
    size = len(names)
    total, squares, lost, count = (
        np.bincount(environment, values, size) for values in (weight, weight**2, weight * wrong, np.ones_like(weight))
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        effective, error = total**2 / squares, lost / total
    kept = np.flatnonzero(effective >= MIN_PAIRS - 1e-9)
    return [(names[k], float(error[k]), int(count[k]), float(effective[k])) for k in kept]


def _psi(choice: Codes, stratum: Codes, up: Array, gain: Array) -> dict[int, tuple[float, int]]:
    """The mean of tau-b over the strata of each choice where neither side is constant."""
    if not len(stratum):
        return {}
    _, first, place = np.unique(stratum, return_index=True, return_inverse=True)
    agree, scored, gained = (np.bincount(place, values) for values in (up * gain, up**2, gain**2))
    known = (scored > 0) & (gained > 0)
    tau = agree[known] / np.sqrt(scored[known] * gained[known])
    codes = choice[first][known]
    return {int(code): (float(tau[codes == code].mean()), int((codes == code).sum())) for code in np.unique(codes)}
