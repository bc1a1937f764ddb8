"""The template engine of the report: Jinja with every text escaped, and the macros of assets/macros.html."""

from __future__ import annotations

import base64
import io
import re
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from PIL import Image

from mmbench.report.figures.style import Drawing

COLOURS = 64
"""Colours of a figure that is embedded as PNG: enough for text and markers, at a third of the size."""


def svg(drawing: Drawing) -> Markup:
    """The figure's SVG element, scaled by the page, its ids made unique among the figures."""
    text = drawing.svg.read_text(encoding="utf-8")
    text = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", text[text.index("<svg") :], flags=re.DOTALL)
    opening, rest = text.split(">", 1)
    box = re.search(r'viewBox="[^"]*"', opening)
    stem = escape(drawing.svg.stem)
    rest = rest.replace("xlink:href", "href")
    rest = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{stem}-", rest)
    rest = re.sub(r"\n\s*", "\n", rest)
    return Markup(f'<svg role="img" aria-label="{escape(drawing.alt)}" {box[0] if box else ""}>{rest}')


def png(drawing: Drawing) -> Markup:
    """The figure as an image of few colours: unlike its SVG, it does not grow with the number of points."""
    with Image.open(drawing.png) as image:
        size = f'width="{image.width // 2}" height="{image.height // 2}"'
        small = image.convert("RGB").quantize(COLOURS, dither=Image.Dither.NONE)
    data = io.BytesIO()
    small.save(data, "PNG", optimize=True)
    source = f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"
    return Markup(f'<img src="{source}" {size} alt="{escape(drawing.alt)}">')


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("mmbench.report", "assets"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"svg": svg, "png": png}
    macros = environment.get_template("macros.html").module
    environment.globals |= {name: macro for name, macro in vars(macros).items() if not name.startswith("_")}
    return environment


ENVIRONMENT = _environment()


def render(template: str, **content: Any) -> Markup:
    """Fill in a template that is given as text."""
    return Markup(ENVIRONMENT.from_string(template).render(content))


def asset(name: str) -> Markup:
    """A file of assets/, unchanged."""
    return Markup(files("mmbench.report").joinpath("assets", name).read_text(encoding="utf-8"))
