"""The console: messages, warnings, errors and progress. Used only by the commands and by a running sweep."""

from __future__ import annotations

import codecs
import io
import json
import sys
from collections.abc import Iterable
from typing import Any, TypeVar

from rich.console import Console
from rich.markup import escape
from rich.progress import track as rich_track

T = TypeVar("T")
PLAIN = {
    "\N{MINUS SIGN}": "-", "\N{EN DASH}": "-", "\N{EM DASH}": "-", "\N{DEGREE SIGN}": "o", "\N{PLUS-MINUS SIGN}": "+-",
    "\N{HORIZONTAL ELLIPSIS}": "...", "\N{GREEK SMALL LETTER RHO}": "rho", "\N{MULTIPLICATION SIGN}": "x",
    "\N{LESS-THAN OR EQUAL TO}": "<=", "\N{GREATER-THAN OR EQUAL TO}": ">=", "\N{RIGHTWARDS ARROW}": "->",
    "\N{GREEK CAPITAL LETTER DELTA}": "Delta", "\N{BULLET}": "*", "\N{MIDDLE DOT}": ".",
}  # fmt: skip
"""Our own characters in ASCII."""


def _plainly(error: UnicodeError) -> tuple[str, int]:
    """What is written for characters that the output's encoding lacks: our own in ASCII, others as `?`."""
    assert isinstance(error, UnicodeEncodeError)
    return "".join(PLAIN.get(character, "?") for character in error.object[error.start : error.end]), error.end


codecs.register_error("mmbench", _plainly)
for stream in (sys.stdout, sys.stderr):
    # Only where a character may be missing: ASCII, Latin-1, code pages.
    if isinstance(stream, io.TextIOWrapper) and not stream.encoding.lower().startswith("utf"):
        stream.reconfigure(errors="mmbench")

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)


def error(message: str) -> None:
    """Show an error."""
    err.print(f"[bold red]error:[/] {escape(message)}", soft_wrap=True)


def warn(message: str) -> None:
    """Show a note."""
    err.print(f"[yellow]note:[/] {escape(message)}", soft_wrap=True)


def say(message: str) -> None:
    """Show a line of text; rich markup is understood."""
    out.print(message, soft_wrap=True)


def say_json(content: Any) -> None:
    """Print JSON, for other programs: ASCII, and the same width in every terminal."""
    out.file.write(json.dumps(content, indent=2) + "\n")


def track(items: Iterable[T], description: str) -> Iterable[T]:
    """Iterate with a progress bar that goes away at the end."""
    return rich_track(items, description, console=err, transient=True)
