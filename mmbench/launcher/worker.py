"""A slot: one worker process on one device, which does one job after the other and is replaced if it dies.

The process is a pebble pool of size one. So it is known which worker computes what, ending a job does not affect other
jobs, and the runs of one expanded model share intermediate results in one process.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import Future
from multiprocessing import forkserver
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import torch
from pebble import ProcessExpired, ProcessPool

from mmbench.config import Settings, prepare
from mmbench.errors import BusyError, MmbenchError
from mmbench.execute import execute, train_base
from mmbench.launcher.schedule import Job
from mmbench.run import Run, is_final
from mmbench.store.processes import Process, end_with, this_process
from mmbench.store.store import Store

STARTS = 3
"""How many workers in a row may die while starting."""


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
    """A worker's slot. `future` is first the start of the worker, then one job after the other; None while idle."""

    def __init__(self, context: Any, settings: Settings) -> None:
        self.settings = settings
        self.worker: Worker | None = None
        self.job: Job | None = None
        self.since = 0.0
        self.ended_because: str | None = None
        """Why the launcher ended the job."""
        self._starts = 0
        arguments = (this_process(), Path.cwd())
        self._pool = ProcessPool(max_workers=1, context=context, initializer=_begin, initargs=arguments)
        self.future: Future[Any] | None = self._pool.schedule(_introduce)

    def start(self, job: Job, store: Store) -> None:
        """Hand a job to the worker."""
        self.job, self.since, self.ended_because = job, time.monotonic(), None
        self.future = self._pool.schedule(_work, args=(job, store.root, self.settings))

    def end(self, reason: str) -> None:
        """Kill the worker because of its job."""
        self.ended_because = reason
        assert self.future is not None
        self.future.cancel()

    def collect(self) -> tuple[Job | None, Result | str]:
        """The result of the future, which has ended.

        Returns:
            The job, or None if the worker was starting; and the job's result, or why the worker died.

        Raises:
            MmbenchError: an error that every other job would have, too; or no worker can start.
        """
        assert self.future is not None
        job, future, self.job, self.future = self.job, self.future, None, None
        if not future.cancelled():
            error = future.exception()
            if error is None and job is not None:
                return job, future.result()
            if error is None:
                self.worker, self._starts = future.result(), 0
                return None, ""
            if isinstance(error, MmbenchError):
                raise error
            if isinstance(error, ProcessExpired):
                self.ended_because = f"the worker process died ({_exit(error.exitcode)})"
            else:
                self.ended_because = f"{type(error).__name__}: {error}"
        self._starts += job is None
        if self._starts >= STARTS:
            raise MmbenchError(f"no worker process can start: {self.ended_because}; is there too little memory?")
        self.worker, self.future = None, self._pool.schedule(_introduce)
        return job, self.ended_because or ""

    def stop(self) -> None:
        """Kill the worker."""
        self._pool.stop()

    def close(self) -> None:
        """Wait for the worker to end."""
        self._pool.close()
        self._pool.join()


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
    # The server loads for seconds before it handles signals. If it ignores Ctrl-C, it prints no traceback meanwhile.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGINT, before)
    return context


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
