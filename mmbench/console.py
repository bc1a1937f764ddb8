"""What people see: the one console, progress, and short texts. Nothing else in mmbench prints."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, TypeVar

from rich.console import Console
from rich.markup import escape
from rich.progress import track as rich_track

T = TypeVar("T")

out = Console(highlight=False)
err = Console(stderr=True, highlight=False)

STAGES = {
    "base": "base models trained",
    "expanded": "expansions",
    "score": "scores",
    "trained": "expanded models trained",
}
"""The stages of a run, in words."""
DOING = {
    "base": "training the base model",
    "expanded": "expanding it",
    "score": "measuring the expanded model",
    "trained": "training the expanded model",
}
"""What a run is at."""


def error(message: str) -> None:
    """Show what went wrong."""
    err.print(f"[bold red]error:[/] {escape(message)}", soft_wrap=True)


def warn(message: str) -> None:
    """Show what is odd."""
    err.print(f"[yellow]note:[/] {escape(message)}", soft_wrap=True)


def say(message: str) -> None:
    """Show a line of text; rich markup is understood."""
    out.print(message, soft_wrap=True)


def track(items: Iterable[T], description: str) -> Iterable[T]:
    """Iterate with a progress bar that goes away at the end."""
    return rich_track(items, description, console=err, transient=True)


def counted(counts: Counter[str], words: dict[str, str]) -> str:
    """`3 base models trained, 24 scores`; what is zero is left out."""
    return ", ".join(f"{counts[key]:,} {text}" for key, text in words.items() if counts[key])


def number(value: Any, digits: int = 4) -> str:
    """A number for people, or a dash."""
    return "-" if value is None else f"{value:.{digits}g}"
