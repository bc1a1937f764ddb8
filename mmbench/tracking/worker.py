"""The process that talks to the W&B client, and the object that gives it tasks.

The client may hang, die or print: its process is ended when a model takes too long, and the next task gets a new one.
If W&B cannot be reached, the rest is logged offline, after one warning.
"""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmbench.store.child import Child, DeadError
from mmbench.store.processes import Process, end_with, this_process
from mmbench.tracking.client import Logged, log
from mmbench.tracking.content import Key, Models
from mmbench.tracking.ledger import Ledger
from mmbench.tracking.options import Wandb

FAILURES = 3
"""After this many models that fail offline, too, nothing more is logged."""


class Worker:
    """Runs tasks in the client's process, one at a time. What a task raises becomes a warning.

    Args:
        root: the store's folder.
        tracker: what to log to.
        tell: receives a warning.
        command: the command to repeat when W&B can be reached again.
    """

    def __init__(self, root: Path, tracker: Wandb, tell: Callable[[str], None], command: str = "track") -> None:
        self.root, self.tracker, self.tell, self.command = root, tracker, tell, command
        self.mode: str = tracker.mode
        """`disabled` after too many failures."""
        self._failures = 0
        self._child: Child | None = None

    def do(self, task: Callable[..., Any], *extra: Any) -> Any:
        """Run a task in the process, which has tracker.time_limit seconds for it.

        Args:
            task: a function of a module; called with the store's folder, the tracker, the mode, then `extra`.
            extra: its other arguments.

        Returns:
            What the task returns; None if it failed, after a warning.
        """
        while self.mode != "disabled":
            try:
                child = self._child = self._child or Child(multiprocessing.get_context("spawn"), _begin, this_process())
                child.call(task, self.root, self.tracker, self.mode, *extra)
                child.answer()  # the task begins; loading the client does not count as its time
                succeeded, result = child.answer(self.tracker.time_limit)
                if not succeeded:
                    raise result
                return result
            except Exception as error:
                if self.mode == "disabled":  # closed meanwhile
                    return None
                self.stop()
                if not self._failed(_reason(error, self.tracker.time_limit)):
                    return None
        return None

    def _failed(self, reason: str) -> bool:
        """Warn of a failure, once of each kind; whether the task is to be tried again."""
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
        """Stop the current task, and ignore all later ones."""
        self.mode = "disabled"
        self.stop()

    def stop(self) -> None:
        """Kill the process."""
        child, self._child = self._child, None
        if child is not None:
            child.kill()
            child.close()


def _reason(error: BaseException, limit: float) -> str:
    """Why a task failed, in one line."""
    if isinstance(error, TimeoutError):
        return f"no answer within tracker.time_limit = {limit:g} s"
    if isinstance(error, DeadError):
        return f"its process died, exit code {error.code}"
    text = " ".join(str(error).split()) or "no reason was given"
    return f"{type(error).__name__}: {text}"[:300]


# -- in the process --------------------------------------------------------------------------------------------------


def _begin(parent: Process) -> None:
    """Print nothing, and ignore Ctrl-C, which the parent handles; the new session keeps it from the client's helper."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "setsid"):
        os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    with contextlib.suppress(ImportError):  # the task reports it
        import wandb  # noqa: F401  (before the first task, whose time is limited)
    end_with(parent)  # if the command is killed, nothing else limits the client


@functools.cache
def _models(root: Path) -> Models:
    return Models(root)


def all_models(root: Path, tracker: Wandb, mode: str) -> list[Key]:
    """The task: find the models of the store.

    Args:
        root: the store's folder.
        tracker: not used; every task takes it.
        mode: not used.

    Returns:
        A key for each model.
    """
    return _models(root).look()


def log_model(root: Path, tracker: Wandb, mode: str, key: Key, group: str | None, new: bool) -> Logged | None:
    """The task: log one model.

    Args:
        root: the store's folder.
        tracker: where to log.
        mode: `online` or `offline`.
        key: the model.
        group: the W&B group if the tracker has none; None stands for the name of a sweep with the model.
        new: whether there may be records of the model that were not read yet.

    Returns:
        Where it was logged; None if the store has no record of it.
    """
    models = _models(root)
    if new or key not in models.records:
        models.look()
    if key not in models.records:
        return None
    content = models.content(key, tracker.tags)
    return log(content, tracker, mode, Ledger(root, tracker), tracker.group or group or models.sweep(key))
