"""The sweeps that can be run, and those of a store with their state.

usage: mmbench list [-cd DIR] [results=DIR] [format=json]

List the sweeps of mmbench and those in DIR/sweeps (by default ./sweeps) with what they ask, then the sweeps that were
started on the store, the latest last: when, how many of their runs are in which state, and what they compare.
"""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

from rich.markup import escape

from mmbench import console, text
from mmbench.cli import sources
from mmbench.cli.compose import composed, own_keys
from mmbench.cli.output import as_json
from mmbench.paths import choices, root
from mmbench.store.store import Store

COMPARED = ("dataset", "model", "expansion", "training", "metric")
MOST = 4
"""Names of a kind that are listed."""


def command(arguments: list[str]) -> None:
    """List the sweeps."""
    own, rest = own_keys(arguments, "format")
    json, rest = as_json(own), sources.register(rest)
    folder = Path(sources.SearchPath.folder or ".").absolute()
    results = composed(rest)["results"]
    if not isinstance(results, str):
        from mmbench.cli.compose import store_of

        results = str(store_of({"results": results}))
    shipped = [{"name": name, **_told(root() / "sweeps" / f"{name}.yaml")} for name in choices("sweeps")]
    given = [] if folder == root() else sources.own("sweeps", folder)
    mine = [{"name": name, **_told(folder / "sweeps" / f"{name}.yaml")} for name in given]
    started: list[dict[str, Any]] = _started(Store(Path(results), tell=console.warn))
    if json:
        console.say_json({"shipped": shipped, "own": mine, "started": started})
        return
    for heading, told in (("Sweeps of mmbench", shipped), (f"Sweeps in {folder / 'sweeps'}", mine)):
        if told:
            console.say(f"[bold]{escape(heading)}[/]")
        for entry in told:
            console.say(f"  {escape(entry['name'])}: {escape(entry['about'] or '(no comment)')}")
    console.say(f"[bold]Started in {escape(results)}[/]" + ("" if started else ": none"))
    for sweep in started:
        states = ", ".join(f"{count} {state}" for state, count in sweep["states"].items())
        compared = "; ".join(text.listed(names, MOST) for names in sweep["compares"].values())
        console.say(f"  {sweep['name']}  {sweep['started']}  {text.count(sweep['runs'], 'run')}: {states}")
        console.say(f"    {escape(compared)}")


def _told(path: Path) -> dict[str, str]:
    """What the comment at the top of a sweep's file says, without the command."""
    lines = [line.removeprefix("#").strip() for line in _head(path)]
    return {"about": " ".join(line for line in lines if line and not line.startswith(("@package", "mmbench run")))}


def _head(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return lines[: next((i for i, line in enumerate(lines) if not line.startswith("#")), len(lines))]


def _started(store: Store) -> list[dict[str, Any]]:
    """The sweeps of a store, the latest last."""
    from mmbench.cli.status import STATES, census

    states = census(store).states if store.root.is_dir() else {}
    found = []
    for name, sweep in store.named_sweeps().items():
        counts = Counter(states[run_id][0] for run_id in sweep["runs"] if run_id in states)
        configs = list(sweep.get("configs", {}).values())
        compares = {
            group: sorted({str(config[group]["name"]) for config in configs if group in config}) for group in COMPARED
        }
        written = (store.root / "sweeps" / f"{name}.json").stat().st_mtime
        found.append({
            "name": name,
            "started": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(written)),
            "runs": len(sweep["runs"]),
            "states": {state: counts[state] for state in STATES if counts[state]},
            "compares": compares,
        })  # fmt: skip
    return found
