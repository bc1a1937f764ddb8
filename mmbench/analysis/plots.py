"""Figures: score against gain for each metric, and all metrics' correlations beside each other.

Everything is drawn on `Figure` objects, without pyplot: no display, and no global state is left changed. Colours are
Paul Tol's "muted" scheme (2021), which readers with colour blindness can tell apart.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from mmbench.analysis.frame import replacing
from mmbench.analysis.statistics import CONTROLS, configurations, decided, ranked, role, runs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from matplotlib.axes import Axes

PALETTE = ("#332288", "#CC6677", "#117733", "#DDAA33", "#88CCEE", "#882255", "#44AA99", "#999933", "#AA4499")
CONTROL_COLOURS = {"none": "#222222", "scratch": "#999999", "scratch_matched": "#BBBBBB"}
MARKERS = "osD^vPXp*h<>"
AGREES, CONTRADICTS, OPEN = "#0072B2", "#D55E00", "#8A8A8A"
INK = "#333333"
STYLE: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.edgecolor": "#888888",
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.constrained_layout.use": True,
    "text.parse_math": False,  # a name may hold a dollar sign
    "svg.hashsalt": "mmbench",  # the same records give the same bytes
}


@dataclass(frozen=True)
class Drawing:
    """One figure on disk, as PNG and SVG."""

    title: str
    alt: str
    """What a reader who cannot see the figure needs to know."""
    png: Path
    svg: Path


def draw(frame: pd.DataFrame, correlations: pd.DataFrame, folder: Path) -> list[Drawing]:
    """Draw the overview and one scatter per metric into `folder`; figures there of an earlier analysis are removed.

    A metric without a run that counts has no scatter; without any, nothing is drawn.
    """
    units = configurations(frame, "gain")
    folder.mkdir(parents=True, exist_ok=True)
    drawings = []
    with rc_context(STYLE):
        if len(units):
            rows = ranked(correlations)
            drawings.append(_saved(_overview(rows), folder, "overview", "All metrics", _overview_alt(rows)))
            points = runs(frame, "gain")
            looks = _Looks(units["expansion"].dropna(), units["model"].dropna())
            for row in rows[rows["n"] > 0].to_dict("records"):
                metric = row["metric"]
                figure = _scatter(units[units["metric"] == metric], points[points["metric"] == metric], row, looks)
                alt = f"Score against gain for {metric}, one point per configuration: {summary(row)}."
                drawings.append(_saved(figure, folder, f"scatter_{_safe(metric)}", metric, alt))
    written = {path for drawing in drawings for path in (drawing.png, drawing.svg)}
    for path in {*folder.glob("scatter_*.png"), *folder.glob("scatter_*.svg"), *folder.glob("overview.*")} - written:
        path.unlink()
    return drawings


def summary(row: Mapping[Any, Any]) -> str:
    """A row of `correlate` in short: rho, its interval, and how much it rests on."""
    if pd.isna(row["spearman"]):
        rho = "ρ undefined"
    elif pd.isna(row["ci_low"]):
        rho = f"ρ = {signed(row['spearman'])}"
    else:
        rho = f"ρ = {signed(row['spearman'])} [{signed(row['ci_low'])}, {signed(row['ci_high'])}]"
    return f"{rho}, n = {row['n_configurations']} configurations ({row['n']} runs)"


def signed(value: float) -> str:
    """Two decimals, with a true minus sign; a dash for null."""
    return "–" if pd.isna(value) else f"{value:.2f}".replace("-0.00", "0.00").replace("-", "\N{MINUS SIGN}")


class _Looks:
    """Which colour, fill and marker stand for which expansion and model; the same in every figure."""

    def __init__(self, expansions: Iterable[str], models: Iterable[str]) -> None:
        names = sorted(set(expansions))
        grown = [name for name in names if name not in CONTROLS]
        # Past the palette the colours come again, hollow.
        self.colours = {name: PALETTE[place % len(PALETTE)] for place, name in enumerate(grown)}
        self.hollow = set(grown[len(PALETTE) :])
        self.expansions = [*grown, *(name for name in names if name in CONTROLS)]
        self.markers = {name: MARKERS[place % len(MARKERS)] for place, name in enumerate(sorted(set(models)))}

    def of(self, expansion: Any, model: Any) -> dict[str, Any]:
        """Keywords of `Axes.plot` for a point."""
        colour = CONTROL_COLOURS.get(expansion) or self.colours.get(expansion, OPEN)
        marker = self.markers.get(model, "o")
        return {
            "marker": marker,
            "markerfacecolor": "white" if expansion in self.hollow else colour,
            "markeredgecolor": colour if expansion in self.hollow else "white",
            "markeredgewidth": 1.4 if expansion in self.hollow else 0.7,
            "linestyle": "none",
        }

    def legend(self) -> list[Line2D]:
        """One entry per expansion, then one per model if there are several."""
        model = next(iter(self.markers), None) if len(self.markers) == 1 else None
        names = {name: f"{name} (control)" if name in CONTROLS else name for name in self.expansions}
        entries = [Line2D([], [], label=label, markersize=8, **self.of(name, model)) for name, label in names.items()]
        if len(self.markers) > 1:
            grey: dict[str, Any] = {
                "color": "#BBBBBB",
                "markeredgecolor": "#555555",
                "linestyle": "none",
                "markersize": 7,
            }
            entries += [
                Line2D([], [], label=f"model: {name}", marker=mark, **grey) for name, mark in self.markers.items()
            ]
        return entries


def _scatter(units: pd.DataFrame, points: pd.DataFrame, row: Mapping[Any, Any], looks: _Looks) -> Figure:
    """Score against gain: a mark per configuration, a faint one per run."""
    entries = looks.legend()
    longest = max(len(str(entry.get_label())) for entry in entries) if entries else 0
    columns = 3 if longest <= 20 else 2 if longest <= 34 else 1
    lines = -(-len(entries) // columns)
    figure = Figure(figsize=(5.6, 4.2 + 0.2 * lines))
    axes = figure.subplots()
    _scale(axes, pd.concat([units["score"], points["score"]]).to_numpy())
    axes.axhline(0, color="#888888", linewidth=0.8, zorder=1)
    single = dict(list(points.groupby("configuration")))
    for unit in units.to_dict("records"):
        look = looks.of(unit["expansion"], unit["model"])
        axes.plot(unit["score"], unit["target"], **look, markersize=9, zorder=3)
        for point in single[unit["configuration"]].to_dict("records") if unit["n"] > 1 else []:
            line = [unit["score"], point["score"]], [unit["target"], point["gain"]]
            axes.plot(*line, color="#000000", alpha=0.1, linewidth=0.8, zorder=1.5)
            axes.plot(point["score"], point["gain"], **look, markersize=4.5, alpha=0.4, zorder=2)
    sign = row["expected_sign"]
    theory = (
        "theory says nothing"
        if pd.isna(sign) or sign == 0
        else f"theory: {'larger' if sign > 0 else 'smaller'} is better"
    )
    axes.set_xlabel(f"score ({theory})")
    axes.set_ylabel("gain (accuracy)")
    axes.yaxis.set_major_formatter(
        FuncFormatter(lambda value, _: f"{value:+.3g}".replace("-", "\N{MINUS SIGN}") if value else "0")
    )
    axes.set_title(f"{row['metric']}\n", loc="left", fontweight="bold")
    axes.text(0, 1.02, summary(row), transform=axes.transAxes, fontsize=10, va="bottom")
    figure.legend(handles=entries, loc="outside lower center", ncols=columns, handletextpad=0.2, columnspacing=1.2)
    return figure


def _scale(axes: Axes, scores: Any) -> None:
    """A logarithmic axis where the scores span more than two decades; symlog where they also reach zero or below."""
    size = np.abs(scores[scores != 0])
    positive = scores.min() > 0
    typical = np.quantile(size, 0.05 if positive else 0.5) if size.size else 1.0
    if (
        not size.size or size.max() < 100 * typical
    ):  # scores of both signs always come near 0: their median is what counts
        axes.xaxis.set_major_locator(MaxNLocator(6))
    elif positive:
        axes.set_xscale("log")
    else:
        axes.set_xscale("symlog", linthresh=10 ** np.floor(np.log10(np.quantile(size, 0.25))))
    if axes.get_xscale() != "linear":
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: _power(value)))
        axes.xaxis.set_minor_formatter(NullFormatter())


def _power(value: float) -> str:
    """A power of ten in plain text: 10³, −10⁻², 0."""
    if value == 0:
        return "0"
    exponent = str(round(np.log10(abs(value)))).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{'−' if value < 0 else ''}10{exponent}"


def _overview(rows: pd.DataFrame) -> Figure:
    """A forest plot: Spearman's rho with its interval for each metric, and the value inside equal-budget groups."""
    figure = Figure(figsize=(6.8, 1.9 + 0.42 * len(rows)))
    whole, equal = figure.subplots(1, 2, sharey=True, width_ratios=(3, 2))
    places = np.arange(len(rows))
    for place, row in zip(places, rows.to_dict("records"), strict=True):
        tested = not role(row["metric"], row["expected_sign"])
        look: dict[str, Any] = {
            "marker": "o" if tested else "D",
            "markersize": 8 if tested else 7,
            "linestyle": "none",
            "zorder": 3,
        }
        if not tested:
            for axes in (whole, equal):
                axes.axhspan(place - 0.5, place + 0.5, color="#F1F1EC", linewidth=0, zorder=0)
        colour = _colour(row)
        face = colour if tested else "white"
        whole.plot([row["ci_low"], row["ci_high"]], [place, place], color=colour, linewidth=2, zorder=2)
        whole.plot(row["spearman"], place, **look, markerfacecolor=face, markeredgecolor=colour, markeredgewidth=1.6)
        value = row["equal_budget_spearman"]
        if pd.isna(value):
            equal.text(0, place, "not defined", ha="center", va="center", color="#777777", fontsize=9, zorder=4,
                       bbox={"facecolor": "white" if tested else "#F1F1EC", "linewidth": 0, "pad": 1})  # fmt: skip
        else:
            dark = {"markerfacecolor": INK if tested else "white", "markeredgecolor": INK, "markeredgewidth": 1.6}
            equal.plot(value, place, **look, **dark)
    for axes, title in ((whole, "all configurations, 95 % interval"), (equal, "at equal budget")):
        axes.axvline(0, color="#888888", linewidth=1, zorder=1)
        axes.set_xlim(-1.08, 1.08)
        axes.set_xticks([-1, -0.5, 0, 0.5, 1], ["\N{MINUS SIGN}1", "\N{MINUS SIGN}0.5", "0", "0.5", "1"])
        axes.set_title(title, fontsize=10)
        axes.grid(visible=False, axis="y")
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
    whole.set_yticks(places, [f"{row.metric} ({_expected(row.expected_sign)})" for row in rows.itertuples()])
    whole.set_ylim(len(rows) - 0.5, -0.5)
    whole.set_xlabel("Spearman's ρ of score and gain")
    figure.legend(handles=_overview_legend(), loc="outside lower center", ncols=2, columnspacing=1.4)
    return figure


