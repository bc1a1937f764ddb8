"""Tables of the report."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def html_table(headings: Sequence[str], rows: Iterable[tuple[Sequence[str], str]], kind: str = "numbers") -> str:
    """Headings and cells are HTML; each row comes with its role, which dims it."""
    head = "".join(f'<th scope="col">{heading}</th>' for heading in headings)
    body = ""
    for cells, dim in rows:
        first, *rest = cells
        body += f'<tr{" class=control" if dim else ""}><th scope="row">{first}</th>'
        body += "".join(f"<td>{cell}</td>" for cell in rest) + "</tr>\n"
    table = f'<table class="{kind}"><thead><tr>{head}</tr></thead><tbody>\n{body}</tbody></table>'
    return f'<div class="wide" tabindex="0">{table}</div>'
