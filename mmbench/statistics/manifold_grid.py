"""The manifold metric over the paper's grid of quantiles q and numbers of nodes n, and what choosing from it is worth.

All of the grid is read off the stored barriers of one run (see barriers.py). The paper (arXiv:2405.15895) says that its
correlations come from the best of 20 settings (q, n), found by grid search on the outcome, and uses q = 0.4, n = 1000
in its main figure. The best of 20 numbers is high by chance alone. So the choice (0.4, 1000), fixed beforehand, is
reported beside the best of the grid, and the best with its p-value: the gains are shuffled among the expansions of each
trained base model, and the best of the grid is taken anew each time (Westfall and Young, 1993).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmbench.statistics.barriers import first_nodes, metric_from_barriers, threshold
from mmbench.statistics.configurations import scored
from mmbench.statistics.correlation import kendall, spearman
from mmbench.statistics.moments import ALONG, within_bases
from mmbench.statistics.seed_luck import TRAINED_BASE

Array = NDArray[np.float64]

QUANTILES = (0.05, 0.1, 0.2, 0.4)
NODES = (50, 100, 250, 500, 1000)
CHOICE = (0.4, 1000)
"""The paper's q and n, fixed before any result was seen. With fewer stored nodes, the largest n that is stored."""
SHUFFLES = 1000
COLUMNS = {
    **{"q": "float64", "n": "int64", "target": "string", "kendall": "float64", "spearman": "float64"},
    **dict.fromkeys(("n_runs", "n_configurations"), "int64"),
    **dict.fromkeys(("kendall_within", "within_low", "within_high"), "float64"),
    **{"n_base_models": "int64", "metric": "string"},
}
CHOICES = {
    **dict.fromkeys(("metric", "target", "choice"), "string"),
    **{"q": "float64", "n": "int64", "kendall_within": "float64", "p_value": "float64", "by_chance": "float64"},
    **dict.fromkeys(("settings", "shuffles", "n_base_models"), "int64"),
}


@dataclass(frozen=True)
class Barriers:
    """The barriers of an expanded model and of its base model, each (chains, nodes per chain), in nats."""

    candidate: Array
    base: Array

    @property
    def nodes(self) -> int:
        """How many nodes both have."""
        return min(self.candidate.size, self.base.size)

    def flat(self, n: int | None = None) -> tuple[Array, Array]:
        """The first n nodes of the expanded model and of the base model, (n,) each; by default all that both have."""
        return first_nodes(self.candidate, n or self.nodes), first_nodes(self.base, n or self.nodes)

    def threshold(self, q: float, n: int) -> float:
        """The base model's q-quantile, in nats."""
        return threshold(self.base, q, n)


@dataclass(frozen=True)
class Grid:
    """The grid, and the choices from it."""

    table: pd.DataFrame = field(default_factory=lambda: _frame([], COLUMNS))
    """One row per metric (with its set of options), target, q and n."""
    choices: pd.DataFrame = field(default_factory=lambda: _frame([], CHOICES))
    """One row per metric, target and choice (`fixed`, `best`)."""
    remark: str = ""
    """Why the table is empty; empty if it is not."""


def grid_of(runs: pd.DataFrame, barriers: Mapping[str, Barriers]) -> Grid:
    """The rank correlations of the manifold metric with the gains over the grid.

    * kendall, spearman: over configurations, averaged over seeds first, as in `correlate`.
    * kendall_within, within_low, within_high, n_base_models: Kendall's tau among the expansions of each trained base
      model, averaged; see moments.py. The choices are by this one.
    * p_value: how often shuffled gains give a tau as large, at the fixed choice, or at the best of the grid anew each
      time. by_chance: the mean of these.

    Args:
        runs: as of `configurations.at_start`.
        barriers: by the id of the run.

    Returns:
        The tables; empty without barriers, which the remark says. Settings with more nodes than are stored are left
        out.
    """
    known = runs[runs["run_id"].isin(barriers.keys())]
    rows: list[dict[str, object]] = []
    choices: list[dict[str, object]] = []
    for target in ALONG:
        for metric, members in scored(known, target).groupby("metric"):
            scores = _scores([barriers[str(run_id)] for run_id in members["run_id"]])
            cells = []
            for (q, n), values in scores.items():
                kept = np.isfinite(values)
                cell = members.loc[kept].assign(score=values[kept])
                cells.append({"metric": metric, "target": target, "q": q, "n": n, **_correlations(cell, target)})
            rows += cells
            choices += _choices(cells, members, target, scores)
    return Grid(_frame(rows, COLUMNS), _frame(choices, CHOICES), "" if rows else _why_empty(known, barriers))