def _overview_legend() -> list[Line2D]:
    lines = {
        "as expected, interval excludes 0": AGREES,
        "against expectation, interval excludes 0": CONTRADICTS,
        "open: includes 0, or no sign expected": OPEN,
    }
    entries = [Line2D([], [], color=colour, linewidth=2, label=label) for label, colour in lines.items()]
    hollow: dict[str, Any] = {"marker": "D", "markerfacecolor": "white", "markeredgecolor": INK, "markeredgewidth": 1.6}
    return [*entries, Line2D([], [], label="baseline or negative control", linestyle="none", **hollow)]


def _colour(row: Mapping[Any, Any]) -> str:
    if not decided(row) or pd.isna(row["sign_agrees"]):
        return OPEN
    return AGREES if row["sign_agrees"] else CONTRADICTS


def _expected(sign: Any) -> str:
    return "0" if pd.isna(sign) or sign == 0 else "+" if sign > 0 else "\N{MINUS SIGN}"


def _overview_alt(rows: pd.DataFrame) -> str:
    values = "; ".join(f"{row['metric']} {signed(row['spearman'])}" for row in rows.to_dict("records"))
    return f"Spearman correlation of each metric with the gain, best agreement with theory first: {values}."


def _safe(name: str) -> str:
    """A metric's name as part of a file name; one that had to be changed carries a hash, so that two never meet."""
    safe = re.sub(r"[^A-Za-z0-9_.-]", "_", name)[:80]
    return safe if safe == name else f"{safe}_{sha256(name.encode()).hexdigest()[:8]}"


def _saved(figure: Figure, folder: Path, stem: str, title: str, alt: str) -> Drawing:
    png, svg = folder / f"{stem}.png", folder / f"{stem}.svg"
    with replacing(png) as path:
        figure.savefig(path, format="png", dpi=160)
    figure.set_layout_engine("none")  # laid out already; the SVG is to look the same
    with replacing(svg) as path:
        figure.savefig(path, format="svg", metadata={"Date": None})
    return Drawing(title, alt, png, svg)
