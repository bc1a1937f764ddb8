"""The console: messages, warnings, errors and progress. Used only by the commands and by a running sweep."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from rich.console import Console
from rich.markup import escape
from rich.progress import track as rich_track

T = TypeVar("T")

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


def track(items: Iterable[T], description: str) -> Iterable[T]:
    """Iterate with a progress bar that goes away at the end."""
    return rich_track(items, description, console=err, transient=True)
