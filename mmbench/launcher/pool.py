"""Runs in worker processes of this machine. Does not depend on Hydra, and prints nothing.

A worker that dies, exceeds the time limit or uses too much memory is replaced, and only the run that it was computing
fails. The store says which runs are left, so two sweeps can share it and an interrupted sweep can go on.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from typing import Any, ClassVar, Literal, Protocol

import psutil
from pydantic import Field, field_validator

from mmbench.config import Settings
from mmbench.errors import StoreError
from mmbench.launcher import memory
from mmbench.launcher.outcome import Outcome, still_to_run
from mmbench.launcher.schedule import Job, Schedule
from mmbench.launcher.worker import Result, Slot, end_server, worker_context
from mmbench.registry import Component
from mmbench.run import Run
from mmbench.store.running import waiting_for
from mmbench.store.store import Store

TICK = 0.25
"""Seconds between two looks at the workers."""
SOON = 5.0
"""Seconds without any progress, after which is said whom the sweep waits for."""


class Options(Component):
    """The options of `hydra/launcher=local`, at `hydra.launcher`."""

    name: ClassVar[str] = "local"

    slots: Literal["auto"] | int = "auto"
    """Worker processes; `auto` is one for each GPU, or for each CPU (`threads` CPUs) that this process may use."""
    on_error: Literal["continue", "stop"] = "continue"
    """After a failed run: go on, or finish the running jobs and stop."""
    retries: int = Field(0, ge=0, le=100)
    """How often a failed run is tried again, unless it would fail again in the same way."""
    time_limit: float | None = Field(None, gt=0)
    """Seconds that a run may take; then its worker is ended."""
    memory_limit: float | None = Field(None, gt=0)
    """GiB that a worker may take. Without it, the largest is ended only when the machine's memory is nearly used up."""
    target: str = "gain"
    """The column of a record that a sweeper such as `hydra/sweeper=optuna` optimises."""

    @field_validator("slots", mode="before")
    @classmethod
    def _at_least_one(cls, slots: Any) -> Any:
        if slots != "auto" and (not isinstance(slots, int) or isinstance(slots, bool) or slots < 1):
            raise ValueError(f"hydra.launcher.slots = {slots!r} is not allowed: must be auto or an integer >= 1")
        return slots


class Watcher(Protocol):
    """Is told which runs begin and end."""

    def started(self, run: Run) -> None:
        """A worker has been given the run; again, if it is tried again."""

    def ended(self, run: Run, record: dict[str, Any]) -> None:
        """The run has its record (`status` and `error`, at least)."""


