"""One small picture of score against gain per metric, as compact SVG: what the page shows without its script."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape
from typing import Any

import numpy as np

from mmbench.report.points import GLYPHS, Points, positions

WIDTH, HEIGHT = 180, 130
LEFT, RIGHT, TOP, BOTTOM = 32, 6, 6, 18
"""The picture and the margins of its plot, in the picture's units."""


def gallery(points: Points) -> str:
    """A figure per metric, which share their marks."""
    if not points.metrics:
        return ""
    return f"{_marks(points)}<div class=gallery>{''.join(_figure(points, metric) for metric in points.metrics)}</div>"


def legend(points: Points) -> str:
    """Which colour is which operator and which shape which axis, as a list."""
    entries = []
    for place, name in enumerate(points.names["operators"]):
        look = points.looks[place]
        control = " <small>control</small>" if look["hollow"] else ""
        entries.append(f"<li data-operator={place}>{_swatch('circle', look)} {escape(name)}{control}</li>")
    if len(points.names["axes"]) > 1:
        grey = {"colour": "#888888", "edge": "#FFFFFF", "hollow": False}
        for name, shape in zip(points.names["axes"], points.shapes, strict=True):
            entries.append(f"<li>{_swatch(shape, grey)} <small>axis:</small> {escape(name)}</li>")
    return f"<ul class=legend>{''.join(entries)}</ul>"


def _swatch(shape: str, look: dict[str, Any]) -> str:
    return f'<svg viewBox="-7 -7 14 14" aria-hidden=true><path d="{GLYPHS[shape]}" {_paint(look)}/></svg>'


def _paint(look: dict[str, Any]) -> str:
    fill = "#FFFFFF" if look["hollow"] else look["colour"]
    width = 1.6 if look["hollow"] else 0.8
    return f'fill="{fill}" stroke="{look["edge"]}" stroke-width="{width}"'


def _marks(points: Points) -> str:
    """A marker for each operator and shape: a point of a figure is then no more than its two coordinates."""
    shapes = sorted({"circle", *points.shapes})
    markers = "".join(
        f'<marker id="m{place}{shape}" viewBox="-7 -7 14 14" markerWidth="8.4" markerHeight="8.4" '
        f'markerUnits="userSpaceOnUse"><path d="{GLYPHS[shape]}" {_paint(look)}/></marker>'
        for place, look in enumerate(points.looks)
        for shape in shapes
    )
    return f'<svg class=marks width="0" height="0" aria-hidden=true><defs>{markers}</defs></svg>'


def _figure(points: Points, metric: dict[str, Any]) -> str:
    scores = np.array([point[1] for point in metric["points"]], dtype=float)
    gains = np.array([point[2] for point in metric["points"]], dtype=float)
    places = positions(scores, metric["scale"], metric["linear"])
    across = _stretched(places, LEFT, WIDTH - RIGHT)
    up = _stretched(np.append(gains, 0.0), HEIGHT - BOTTOM, TOP)
    groups: dict[str, list[str]] = {}
    for point, x, y in zip(metric["points"], across, up, strict=False):  # `up` ends with the line at 0
        _, _, operator, axis, *_ = points.configurations[point[0]]
        shape = points.shapes[axis] if axis >= 0 else "circle"
        groups.setdefault(f"m{operator}{shape}", []).append(f"{x:.0f} {y:.0f}")
    paths = "".join(_path(marker, places) for marker, places in sorted(groups.items()))
    name = escape(metric["name"])
    alt = f"Score against gain for {name}, one point per configuration: {metric['summary']}; {metric['theory']}."
    return (
        f'<figure data-metric="{name}"><figcaption><b>{name}</b> <small>{escape(metric["role"])}</small><br>'
        f"<small>{escape(metric['summary'])}</small></figcaption>"
        f'<svg role=img aria-label="{alt}" viewBox="0 0 {WIDTH} {HEIGHT}">'
        f'<path class=zero d="M{LEFT} {up[-1]:.0f}H{WIDTH - RIGHT}"/>'
        f'<path class=frame d="M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}"/>'
        f"{_ticks(scores, gains)}{paths}</svg></figure>\n"
    )


def _path(marker: str, places: Iterable[str]) -> str:
    line = "L".join(places)
    ends = " ".join(f'marker-{where}="url(#{marker})"' for where in ("start", "mid", "end"))
    return f'<path class=dots d="M{line}" {ends}/>'


def _stretched(values: np.ndarray[Any, Any], low: float, high: float) -> np.ndarray[Any, Any]:
    """Values on the way from one coordinate to the other, with a margin of 4 % at both ends."""
    span = np.ptp(values)
    share = (values - values.min()) / span if span > 0 else np.full(len(values), 0.5)
    return low + (0.04 + 0.92 * share) * (high - low)


def _ticks(scores: np.ndarray[Any, Any], gains: np.ndarray[Any, Any]) -> str:
    """The smallest and the largest score below, the smallest and the largest gain (in points) at the left."""
    bottom, edge = HEIGHT - 7, HEIGHT - BOTTOM - 4
    texts = [(LEFT, bottom, "start", number(scores.min())), (WIDTH - RIGHT, bottom, "end", number(scores.max()))]
    with_zero = np.append(gains, 0.0)
    texts += [
        (LEFT - 4, edge, "end", f"{100 * with_zero.min():.1f}".removesuffix(".0").replace("-", "\N{MINUS SIGN}")),
        (LEFT - 4, TOP + 10, "end", f"{100 * with_zero.max():.1f}".removesuffix(".0")),
    ]
    return "".join(f'<text x="{x}" y="{y}" text-anchor="{anchor}">{text}</text>' for x, y, anchor, text in texts)


def number(value: float) -> str:
    """Three significant digits with a true minus sign; powers of ten only where the number would be long."""
    text = f"{value:.0f}" if 1000 <= abs(value) < 1e6 else f"{value:.3g}".replace("e+0", "e").replace("e-0", "e-")
    return text.replace("-", "\N{MINUS SIGN}")
