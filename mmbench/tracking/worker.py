"""The process beside a command that talks to the W&B client: what it is asked, and who asks it.

The client hangs, dies or prints as it likes: its process is ended when a model takes too long, and the next begins with
a new one. Where W&B cannot be reached, the rest is logged offline, after one warning.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
from collections.abc import Callable
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

from pebble import ProcessExpired, ProcessPool

from mmbench.store.processes import Process, end_with, this_process
from mmbench.tracking.client import Logged, log
from mmbench.tracking.content import Key, Models
from mmbench.tracking.ledger import Ledger
from mmbench.tracking.options import Wandb

FAILURES = 3
"""Models that may fail offline, too, before nothing more is logged."""


class Worker:
    """Runs tasks in the client's process, one at a time. Never raises what a task raises: it tells.

    Args:
        root: the store's folder.
        tracker: what to log to.
        tell: receives a warning.
        command: what is to be called again when W&B is back.
    """

    def __init__(self, root: Path, tracker: Wandb, tell: Callable[[str], None], command: str = "track") -> None:
        self.root, self.tracker, self.tell, self.command = root, tracker, tell, command
        self.mode: str = tracker.mode
        """`disabled` after too many failures."""
        self._failures = 0
        self._pool: ProcessPool | None = None

    def do(self, task: Callable[..., Any], *given: Any) -> Any:
        """What `task(root, tracker, mode, *given)` returns there, or None if it came to nothing, after a warning."""
        while self.mode != "disabled":
            try:
                if self._pool is None:
                    context, parent = multiprocessing.get_context("spawn"), this_process()
                    self._pool = ProcessPool(max_workers=1, context=context, initializer=_begin, initargs=(parent,))
                arguments = [self.root, self.tracker, self.mode, *given]
                return self._pool.schedule(task, args=arguments, timeout=self.tracker.time_limit).result()
            except (Exception, CancelledError) as error:
                if self.mode == "disabled":  # closed meanwhile
                    return None
                self.stop()
                if not self._failed(_reason(error, self.tracker.time_limit)):
                    return None
        return None

    def _failed(self, reason: str) -> bool:
        """Tell of a failure, once of each kind; whether the task is to be tried again."""
        if self.mode == "online":
            self.mode = "offline"
            self.tell(
                f"W&B cannot be reached ({reason}): going on offline; when it is back, call mmbench {self.command} "
                f"results={self.root} tracker=wandb"
            )
            return True
        self._failures += 1
        if self._failures >= FAILURES:
            self.mode = "disabled"
        if self._failures == 1:
            self.tell(f"W&B's client fails offline, too ({reason}): this is not logged; no result depends on it")
        return False

    def close(self) -> None:
        """Do nothing more, from now on, whatever is under way."""
        self.mode = "disabled"
        self.stop()

    def stop(self) -> None:
        """End the process, whatever it is at."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.stop()
            pool.join()


def _reason(error: BaseException, limit: float) -> str:
    """Why a task came to nothing, in one line."""
    if isinstance(error, TimeoutError):
        return f"no answer within tracker.time_limit = {limit:g} s"
    if isinstance(error, ProcessExpired):
        return f"its process died, exit code {error.exitcode}"
    text = " ".join(str(error).split()) or "no reason was given"
    return f"{type(error).__name__}: {text}"[:300]


# -- in the process --------------------------------------------------------------------------------------------------


def _begin(parent: Process) -> None:
    """Be silent, and leave Ctrl-C to the parent: in a session of its own, so that the client's helper does, too."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "setsid"):
        os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    end_with(parent)  # once the command has been killed, nobody else limits what the client does


@functools.cache
def _models(root: Path) -> Models:
    return Models(root)


def all_models(root: Path, tracker: Wandb, mode: str) -> list[Key]:
    """The task: the models of the store."""
    return _models(root).look()


def log_model(root: Path, tracker: Wandb, mode: str, key: Key, group: str | None, new: bool) -> Logged | None:
    """The task: log one model, of which there may be `new` records; None if the store has none of it."""
    models = _models(root)
    if new or key not in models.records:
        models.look()
    if key not in models.records:
        return None
    content = models.content(key, tracker.tags)
    return log(content, tracker, mode, Ledger(root, tracker), tracker.group or group or models.sweep(key))
