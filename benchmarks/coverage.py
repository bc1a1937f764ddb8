"""How often the 95 % intervals of the statistics contain the truth, and how often a null effect has p < 0.05.

    python benchmarks/coverage.py [--draws 2000]

Compared with the usual alternative: Bonett and Wright's interval, or Student's t, with every configuration independent.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import stats

from mmbench.statistics.correlation import bonett_wright, spearman_interval
from mmbench.statistics.differences import spearman_difference
from mmbench.statistics.equal_size import correlate_cells, mean_over_cells

Array = np.ndarray
Draw = Callable[[np.random.Generator], tuple[Array, Array, Array]]


def normal(draw: np.random.Generator, rho: float, n: int) -> tuple[Array, Array]:
    x = draw.normal(size=n)
    return x, rho * x + math.sqrt(1 - rho**2) * draw.normal(size=n)


def independent(rho: float, n: int, heavy: bool = False) -> Draw:
    """Configurations of one base model; heavy: Student's t with 3 degrees of freedom, extremes together."""

    def make(draw: np.random.Generator) -> tuple[Array, Array, Array]:
        x, y = normal(draw, rho, n)
        scale = np.sqrt(draw.chisquare(3, size=n) / 3) if heavy else 1.0
        return x / scale, y / scale, np.zeros(n, dtype=int)

    return make


def clustered(rho: float, bases: int, each: int = 12) -> Draw:
    """Half of the variance of score and target is that of their base model, unrelated."""

    def make(draw: np.random.Generator) -> tuple[Array, Array, Array]:
        base = np.repeat(np.arange(bases), each)
        x, y = normal(draw, rho, bases * each)
        return x + draw.normal(size=bases)[base], y + draw.normal(size=bases)[base], base

    return make


def of_rho(table: Table, draws: int) -> None:
    for name, make, large in [
        *(
            (f"independent, rho {r}, n {n}", independent(r, n), independent(r, 400_000))
            for n in (10, 20, 40)
            for r in (0, 0.5, 0.8)
        ),
        *(
            (f"heavy tails, rho {r}, n {n}", independent(r, n, True), independent(r, 400_000, True))
            for n in (20, 100)
            for r in (0, 0.8)
        ),
        *(
            (f"{b} base models, rho inside {r}", clustered(r, b), clustered(r, 40_000, 10))
            for b in (3, 4, 8, 16)
            for r in (0, 0.5)
        ),
    ]:
        draw = np.random.default_rng(0)
        truth = stats.spearmanr(*large(draw)[:2]).statistic
        ours = theirs = found = theirs_found = 0
        for _ in range(draws):
            x, y, base = make(draw)
            row = spearman_interval(x, y, base)
            low, high = bonett_wright(row.rho, len(x))
            ours += row.low <= truth <= row.high
            theirs += low <= truth <= high
            found += row.p_value < 0.05
            theirs_found += stats.spearmanr(x, y).pvalue < 0.05
        null = " 0," in name or name.endswith(" 0")
        rates = (f"{found / draws:.3f}", f"{theirs_found / draws:.3f}") if null else ("", "")
        table.add_row(name, f"{ours / draws:.3f}", f"{theirs / draws:.3f}", *rates)


def of_cells(table: Table, draws: int) -> None:
    """Two budgets per base model, eight configurations each; spread: standard deviation of rho over base models."""
    for bases, mean, spread in [
        (b, m, s) for b in (1, 4, 8) for m, s in ((0.0, 0.0), (0.5, 0.0), (0.3, 0.3)) if b > 1 or not s
    ]:
        draw = np.random.default_rng(0)
        base, cell = np.repeat(np.arange(bases), 16), np.repeat(np.arange(bases * 2), 8)
        rows = []
        for _ in range(draws):
            rho = np.clip(mean + spread * draw.normal(size=bases), -0.99, 0.99)[base]
            x = draw.normal(size=len(base))
            y = rho * x + np.sqrt(1 - rho**2) * draw.normal(size=len(base))
            rows.append([mean_over_cells(correlate_cells(cell, clusters, x, y)).mean for clusters in (base, 0 * base)])
        truth = float(np.mean([row.rho for row, _ in rows]))
        rates = [f"{np.mean([r[s].low <= truth <= r[s].high for r in rows]):.3f}" for s in (0, 1)]
        found = ["" if mean else f"{np.mean([r[s].p_value < 0.05 for r in rows]):.3f}" for s in (0, 1)]
        table.add_row(f"equal budget, {bases} base models, rho {mean} +- {spread}", *rates, *found)


def within(table: Table, draws: int) -> None:
    """The headline: expansions of base models whose own correlations differ (Fisher's z, standard deviation `spread`).

    The truth is the mean over all base models; `independent` takes the configurations as the unit.
    """
    worst = 1.0
    for spread in (0.0, 0.3, 0.8):
        population = np.tanh(0.7 + spread * np.random.default_rng(1).normal(size=200_000))
        truth = float((6 / math.pi * np.arcsin(population / 2)).mean())
        for bases, sizes in ((2, (24,)), (3, (33,)), (4, (100,)), (4, (10, 100)), (8, (33,)), (8, (8, 60))):
            draw = np.random.default_rng(0)
            base = np.repeat(np.arange(bases), np.resize(sizes, bases))
            hits = [0, 0]
            for _ in range(draws):
                rho = np.tanh(0.7 + spread * draw.normal(size=bases))[base]
                x = draw.normal(size=len(base))
                y = rho * x + np.sqrt(1 - rho**2) * draw.normal(size=len(base))
                for place, clusters in enumerate((base, 0 * base)):
                    found = mean_over_cells(correlate_cells(base, clusters, x, y)).mean
                    hits[place] += found.low <= truth <= found.high
            worst = min(worst, hits[0] / draws)
            name = f"within {bases} base models of {' and '.join(map(str, sizes))}, spread {spread}"
            table.add_row(name, *(f"{hit / draws:.3f}" for hit in hits), "", "")
    table.add_row("within base models, the worst of these", f"{worst:.3f}", "", "", "")


def of_differences(table: Table, draws: int) -> None:
    for n in (15, 40):
        draw = np.random.default_rng(0)
        hits = found = 0
        truth = 6 / math.pi * (math.asin(0.35) - math.asin(0.2))
        zeros = np.zeros(n, dtype=int)
        for _ in range(draws):
            goal = draw.normal(size=n)
            scores = [r * goal + math.sqrt(1 - r**2) * draw.normal(size=n) for r in (0.7, 0.4, 0.4)]
            row = spearman_difference(scores[0], scores[1], goal, zeros)
            hits += row.ci_low <= truth <= row.ci_high
            found += spearman_difference(scores[1], scores[2], goal, zeros).p_value < 0.05
        table.add_row(f"difference of rho 0.7 and 0.4, n {n}", f"{hits / draws:.3f}", "", f"{found / draws:.3f}", "")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=2000)
    draws = parser.parse_args().draws
    table = Table("case", "coverage", "independent", "p < 0.05", "independent", title="of 95 % intervals; of nulls")
    for part in (within, of_rho, of_cells, of_differences):
        part(table, draws)
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