class Pool:
    """A running sweep, which can be displayed and controlled."""

    def __init__(
        self, runs: list[Run], store: Store, settings: Settings, options: Options, watchers: Sequence[Watcher] = ()
    ) -> None:
        self.watchers = watchers
        self.store, self.settings, self.options = store, settings, options
        self.outcome = Outcome()
        self.slots: list[Slot] = []
        self.stopping: str | None = None
        """Why no more runs are started."""
        self._missing = still_to_run(runs, store, self.outcome)
        self._schedule = Schedule(self._missing, lambda run: store.has("base", run.base_inputs), options.retries)
        self._looked, self._at_work, self._told = 0.0, time.monotonic(), ""

    def run(self, tick: Callable[[], None]) -> Outcome:
        """Execute the runs that have no final record yet; `tick` is called a few times a second meanwhile.

        Returns:
            How the runs ended.

        Raises:
            StoreError: the store can no longer be written to; the runs that were being computed have ended.
        """
        if not self._missing:
            return self.outcome
        failure: StoreError | None = None
        try:
            self._open(tick)
            while self._hand_out():
                for slot in self._ended():
                    try:
                        self._collect(slot)
                    except StoreError as error:
                        failure, self.stopping = error, str(error)
                if self.stopping and not any(slot.job for slot in self.slots):
                    break  # do not wait for workers that are still starting
                self._guard()
                self._tell_waiting()
                tick()
        except BaseException:
            self.kill()
            raise
        if all(slot.worker for slot in self.slots):
            for slot in self.slots:
                slot.close()
        else:
            self.kill()
        if failure:
            raise failure
        return self.outcome

    @property
    def waiting(self) -> int:
        """Runs that have not been started."""
        return self._schedule.waiting

    def kill(self) -> None:
        """Kill all workers."""
        end_server()
        for slot in self.slots:
            slot.stop()
        for slot in self.slots:
            slot.close()
            if slot.job:
                self.store.remove_heartbeat(slot.job.run.run_id)
        with contextlib.suppress(StoreError):
            self.store.prepare()  # removes what they were writing

    def _open(self, tick: Callable[[], None]) -> None:
        """Open the slots. The first worker counts the GPUs."""
        context = worker_context(self._missing)
        devices = [self.settings.device]
        self.slots.append(Slot(context, self.settings))
        if self.settings.device in ("auto", "cuda"):
            while self.slots[0].worker is None and not self.stopping:
                for slot in self._ended():
                    slot.collect()
                tick()
            worker = self.slots[0].worker
            gpus = worker.gpus if worker else 0
            devices = [f"cuda:{i}" for i in range(gpus)] or [self.settings.device]
        auto = len(devices) if devices[0].startswith("cuda") else max(1, cpus() // self.settings.threads)
        count = auto if self.options.slots == "auto" else self.options.slots
        for i in range(1, min(count, self._schedule.waiting)):
            device = devices[i % len(devices)]
            self.slots.append(Slot(context, self.settings.model_copy(update={"device": device})))
        self.slots[0].settings = self.settings.model_copy(update={"device": devices[0]})

    def _hand_out(self) -> bool:
        """Give work to the slots that have none; False when all is done."""
        for number, slot in enumerate(self.slots):
            if slot.free and not self.stopping:
                job = self._schedule.take(number)
                if job is not None:
                    slot.start(job, self.store)
                    for watcher in self.watchers if not job.base_only else ():
                        watcher.started(job.run)
        return any(slot.job for slot in self.slots) or (self._schedule.waiting > 0 and not self.stopping)

    def _ended(self) -> list[Slot]:
        """Wait a moment; returns the slots whose worker has answered, or died."""
        wait([slot.child.pipe for slot in self.slots], TICK)
        return [slot for slot in self.slots if slot.child.ready()]

    def _collect(self, slot: Slot) -> None:
        number = self.slots.index(slot)
        job, result = slot.collect()
        if job is None:
            return
        if result is None:  # the worker was dead already when it was given the job
            self._schedule.busy(number, job)
            return
        if isinstance(result, str):
            self._record_death(job, result)
            return
        for message in result.warnings:
            self.store.tell(message)
        self.outcome.computed += result.computed
        if result.busy:
            self._schedule.busy(number, job)
        else:
            self._at_work = time.monotonic()
            self._schedule.done(job)
            self._count(job, result)

    def _count(self, job: Job, result: Result) -> None:
        if result.record is None:
            return
        retry = result.record["status"] == "failed" and not result.record["final"]
        if not (retry and self._schedule.again(job)):
            self._add(job.run, result.record)

    def _record_death(self, job: Job, reason: str) -> None:
        """Record the runs that failed because their worker died."""
        self.store.remove_heartbeat(job.run.run_id)
        if job.base_only:
            reason = f"training its base model: {reason}"
        for run in self._schedule.died(job):
            record = {**run.identity(), "status": "failed", "error": reason, "error_type": "ProcessExpired"}
            self._add(run, self.store.write_record(record))  # a record that the worker finished is kept

    def _add(self, run: Run, record: dict[str, Any]) -> None:
        self.outcome.add(record)
        for watcher in self.watchers:
            watcher.ended(run, record)
        if record["status"] == "failed" and self.options.on_error == "stop" and not self.stopping:
            self.stopping = "a run failed, and hydra.launcher.on_error is stop"

    def _tell_waiting(self) -> None:
        """If every worker waits for another sweep, say for whom; again only when that changes."""
        now = time.monotonic()
        if any(slot.worker is None or (slot.job and now - slot.since > 4 * TICK) for slot in self.slots):
            self._at_work = now
        elif now - self._at_work > SOON and self._schedule.waiting:
            self._at_work = now
            ours = {slot.worker.pid for slot in self.slots if slot.worker}
            message = waiting_for(beat for beat in self.store.active() if beat.pid not in ours)
            if message != self._told:
                self._told = message
                self.store.tell(message)

    def _guard(self) -> None:
        """End jobs that exceed the limits of time or memory."""
        now = time.monotonic()
        if now - self._looked < 2 * TICK:
            return
        self._looked = now
        running = [slot for slot in self.slots if slot.job and slot.worker and not slot.ended_because]
        limit = self.options.time_limit
        for slot in running:
            if limit and now - slot.since > limit:
                slot.end(f"it took longer than hydra.launcher.time_limit = {limit:g} s")
        sizes = {slot.worker.pid: memory.resident(slot.worker.pid) for slot in running if slot.worker}
        total, available = memory.total_and_available()
        # If other processes take most of the memory, ending one worker after the other would not help.
        ours = 2 * sum(sizes.values()) > total - available
        largest = max(sizes, key=sizes.__getitem__, default=None)
        for slot in running:
            assert slot.worker is not None
            size = sizes[slot.worker.pid] / memory.GIB
            if self.options.memory_limit and size > self.options.memory_limit:
                slot.end(f"it used {size:.1f} GiB, over hydra.launcher.memory_limit = {self.options.memory_limit:g}")
            elif ours and available < memory.SCARCE * total and slot.worker.pid == largest:
                slot.end(
                    f"only {available / memory.GIB:.1f} of {total / memory.GIB:.1f} GiB of memory were left, and it "
                    f"used the most, {size:.1f}; use fewer hydra.launcher.slots"
                )


def cpus() -> int:
    """CPUs that this process may use."""
    process = psutil.Process()
    return len(process.cpu_affinity()) if hasattr(process, "cpu_affinity") else psutil.cpu_count() or 1