def _why_empty(runs: pd.DataFrame, barriers: Mapping[str, Barriers]) -> str:
    most = max((barriers[str(run_id)].nodes for run_id in runs["run_id"]), default=0)
    if not most:
        return "No barriers are stored: run the metric manifold."
    if most < NODES[0]:
        return (
            f"The grid begins at {NODES[0]} nodes, and at most {most} are stored for a network: run the metric with "
            f"metric.nodes={NODES[0]} or more ({CHOICE[1]} for all of the paper's settings)."
        )
    return "No run with stored barriers has a gain yet."


def _frame(rows: list[dict[str, object]], columns: Mapping[str, str]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=list(columns)).astype(dict(columns))


def _scores(pairs: list[Barriers]) -> dict[tuple[float, int], Array]:
    """The metric in percent at each setting that at least one pair has the nodes for; NaN for the other pairs."""
    most = max((pair.nodes for pair in pairs), default=0)
    return {
        (q, n): np.array([metric_from_barriers(*pair.flat(n), q, n) if pair.nodes >= n else math.nan for pair in pairs])
        for q, n in product(QUANTILES, NODES)
        if n <= most
    }


def _correlations(runs: pd.DataFrame, target: str) -> dict[str, object]:
    means = runs.groupby("number")[["score", target]].mean().round(10)
    score, gain = means["score"].to_numpy(dtype=float), means[target].to_numpy(dtype=float)
    within = within_bases(runs, target)
    return {
        "kendall": kendall(score, gain) if len(means) > 2 else math.nan,
        "spearman": spearman(score, gain),
        "n_runs": len(runs),
        "n_configurations": len(means),
        "kendall_within": within.tau,
        "within_low": within.low,
        "within_high": within.high,
        "n_base_models": within.bases,
    }


def _choices(
    cells: list[dict[str, object]], runs: pd.DataFrame, target: str, scores: Mapping[tuple[float, int], Array]
) -> Iterator[dict[str, object]]:
    """The fixed choice and the best of the grid, each with its p-value."""
    taus = np.array([cell["kendall_within"] for cell in cells], dtype=float)
    if not np.isfinite(taus).any():
        return
    chance = _shuffled(np.array(list(scores.values())), runs, target)
    largest = max((n for q, n in scores if n <= CHOICE[1]), default=0)
    fixed = list(scores).index((CHOICE[0], largest))
    best = int(np.nanargmax(taus))
    for name, place, null in (("fixed", fixed, chance[fixed]), ("best", best, np.nanmax(chance, axis=0))):
        reached = int((null >= taus[place] - 1e-9).sum())
        yield {
            **{key: cells[place][key] for key in ("metric", "target", "q", "n", "kendall_within", "n_base_models")},
            **{"choice": name, "p_value": (1 + reached) / (1 + SHUFFLES), "by_chance": float(np.mean(null))},
            **{"settings": len(cells) if name == "best" else 1, "shuffles": SHUFFLES},
        }


def _shuffled(scores: Array, runs: pd.DataFrame, target: str) -> Array:
    """kendall_within at each setting, with the gains shuffled inside each trained base model: (settings, shuffles)."""
    draw = np.random.default_rng(0)
    total, counts = np.zeros((len(scores), SHUFFLES)), np.zeros((len(scores), 1))
    places = runs.assign(place=range(len(runs))).groupby(TRAINED_BASE, dropna=False)["place"]
    for _, members in places:
        inside = members.to_numpy()
        gains = runs[target].to_numpy(dtype=float)[inside].round(12)
        if len(gains) < 2 or np.ptp(gains) == 0:
            continue
        complete = np.isfinite(scores[:, inside]).all(axis=1)
        counts[complete] += 1
        shuffled = draw.permuted(np.tile(gains, (SHUFFLES, 1)), axis=1)
        total[complete] += _taus(scores[complete][:, inside].round(10), shuffled)
    with np.errstate(invalid="ignore"):
        return total / counts


def _taus(scores: Array, gains: Array) -> Array:
    """Kendall's tau-b of every row of scores (s, k) with every row of gains (g, k): (s, g); 0 for equal scores."""
    first, second = np.triu_indices(scores.shape[1], 1)
    up, gain = (np.sign(values[:, first] - values[:, second]).astype(np.float32) for values in (scores, gains))
    # Whole numbers, exact in float32; their ratio is not.
    concordant, pairs = (up @ gain.T).astype(float), [(v**2).sum(axis=1).astype(float) for v in (up, gain)]
    untied = np.sqrt(pairs[0][:, None] * pairs[1])
    return np.divide(concordant, untied, out=np.zeros_like(untied), where=untied > 0)
