"""What a sweep would do: counts, skipped combinations, cost. Starts nothing."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from statistics import median
from typing import Any

from rich.markup import escape
from rich.table import Table

from mmbench import console
from mmbench.config import Settings
from mmbench.errors import UndefinedError
from mmbench.run import Run, is_final
from mmbench.store.files import read_json
from mmbench.store.stages import STAGES
from mmbench.store.store import Store, key_of, look


def print_plan(runs: list[Run], settings: Settings) -> None:
    """Print the plan of a sweep."""
    store = Store(Path(settings.results))
    skipped: Counter[str] = Counter()
    wanted: defaultdict[str, dict[str, Run]] = defaultdict(dict)
    stored_runs = 0
    for run in runs:
        try:
            run.target()
        except UndefinedError as reason:
            skipped[f"{run.model.name} x {run.expansion.name}: {reason}"] += 1
            continue
        record = look(store.root / "records" / f"{run.run_id}.json").record
        stored_runs += record is not None and is_final(record)
        for kind, inputs in run.stages.items():
            wanted[kind].setdefault(key_of(kind, inputs), run)

    console.say(
        f"[bold]{len(runs)} runs[/]: {len(runs) - sum(skipped.values())} defined, {sum(skipped.values())} skipped; "
        f"{stored_runs} have their record in {escape(settings.results)} already."
    )
    table = Table("stage", "distinct", "stored", "to compute", "worker time", box=None, padding=(0, 2, 0, 0))
    known = _seconds_by_stage(store)
    for kind, stage in STAGES.items():
        missing = {key: run for key, run in wanted[kind].items() if not store.has(kind, run.stages[kind])}
        counts = (len(wanted[kind]), len(wanted[kind]) - len(missing), len(missing))
        table.add_row(stage.results, *map(str, counts), _cost(kind, missing, known))
    console.out.print(table)
    for combination, count in sorted(skipped.items()):
        console.say(f"[yellow]skipped[/] {count} runs: {escape(combination)}")


def _seconds_by_stage(store: Store) -> dict[tuple[str, str, str], float]:
    """Median seconds of the stored results, by stage, model family and (for scores) metric."""
    seconds: defaultdict[tuple[str, str, str], list[float]] = defaultdict(list)
    for path in (store.root / "stages").glob("*/*/result.json"):
        content = read_json(path)
        if content and content["values"].get("seconds"):
            model, metric = _model_and_metric(content["inputs"])
            seconds[content["kind"], model, metric].append(content["values"]["seconds"])
    return {key: median(values) for key, values in seconds.items()}


def _model_and_metric(inputs: dict[str, Any]) -> tuple[str, str]:
    base = inputs
    while "model" not in base:
        base = base["expanded"] if "expanded" in base else base["base"]
    return base["model"]["name"], inputs.get("metric", {}).get("name", "")


def _cost(kind: str, missing: dict[str, Run], known: dict[tuple[str, str, str], float]) -> str:
    """Seconds of one CPU thread, if the store has times of such stages; else the training steps."""
    if kind == "expanded" or not missing:
        return "-"
    seconds, untimed = 0.0, []
    for run in missing.values():
        key = (kind, run.model.name, run.metric.name if kind == "score" else "")
        if key in known:
            seconds += known[key]
        else:
            untimed.append(run)
    parts = [f"{seconds:.2g} s"] if seconds else []
    if untimed and kind == "score":
        parts.append(f"{len(untimed)} not timed yet")
    elif untimed:
        parts.append(f"{sum(run.training.steps for run in untimed):,} steps not timed yet")
    return " + ".join(parts)
