"""What a sweep would do: jobs, what is stored, what is skipped and why, cost; starts nothing.

usage: mmbench plan [OVERRIDES]

Show what `mmbench run -m` with the same overrides would do, without starting anything.

  mmbench plan sweeps=quickstart

{groups}
"""

from __future__ import annotations

from typing import Any

from rich.markup import escape
from rich.table import Table

from mmbench import console
from mmbench.cli.compose import hand_over, many_runs
from mmbench.launcher.overrides import command as quoted
from mmbench.store.stages import OPTIONAL, STAGES


def command(arguments: list[str]) -> int:
    """Let Hydra's sweeper hand the runs to `print_plan`."""
    return hand_over("plan", many_runs(arguments, "hydra/launcher=plan"))


def print_plan(runs: list[Any], settings: Any) -> None:
    """Print what a sweep would do.

    Args:
        runs: the sweep, without repeats.
        settings: names the store.
    """
    from mmbench.launcher.plan import StagePlan, plan

    planned = plan(runs, settings)
    skipped = sum(planned.skipped.values())
    console.say(
        f"[bold]{planned.runs} runs[/]: {planned.runs - skipped} defined, {skipped} skipped; "
        f"{planned.recorded} have their record in {escape(settings.results)} already."
    )
    table = Table("stage", "distinct", "stored", "to compute", "worker time", box=None, padding=(0, 2, 0, 0))
    for kind, description in STAGES.items():
        stage = planned.stages.get(kind, StagePlan(0, 0, 0.0, 0, 0))
        if kind not in planned.stages and kind in OPTIONAL:
            continue
        counts = stage.distinct, stage.distinct - stage.missing, stage.missing
        table.add_row(description.results, *map(str, counts), _cost(kind, stage))
    console.out.print(table)
    if planned.damaged:
        verify = quoted("verify", results=settings.results)
        console.warn(f"{planned.damaged} stored results are damaged and count as not stored; {verify} names them")
    for combination, count in sorted(planned.skipped.items()):
        console.say(f"[yellow]skipped[/] {count} runs: {escape(combination)}")


def _cost(kind: str, stage: Any) -> str:
    """Seconds on one CPU thread if the store has timings; else the training steps."""
    if kind in ("expanded", "snapshot") or not stage.missing:
        return "-"
    parts = [f"{stage.seconds:.2g} s"] if stage.seconds else []
    if stage.untimed:
        untimed = f"{stage.untimed}" if kind == "score" else f"{stage.untimed_steps:,} steps"
        parts.append(f"{untimed} not timed yet")
    return " + ".join(parts)
