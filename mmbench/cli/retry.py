"""Run again what failed.

usage: mmbench retry [results=DIR] [OVERRIDES]

Run the failed runs of all sweeps of a store again, with the options stored when their sweeps started. Runs that
diverged, or whose score is not a finite number, would fail in the same way and are not repeated.

  mmbench retry hydra.launcher.slots=1 hydra.launcher.time_limit=3600
"""

from __future__ import annotations

from mmbench.cli.compose import hand_over, many_runs


def command(arguments: list[str]) -> int:
    """Run them again."""
    return hand_over("retry", many_runs(arguments, "hydra/sweeper=retry"))
