"""What users read about the logging of models."""

from __future__ import annotations

import shlex
from collections import Counter
from pathlib import Path

from mmbench.tracking.ledger import MOST_RUNS, Ledger
from mmbench.tracking.options import Wandb


def too_many(root: Path, tracker: Wandb, more: int) -> str | None:
    """A warning if a project would get more runs than W&B is made for.

    Args:
        root: the store's folder.
        tracker: names the project.
        more: models that are about to be logged; those that were logged before count, too.

    Returns:
        The warning, or None.
    """
    count = max(Ledger(root, tracker).count(), more)
    if count <= MOST_RUNS:
        return None
    return (
        f"{count:,} W&B runs in tracker.project = {tracker.project!r}: W&B is slow beyond {MOST_RUNS:,}; log parts "
        "of the store to projects of their own, or use tracker=none and `mmbench analyze`"
    )


def summary(counts: Counter[str], root: Path, tracker: Wandb) -> str:
    """How many models were logged, and how to upload those that are offline.

    Args:
        counts: models by `Logged.where`.
        root: the store's folder.
        tracker: where they were logged.

    Returns:
        One line, or two.
    """
    before = f" ({counts['stored']} before)" * bool(counts["stored"])
    where = ", ".join(f"{counts[where]} {where}" for where in ("online", "offline") if counts[where]) or "nothing new"
    upload = f"\n  to upload        wandb sync {shlex.quote(str(Ledger(root, tracker).files))}" * bool(
        counts["offline"]
    )
    return f"W&B: {where}{before}.{upload}"
