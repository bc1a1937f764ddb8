"""Follows a sweep: each model is logged when the last of its runs has its record."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from mmbench import console
from mmbench.run import Run
from mmbench.store.store import Store
from mmbench.tracking.content import Key, key_of_model
from mmbench.tracking.ledger import MOST_RUNS, Ledger
from mmbench.tracking.options import Tracker, Wandb, logging
from mmbench.tracking.worker import Worker, all_models, log_model

EVERY = 2.0
"""Seconds between two looks at the records of a sweep."""


class Follower:
    """Logs the models of a sweep from a thread of its own. Nothing that goes wrong here reaches the sweep."""

    def __init__(self, store: Store, runs: Iterable[Run], tracker: Wandb, sweep: str) -> None:
        self.store, self.tracker, self.sweep = store, tracker, sweep
        self.counts: Counter[str] = Counter()
        """Models by where they were logged."""
        self.worker = Worker(store.root, tracker, console.warn)
        self._waiting: defaultdict[Key, set[str]] = defaultdict(set)
        for run in runs:
            self._waiting[key_of_model(run.identity())].add(run.run_id)
        self._ended, self._abandoned = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True, name="tracking")

    def start(self) -> None:
        """Begin to look."""
        warn_of_many(self.store.root, self.tracker, len(self._waiting))
        self._thread.start()

    def finish(self) -> None:
        """Log what has ended and is not logged yet, say what was logged. Ctrl-C leaves the rest."""
        self._ended.set()
        try:
            if self._thread.is_alive():
                with console.err.status("logging to W&B"):
                    self._thread.join()
        except KeyboardInterrupt:
            self.abandon()
        say_logged(self.counts, self.store.root, self.tracker)

    def abandon(self) -> None:
        """Stop at once; what was not logged is logged by the next command."""
        self._abandoned.set()
        self._ended.set()
        self.worker.close()
        self._thread.join()

    def _follow(self) -> None:
        try:
            while not self._ended.wait(EVERY):
                self._log(complete=True)
            self._log(complete=True)
            self._log(complete=False)  # runs that were not started, or died without a record
        except Exception as error:
            console.warn(f"tracking has stopped ({type(error).__name__}: {error}); no run depends on it")
        finally:
            self.worker.stop()

    def _log(self, complete: bool) -> None:
        """Log the models of which all runs, or some, have ended."""
        ended = self.store.record_ids()
        for key, runs in list(self._waiting.items()):
            if self._abandoned.is_set():
                return
            if runs <= ended if complete else runs & ended:
                del self._waiting[key]
                if logged := self.worker.do(log_model, key, self.sweep, True):
                    self.counts[logged.where] += 1


@contextmanager
def following(store: Store, runs: Iterable[Run], tracker: Tracker, sweep: str) -> Iterator[Follower | None]:
    """Log the models of a sweep while the block computes them, and what is left after it.

    An error or an exit inside the block passes through, and what is not logged then is left to the next command.
    """
    wandb = logging(tracker)
    if wandb is None:
        yield None
        return
    follower = Follower(store, runs, wandb, sweep)
    follower.start()
    try:
        yield follower
    except BaseException:
        follower.abandon()
        raise
    follower.finish()


def track(root: Path, tracker: Wandb) -> Counter[str]:
    """Log all models of a store that are not logged yet; how many were, by where."""
    worker, counts = Worker(root, tracker, console.warn), Counter[str]()
    try:
        models = worker.do(all_models) or []
        warn_of_many(root, tracker, len(models))
        for key in console.track(models, "logging to W&B"):
            if logged := worker.do(log_model, key, None, False):
                counts[logged.where] += 1
    finally:
        worker.stop()
    return counts


def warn_of_many(root: Path, tracker: Wandb, more: int) -> None:
    """Tell where a project gets more runs than W&B is made for."""
    count = max(Ledger(root, tracker).count(), more)
    if count > MOST_RUNS:
        console.warn(
            f"{count:,} W&B runs in tracker.project = {tracker.project!r}: W&B is slow beyond {MOST_RUNS:,}; log parts "
            "of the store to projects of their own, or leave tracker=none and read `mmbench analyze`"
        )


def say_logged(counts: Counter[str], root: Path, tracker: Wandb) -> None:
    """How many models were logged, and how those that lie offline get online."""
    before = f" ({counts['stored']} before)" * bool(counts["stored"])
    where = ", ".join(f"{counts[where]} {where}" for where in ("online", "offline") if counts[where]) or "nothing new"
    console.say(f"W&B: {where}{before}.")
    if counts["offline"]:
        console.say(f"  to upload        wandb sync {Ledger(root, tracker).files}")
