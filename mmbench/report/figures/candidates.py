"""The expansions of one base model as lines of a figure: their names and colours."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from mmbench.report.figures.style import PALETTE
from mmbench.text import shortened

MOST = 8
"""Lines of one figure; of more expansions, these many are drawn, spread evenly over their sizes."""
STYLES = ("-", "--", "-.", ":")


def largest_cell(runs: pd.DataFrame) -> tuple[Any, Any, Any] | None:
    """The data set, model and training with the most expansions and seeds; None without runs."""
    keys = ["dataset", "model", "training"]
    known = runs.dropna(subset=keys)
    if known.empty:
        return None
    sizes = known.groupby(keys)[["number", "seed"]].apply(lambda group: len(group.drop_duplicates()))
    return sizes.sort_values(ascending=False, kind="stable").index[0]


def candidates(runs: pd.DataFrame) -> dict[int, dict[str, Any]]:
    """How the line of each expansion looks, by the number of its configuration, smallest first.

    Sizes of one operator are shades from dark to light; several operators have a colour each, and their sizes a style.

    Args:
        runs: prepared runs of one data set, model and training.

    Returns:
        label, color and linestyle of at most `MOST` configurations.
    """
    order = ["expansion", "axis", "parameters", "budget", "number"]
    distinct = runs.drop_duplicates("number").sort_values(order, kind="stable")
    if len(distinct) > MOST:
        distinct = distinct.iloc[np.linspace(0, len(distinct) - 1, MOST).round().astype(int)]
    operators = list(dict.fromkeys(distinct["expansion"]))
    axes = distinct["axis"].nunique() > 1
    shade, looks, sizes = colormaps["viridis"], {}, dict.fromkeys(operators, 0)
    for place, row in enumerate(distinct.to_dict("records")):
        operator = row["expansion"]
        if len(operators) == 1:
            colour, style = to_hex(shade(0.88 * place / max(1, len(distinct) - 1))), "-"
        else:
            colour = PALETTE[operators.index(operator) % len(PALETTE)]
            style = STYLES[sizes[operator] % len(STYLES)]
        sizes[operator] += 1
        size = "" if pd.isna(row["budget"]) else f" {row['budget']:g}×"
        axis = f", {row['axis']}" if axes and not pd.isna(row["axis"]) else ""
        name = f"{shortened(operator, 22)}{axis}{size}"
        looks[int(row["number"])] = {"label": name, "color": colour, "linestyle": style}
    labels = [look["label"] for look in looks.values()]
    for number, look in looks.items():  # several of one size are told apart by their parameters
        if labels.count(look["label"]) > 1:
            known = distinct[distinct["number"] == number].iloc[0]
            if not pd.isna(known["parameters"]):
                look["label"] = f"{shortened(known['expansion'], 22)}, {known['parameters']:,.0f} parameters"
    return looks


def columns(labels: Iterable[str]) -> int:
    """Columns of a legend below a figure: two, unless a label is too long for half its width."""
    return 1 if max(map(len, labels), default=0) > 26 else 2


def training_axis(axes: Axes, last: float, unit: str) -> None:
    """An x axis that shows 0 and spreads the first epochs (or steps): logarithmic beyond 1, if it is long enough.

    Args:
        axes: whose x axis it is.
        last: the latest moment.
        unit: `epochs` or `steps`.
    """
    axes.set_xlabel(f"{unit} after the expansion")
    if last <= 12:
        axes.set_xlim(-0.02 * last, 1.02 * last)
        return
    axes.set_xscale("symlog", linthresh=1, linscale=0.5)
    decades = [10**power * digit for power in range(9) for digit in (1, 2, 5)]
    ticks = [0, *(tick for tick in decades if tick <= last)]
    if len(ticks) > 8:
        ticks = [0, *(10**power for power in range(9) if 10**power <= last)]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlim(-0.06, 1.1 * last)
