"""Small pieces of HTML that are safe to put together: text is escaped here, once."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from mmbench.report.figures.style import Drawing


@dataclass(frozen=True)
class Html:
    """Text that is HTML already; any other text is escaped when it becomes part of a page."""

    text: str


def html(value: Any) -> str:
    """A value as HTML."""
    return value.text if isinstance(value, Html) else escape(str(value))


def html_table(
    headings: Sequence[Any],
    rows: Iterable[tuple[Sequence[Any], Any]],
    kind: str = "numbers",
    caption: str = "",
    text_columns: Iterable[int] = (),
) -> str:
    """A table in a box of its own, which scrolls sideways where it is too wide for the page.

    Args:
        headings: one per column.
        rows: cells, and the row's role, which dims it. The first cell heads its row.
        kind: the table's class; `words` aligns to the left.
        caption: what the table shows.
        text_columns: columns of running text, which may break.
    """
    wraps = set(text_columns)
    classes = [' class="text"' if place in wraps else "" for place in range(len(headings))]
    head = "".join(f'<th scope="col"{c}>{html(text)}</th>' for text, c in zip(headings, classes, strict=True))
    body = ""
    for cells, dim in rows:
        first, *rest = cells
        body += f'<tr{" class=control" if dim else ""}><th scope="row"{classes[0]}>{html(first)}</th>'
        body += "".join(f"<td{c}>{html(cell)}</td>" for cell, c in zip(rest, classes[1:], strict=True)) + "</tr>\n"
    title = f"<caption><span>{escape(caption)}</span></caption>" if caption else ""
    table = f'<table class="{kind}">{title}<thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table>'
    label = f' role="region" aria-label="{escape(caption)}"' if caption else ""
    return f'<div class="wide" tabindex="0"{label}>{table}</div>'


def inline_svg(drawing: Drawing) -> str:
    """The drawing as a figure: only the SVG element, scaled by the page, its ids made unique among the figures."""
    svg = drawing.svg.read_text(encoding="utf-8")
    svg = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    opening, rest = svg.split(">", 1)
    box = re.search(r'viewBox="[^"]*"', opening)
    stem = escape(drawing.svg.stem)
    rest = rest.replace("xlink:href", "href")
    rest = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{stem}-", rest)
    rest = re.sub(r"\n\s*", "\n", rest)
    label = escape(drawing.alt)
    return f'<figure><svg role="img" aria-label="{label}" {box[0] if box else ""}>{rest}</figure>\n'


def paragraphs(sentences: Iterable[str]) -> str:
    """A paragraph each."""
    return "".join(f"<p>{escape(sentence)}</p>\n" for sentence in sentences)


def bullets(sentences: Sequence[str], kind: str = "") -> str:
    """A list of sentences; nothing for none."""
    items = "".join(f"<li>{escape(sentence)}</li>\n" for sentence in sentences)
    return f'<ul class="{kind}">{items}</ul>' if items else ""
