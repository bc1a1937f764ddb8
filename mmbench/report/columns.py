"""How one row of the correlations is told: name, sign, rho, intervals, regret, cost, as text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from mmbench.report.figures.style import interval_text, signed
from mmbench.statistics.controls import role

Row = Mapping[Any, Any]
Column = tuple[str, Callable[[Row], str]]
DASH = "–"


def kind_of(row: Row) -> str:
    """The role of the row's metric; empty for one under test."""
    return role(row["metric"], row["expected_sign"])


def sign(row: Row) -> str:
    """The expected sign."""
    if pd.isna(row["expected_sign"]):
        return DASH
    return {1: "+", -1: "\N{MINUS SIGN}"}.get(row["expected_sign"], "0")


def points(value: Any) -> str:
    """A share of accuracy in percentage points."""
    return DASH if pd.isna(value) else f"{100 * value:.2f}".replace("-", "\N{MINUS SIGN}")


def share(value: Any, digits: int = 0) -> str:
    """A share as a percentage."""
    return DASH if pd.isna(value) else f"{100 * value:.{digits}f} %"


def cost(row: Row) -> str:
    """Time of the metric over time of training."""
    value = row["cost_fraction"]
    if pd.isna(value):
        return DASH
    return "<0.1 %" if 0 < value < 0.001 else f"{100 * value:.{0 if value >= 0.0995 else 1}f} %"


def probability(value: Any) -> str:
    """A p or q value."""
    return DASH if pd.isna(value) else "<0.001" if value < 0.001 else f"{value:.3f}"


def of(name: str, render: Callable[[Any], str] = signed) -> Callable[[Row], str]:
    """Render one column; a dash where the table lacks it."""
    return lambda row: render(row.get(name, float("nan")))


def between(low: str, high: str) -> Callable[[Row], str]:
    """Render an interval."""
    return lambda row: interval_text(row.get(low), row.get(high))


def text(name: str) -> Callable[[Row], str]:
    """A column of words; empty where there are none."""
    return lambda row: "" if row.get(name) is None or pd.isna(row[name]) else str(row[name])


SHORT: tuple[Column, ...] = (
    ("sign", sign),
    ("ρ", of("spearman")),
    ("95 % interval", between("ci_low", "ci_high")),
    ("n", lambda row: str(row["n_configurations"])),
    ("equal budget", of("equal_budget_spearman")),
    ("partial", of("partial_spearman")),
    ("regret", of("regret_at_1", points)),
    ("cost", cost),
)
"""For the terminal."""
MAIN: tuple[Column, ...] = (
    ("sign", sign),
    ("ρ", of("spearman")),
    ("95 % interval", between("ci_low", "ci_high")),
    ("q", of("q_value", probability)),
    ("τ", of("kendall")),
    ("n", lambda row: f"{row['n_configurations']} ({row['n']})"),
    ("given size and base", of("partial_spearman")),
    ("its 95 % interval", between("partial_low", "partial_high")),
    ("cost / training", cost),
)
"""The report's first table."""
EQUAL: tuple[Column, ...] = (
    ("sign", sign),
    ("equal budget", of("equal_budget_spearman")),
    ("95 % interval", between("equal_budget_low", "equal_budget_high")),
    ("q", of("equal_budget_q", probability)),
    ("groups with the sign", text("equal_budget_signs")),
    ("I²", of("equal_budget_i2", share)),
    ("and equal architecture", of("equal_architecture_spearman")),
    ("95 % interval", between("equal_architecture_low", "equal_architecture_high")),
    ("groups with the sign", text("equal_architecture_signs")),
    ("I²", of("equal_architecture_i2", share)),
)
"""Inside groups of equal size."""
CHOICE: tuple[Column, ...] = (
    ("regret", of("regret_at_1", points)),
    ("by chance", of("random_regret_at_1", points)),
    ("at equal budget", of("equal_budget_regret_at_1", points)),
    ("best 3 found", of("precision_at_3", share)),
    ("by chance", of("random_precision_at_3", share)),
    ("sign error: mean", of("sign_error_mean")),
    ("90th percentile", of("sign_error_p90")),
    ("max", of("sign_error_max")),
    ("environments", of("sign_error_environments", lambda value: DASH if pd.isna(value) else f"{value:.0f}")),
)
"""What a choice by the metric brings."""
CEILING: tuple[Column, ...] = (
    ("score", of("score_reliability")),
    ("gain", of("target_reliability")),
    ("largest |ρ| to expect", of("noise_ceiling")),
    ("|ρ| found", lambda row: signed(abs(row["spearman"]))),
    ("seeds", of("seeds", lambda value: DASH if pd.isna(value) else f"{value:.1f}")),
)
"""How reliable score and gain are."""
