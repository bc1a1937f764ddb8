"""A slot: one worker process on one device, which does one job after the other and is replaced if it dies.

It is known which worker computes what, ending a job does not affect other jobs, and the runs of one expanded model
share intermediate results in one process.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterable
from multiprocessing import forkserver
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import torch

from mmbench.config import Settings, prepare
from mmbench.errors import BusyError, MmbenchError
from mmbench.execute import execute, train_base
from mmbench.launcher.schedule import Job
from mmbench.run import Run, is_final
from mmbench.store.child import BEGUN, Child, DeadError
from mmbench.store.processes import Process, end_with, this_process
from mmbench.store.store import Store

STARTS = 3
"""How many workers in a row may die while starting."""
LONGEST = 60
"""A longer path of the folder for temporary files is avoided: a socket's path may have about 100 characters."""


class Result(NamedTuple):
    """What a worker returns for a job."""

    record: dict[str, Any] | None
    """Status, reason, and whether it is final; None after a base model alone, or if `busy`."""
    busy: bool
    """Whether another process is computing what the job needs."""
    computed: Counter[str]
    """Stage results, by kind."""
    warnings: list[str]
    """Of the store."""


class Worker(NamedTuple):
    """A worker process, and how many GPUs it sees."""

    pid: int
    gpus: int


class Slot:
    """A worker's slot. The worker first starts, then does one job after the other."""

    def __init__(self, context: Any, settings: Settings) -> None:
        self.settings = settings
        self.worker: Worker | None = None
        """None while it starts."""
        self.job: Job | None = None
        self.since = 0.0
        self.ended_because: str | None = None
        """Why the launcher ended the job."""
        self._context, self._starts = context, 0
        self.child = self._started()

    @property
    def free(self) -> bool:
        """Whether the worker can be given a job."""
        return self.worker is not None and self.job is None

    def start(self, job: Job, store: Store) -> None:
        """Hand a job to the worker."""
        self.job, self.since, self.ended_because = job, time.monotonic(), None
        self.child.call(_work, job, store.root, self.settings)

    def end(self, reason: str) -> None:
        """Kill the worker because of its job."""
        self.ended_because = reason
        self.child.kill()

    def collect(self) -> tuple[Job | None, Result | str | None]:
        """What the worker has answered; a dead one is replaced.

        Returns:
            The job that has ended, or None; and the job's result, or why the worker died at it, or None if it died
            before the job began.

        Raises:
            MmbenchError: an error that every other job would have, too; or no worker can start.
        """
        job, result = self.job, None
        try:
            succeeded, answer = self.child.answer(0)
        except TimeoutError:
            return None, None
        except DeadError as death:
            reason = self.ended_because or f"the worker process died ({_exit(death.code)})"
            result = reason if death.begun or self.ended_because else None
            self._replace(reason)
        else:
            if succeeded and isinstance(answer, str) and answer == BEGUN:
                return None, None
            if isinstance(answer, MmbenchError):
                self.job = None
                raise answer
            if not succeeded:
                result = f"{type(answer).__name__}: {answer}"
                self._replace(result)
            elif job is None:
                self.worker, self._starts = answer, 0
            else:
                result = answer
        self.job = None
        return job, result

    def _replace(self, reason: str) -> None:
        """Start another worker."""
        self.stop()
        self.close()
        self._starts += self.worker is None
        if self._starts >= STARTS:
            raise MmbenchError(f"no worker process can start: {reason}; is there too little memory?")
        self.worker, self.child = None, self._started()

    def _started(self) -> Child:
        for pause in (0.1, 0.3, 1.0, 3.0, None):
            try:
                if self._context.get_start_method() == "forkserver":
                    _ensure_server()
                child = Child(self._context, _begin, this_process(), Path.cwd())
            except (OSError, EOFError) as error:  # of the server, too, which may have been killed just now
                if pause is None:
                    reason = str(error) or "the server that starts them died"
                    raise MmbenchError(f"no worker process can start: {reason}; is there too little memory?") from None
                time.sleep(pause)  # a killed server takes a moment to die, and is replaced only then
            else:
                child.call(_introduce)
                return child
        raise AssertionError

    def stop(self) -> None:
        """Kill the worker."""
        self.child.kill()

    def close(self) -> None:
        """Wait for the worker to end."""
        self.child.close()


def _exit(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        name = signal.Signals(-code).name
        return f"{name}: perhaps out of memory" if name == "SIGKILL" else name
    return f"signal {-code}"


def worker_context(runs: Iterable[Run]) -> Any:
    """The `multiprocessing` context of the workers.

    On Linux, workers are forked from a server process that has loaded torch and the like once. It also loads the
    modules of the runs' own components, which may come from another package.

    Returns:
        The context.
    """
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    parts = {type(part) for run in runs for part in (run.model, run.dataset, run.expansion, run.metric)}
    context.set_forkserver_preload(["mmbench.launcher.preload", *sorted({part.__module__ for part in parts})])
    try:
        _ensure_server()
    except OSError:  # no socket can be made: each worker loads torch by itself, then
        return multiprocessing.get_context("spawn")
    return context


def _ensure_server() -> None:
    """Start the server of workers if there is none, or if it was killed."""
    # The server loads for seconds before it handles signals. If it ignores Ctrl-C, it prints no traceback meanwhile.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    chosen = tempfile.tempdir
    try:
        if len(tempfile.gettempdir()) > LONGEST:
            tempfile.tempdir = "/tmp"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # multiprocessing's, that its other helper was killed; it starts a new one
            forkserver.ensure_running()
    finally:
        tempfile.tempdir = chosen
        signal.signal(signal.SIGINT, before)


def end_server() -> None:
    """Kill the server of workers, which may still be loading for workers that are no longer needed."""
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if "multiprocessing.forkserver" in " ".join(child.cmdline()):
                child.kill()


# -- in the worker ---------------------------------------------------------------------------------------------------


def _begin(parent: Process, folder: Path) -> None:
    os.chdir(folder)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")  # when memory runs out, a worker ends, not the launcher
    end_with(parent)


def _introduce() -> Worker:
    return Worker(os.getpid(), torch.cuda.device_count())


def _work(job: Job, root: Path, settings: Settings) -> Result:
    warnings: list[str] = []
    store, device = Store(root, warnings.append), prepare(settings)
    outcome, busy = None, False
    try:
        if job.base_only:
            train_base(job.run, store, device)
        else:
            record = execute(job.run, store, device, wait=False)
            outcome = {key: record[key] for key in ("status", "error")} | {"final": is_final(record)}
    except BusyError:
        busy = True
    return Result(outcome, busy, store.computed, warnings)
