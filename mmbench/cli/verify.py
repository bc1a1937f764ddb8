"""Check everything that is stored against its checksum.

usage: mmbench verify [results=DIR] [move=true]

Read every stored result, record and sweep, and name those that are damaged; the exit status is then 1. With move=true,
damaged results and records are moved to DIR/damaged, so that the same command as before computes them again, and
mmbench plan no longer counts them as stored. (A run does so with what it reads.)
"""

from __future__ import annotations

from rich.markup import escape

from mmbench import console, text
from mmbench.cli.compose import composed, own_keys, store_of, yes_or_no
from mmbench.launcher.overrides import command as quoted
from mmbench.store.store import Store
from mmbench.store.survey import check_all


def command(arguments: list[str]) -> int:
    """Check a store; returns 1 if something is damaged."""
    own, rest = own_keys(arguments, "move")
    move = yes_or_no(own, "move")
    store = Store(store_of(composed(rest)))
    damaged = list(check_all(store, lambda paths: console.track(paths, "checking")))
    movable = [damage for damage in damaged if damage.path.parent.name != "sweeps"]
    for path, reason in damaged:
        console.say(f"[bold]{escape(str(path))}[/] {escape(reason)}")
        if path.parent.name == "sweeps":
            console.say("  the command that started it writes it again")
    if not damaged:
        console.say(f"Everything in {escape(str(store.root))} is as it was written.")
        return 0
    console.say(f"{text.count(len(damaged), 'damaged file or folder').replace('folders', 'folder')} in total.")
    if move:
        for path, reason in movable:
            store.set_aside(path, reason)
        console.say(f"Moved {len(movable)} to {escape(str(store.root / 'damaged'))}.")
    elif movable:
        again = quoted("verify", results=str(store.root), move=True)
        console.say(f"`{escape(again)}` moves them away, so that they are computed again.")
    return 1
