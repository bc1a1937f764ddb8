"""Log the finished models of a store to Weights & Biases.

usage: mmbench track [results=DIR] tracker=wandb [tracker.OPTION=...]

Log the models of a store that are not in Weights & Biases yet: one W&B run per trained model, with its training curves,
accuracy, gain, and the score of every metric. Each model is logged once; if it has new scores, it is logged again as a
whole. `mmbench run ... tracker=wandb` does the same while a sweep runs.

  mmbench track tracker=wandb tracker.project=growing tracker.entity=my_team
  mmbench track tracker=wandb tracker.mode=offline       files for `wandb sync`, no network

If W&B cannot be reached, the rest is logged offline; the same command logs it online later. Options: mode (online,
offline, disabled), project, entity, group (default: the sweep), tags, time_limit (seconds for one model).
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from rich.markup import escape

from mmbench import console
from mmbench.cli.compose import composed, needed_tracker, store_of
from mmbench.tracking.messages import summary, too_many
from mmbench.tracking.options import Wandb
from mmbench.tracking.worker import Worker, all_models, log_model


def command(arguments: list[str]) -> None:
    """Log the models of a store that are not logged yet."""
    config = composed(arguments)
    root, tracker = store_of(config).absolute(), needed_tracker(config)
    if not (root / "records").is_dir():
        console.say(f"Nothing to log: {escape(str(root))} holds no records; create some with mmbench run.")
        return
    console.say(escape(summary(track(root, tracker), root, tracker)))


def track(root: Path, tracker: Wandb) -> Counter[str]:
    """Log all models of a store that are not logged yet; returns how many were logged online, offline or before."""
    worker, counts = Worker(root, tracker, console.warn), Counter[str]()
    try:
        models = worker.do(all_models) or []
        if warning := too_many(root, tracker, len(models)):
            console.warn(warning)
        for key in console.track(models, "logging to W&B"):
            if logged := worker.do(log_model, key, None, False):
                counts[logged.where] += 1
    finally:
        worker.stop()
    return counts
