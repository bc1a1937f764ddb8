"""Follows a sweep: each model is logged when the last of its runs has its record."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from rich.markup import escape

from mmbench import console
from mmbench.run import Run
from mmbench.store.store import Store
from mmbench.tracking.content import Key, key_of_model
from mmbench.tracking.messages import summary, too_many
from mmbench.tracking.options import Tracker, Wandb, logging
from mmbench.tracking.worker import Worker, log_model

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
        """Start the thread."""
        if warning := too_many(self.store.root, self.tracker, len(self._waiting)):
            console.warn(warning)
        self._thread.start()

    def finish(self) -> None:
        """Log the models that have ended and are not logged yet, and print a summary. Ctrl-C skips the rest."""
        self._ended.set()
        try:
            if self._thread.is_alive():
                with console.err.status("logging to W&B"):
                    self._thread.join()
        except KeyboardInterrupt:
            self.abandon()
        console.say(escape(summary(self.counts, self.store.root, self.tracker)))

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
        """Log the models with all runs ended, or, if not `complete`, some."""
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
    """Log the models of a sweep while the block computes them, and the rest after it.

    An error or an exit inside the block passes through; the next command logs the rest.

    Args:
        store: receives the records.
        runs: the sweep.
        tracker: where to log.
        sweep: its name, the W&B group unless the tracker has one.

    Yields:
        The follower, or None if the tracker logs nothing.
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
