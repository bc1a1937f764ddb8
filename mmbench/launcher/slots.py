"""A slot: one worker process on one device, which does one job after the other and is replaced if it dies.

The process comes from a pebble pool of one. So it is known which worker does what, a job that has to end takes no
other with it, and the runs of one expanded model find in one process what they share.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pkgutil
import signal
import sys
import threading
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

from mmbench import models
from mmbench.config import Settings, prepare
from mmbench.errors import BusyError, MmbenchError
from mmbench.launcher.schedule import Job
from mmbench.run import Run, execute, is_final, train_base
from mmbench.store.running import started
from mmbench.store.store import Store

STARTS = 3
"""Workers that may die before they are ready for work."""


class Result(NamedTuple):
    """What a worker says of a job."""

    record: dict[str, Any] | None
    """Status, reason, and whether it is final; None after a base model alone, or where another sweep is at it."""
    busy: bool
    computed: Counter[str]
    told: list[str]
    """What the store had to say."""


class Worker(NamedTuple):
    """What a worker says of itself."""

    pid: int
    gpus: int


class Slot:
    """Its `future` is of the worker's birth first, then of one job after the other; None while it has no work."""

    def __init__(self, context: Any, settings: Settings) -> None:
        self.settings = settings
        self.worker: Worker | None = None
        self.job: Job | None = None
        self.since = 0.0
        self.ended_because: str | None = None
        """Why the launcher ended the job."""
        self._births = 0
        parent = (os.getpid(), started(os.getpid()), Path.cwd())
        self._pool = ProcessPool(max_workers=1, context=context, initializer=_begin, initargs=parent)
        self.future: Future[Any] | None = self._pool.schedule(_introduce)

    def start(self, job: Job, store: Store) -> None:
        """Hand a job to the worker."""
        self.job, self.since, self.ended_because = job, time.monotonic(), None
        self.future = self._pool.schedule(_work, args=(job, store.root, self.settings))

    def end(self, reason: str) -> None:
        """Kill the worker for the job that it is at."""
        self.ended_because = reason
        assert self.future is not None
        self.future.cancel()

    def collect(self) -> tuple[Job | None, Result | str]:
        """After the future has ended: the job, and its result or why the worker died; None is the worker's birth.

        Raises:
            MmbenchError: the job's, which every other job would meet, too; or no worker can start.
        """
        assert self.future is not None
        job, future, self.job, self.future = self.job, self.future, None, None
        if not future.cancelled():
            error = future.exception()
            if error is None and job is not None:
                return job, future.result()
            if error is None:
                self.worker, self._births = future.result(), 0
                return None, ""
            if isinstance(error, MmbenchError):
                raise error
            if isinstance(error, ProcessExpired):
                self.ended_because = f"the worker process died ({_exit(error.exitcode)})"
            else:
                self.ended_because = f"{type(error).__name__}: {error}"
        self._births += job is None
        if self._births >= STARTS:
            raise MmbenchError(f"no worker process can start: {self.ended_because}; is there too little memory?")
        self.worker, self.future = None, self._pool.schedule(_introduce)
        return job, self.ended_because or ""

    def stop(self) -> None:
        """End the worker, whatever it is at."""
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
        return f"{name}: perhaps for want of memory" if name == "SIGKILL" else name
    return f"signal {-code}"


def worker_context(runs: Iterable[Run]) -> Any:
    """Workers are forked from a clean server that has loaded torch and the like once, where the system can do that."""
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    needed = {module for run in runs for part in (run.model, run.dataset) for module in part.imports}
    needed |= {f"mmbench.landscape.{name}" for name in ("gauss_newton", "lanczos", "traces")}
    # What every run comes to load: the families, one of which reads a network; torch._dynamo, by some layers of torch.
    needed |= {"mmbench.training.flat", "timm", "torch._dynamo"}
    # What metrics import inside functions: loaded here, it is not part of the seconds that the first of them takes.
    needed |= {"scipy.linalg", "scipy.optimize", "scipy.special"}
    needed |= {f"mmbench.models.{module.name}" for module in pkgutil.iter_modules(models.__path__)}
    context.set_forkserver_preload(["mmbench.launcher.slots", "torch", *sorted(needed)])
    # The server loads for seconds before it minds signals: born deaf to Ctrl-C, it does not print where it was hit.
    heard = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGINT, heard)
    return context


def end_server() -> None:
    """End the server of workers: it may still be loading, to serve workers that nobody waits for any more."""
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if "multiprocessing.forkserver" in " ".join(child.cmdline()):
                child.kill()


# -- in the worker ---------------------------------------------------------------------------------------------------


def _begin(parent: int, born: int | None, folder: Path) -> None:
    os.chdir(folder)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("500")  # where memory ends, a worker goes, not the launcher
    threading.Thread(target=_follow, args=(parent, born), daemon=True).start()


def _follow(parent: int, born: int | None) -> None:
    """Nobody is left to hand out work, or to stop it, once the launcher has been killed."""
    while started(parent) == born:
        time.sleep(1)
    os._exit(1)


def _introduce() -> Worker:
    return Worker(os.getpid(), torch.cuda.device_count())


def _work(job: Job, root: Path, settings: Settings) -> Result:
    told: list[str] = []
    store, device = Store(root, told.append), prepare(settings)
    record, busy = None, False
    try:
        if job.base_only:
            train_base(job.run, store, device)
        else:
            found = execute(job.run, store, device, wait=False)
            record = {key: found[key] for key in ("status", "error")} | {"final": is_final(found)}
    except BusyError:
        busy = True
    return Result(record, busy, store.computed, told)
