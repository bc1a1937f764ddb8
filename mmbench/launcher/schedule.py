"""Which run a free worker takes next. Does not depend on processes or files.

Runs that share an expanded model form a group, which one worker computes: it trains that model once, and the metrics
share intermediate results. A group can start once its base model is stored. When no group and no base model is left to
start, a free worker takes half of another worker's group. So a worker is idle only if all remaining runs wait for
results of others.
"""

from __future__ import annotations

import heapq
import time
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import count
from typing import Generic, TypeVar

from mmbench.run import Run
from mmbench.store.store import key_of

T = TypeVar("T", bound="_Base | _Group")

PAUSE = 0.5
"""Seconds before asking again for a result that another process is computing."""
DEATHS = 2
"""Workers that may die while training a base model before its runs are given up."""


def grouped(runs: Iterable[Run]) -> list[list[Run]]:
    """Defined runs grouped by expanded model, the largest first."""
    groups: defaultdict[str, list[Run]] = defaultdict(list)
    for run in runs:
        groups[key_of("expanded", run.expanded_inputs)].append(run)
    # Groups of equal size differ in the seed, hence in the base model, so neighbours do not wait for the same one.
    return sorted(
        groups.values(), key=lambda group: -group[0].target().architecture.parameters(group[0].dataset.shape())
    )


@dataclass(frozen=True)
class Job:
    """What a worker does next: a run, or the training of its base model alone."""

    run: Run
    base_only: bool = False


@dataclass(eq=False)
class _Base:
    rank: int
    groups: list[_Group] = field(default_factory=list)
    deaths: int = 0

    @property
    def runs(self) -> list[Run]:
        """The runs that wait for it."""
        return [run for group in self.groups for run in group.runs]


@dataclass(eq=False)
class _Group:
    rank: int
    base: _Base
    runs: deque[Run]


class _Queue(Generic[T]):
    """A priority queue by time, then rank; hands out only items whose time has come."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, T]] = []

    def put(self, item: T, not_before: float = 0.0) -> None:
        heapq.heappush(self._heap, (not_before, item.rank, item))

    def take(self, now: float) -> T | None:
        return heapq.heappop(self._heap)[2] if self._heap and self._heap[0][0] <= now else None


@dataclass
class Schedule:
    """Hands out jobs to slots, numbered from 0; each slot reports the end of its job before it takes another."""

    runs: list[Run]
    has_base: Callable[[Run], bool]
    """Whether the base model of a run is stored already."""
    retries: int = 0
    """How often a run that has failed is tried again."""
    clock: Callable[[], float] = time.monotonic
    waiting: int = field(default=0, init=False)
    """Runs that have not been handed out; more slots than that would have nothing to do."""
    # A group is in one place: with its slot, in the queue, or with its base model while that is not stored.
    _own: dict[int, _Group] = field(default_factory=dict, init=False)
    _ready: _Queue[_Group] = field(default_factory=_Queue, init=False)
    _bases: _Queue[_Base] = field(default_factory=_Queue, init=False)
    _of: dict[str, _Group] = field(default_factory=dict, init=False)
    _ranks: Iterator[int] = field(default_factory=count, init=False)
    _tries: Counter[str] = field(default_factory=Counter, init=False)

    def __post_init__(self) -> None:
        bases: dict[str, _Base] = {}
        for runs in grouped(self.runs):
            rank = next(self._ranks)
            base = bases.setdefault(key_of("base", runs[0].base_inputs), _Base(rank))
            group = _Group(rank, base, deque(runs))
            base.groups.append(group)
            self._of.update((run.run_id, group) for run in runs)
            self.waiting += len(runs)
        for base in bases.values():
            if self.has_base(base.runs[0]):
                self._release(base)
            else:
                self._bases.put(base)

    def take(self, slot: int) -> Job | None:
        """The next job: of the slot's own group, of a free group, a base model, or of another slot's group.

        Returns:
            None if all remaining runs wait for results of others.
        """
        now = self.clock()
        group = self._own.pop(slot, None)
        if group is None or not group.runs:
            group = self._ready.take(now)
        if group is None:
            if base := self._bases.take(now):
                return Job(base.runs[0], base_only=True)
            group = self._half()
        if group is None:
            return None
        self._own[slot] = group
        self.waiting -= 1
        return Job(group.runs.popleft())

    def done(self, job: Job) -> None:
        """The job has ended, successfully or not."""
        if job.base_only:
            self._release(self._of[job.run.run_id].base)

    def busy(self, slot: int, job: Job) -> None:
        """Another process is computing what the job needs: try it again later."""
        group, later = self._of[job.run.run_id], self.clock() + PAUSE
        if job.base_only:
            self._bases.put(group.base, later)
        else:
            group.runs.append(job.run)  # behind the others, whose scores can be computed meanwhile
            self.waiting += 1
            self._ready.put(self._own.pop(slot), later)

    def again(self, job: Job) -> bool:
        """Whether a failed run is to be tried once more; it then waits for its turn."""
        if self._tries[job.run.run_id] >= self.retries:
            return False
        self._tries[job.run.run_id] += 1
        if not job.base_only:
            self._of[job.run.run_id].runs.append(job.run)
            self.waiting += 1
        return True

    def died(self, job: Job) -> list[Run]:
        """The worker died while computing the job.

        Returns:
            The runs that fail because of it: one, or all those of a base model that kills its workers.
        """
        if not job.base_only:
            return [] if self.again(job) else [job.run]
        base = self._of[job.run.run_id].base
        base.deaths += 1
        victims = [] if self.again(job) else [job.run] if base.deaths < DEATHS else base.runs
        for run in victims:
            self._of[run.run_id].runs.remove(run)
        self.waiting -= len(victims)
        if base.runs:
            self._bases.put(base)
        return victims

    def _release(self, base: _Base) -> None:
        """Start the groups of a base model that is stored, or that failed: its runs will record why."""
        for group in base.groups:
            if group.runs:
                self._ready.put(group)

    def _half(self) -> _Group | None:
        """Split off half of the waiting runs of the slots' longest group."""
        group = max(self._own.values(), key=lambda group: len(group.runs), default=None)
        if group is None or not group.runs:
            return None
        half = _Group(next(self._ranks), group.base, deque())
        for _ in range((len(group.runs) + 1) // 2):
            half.runs.appendleft(group.runs.pop())
        self._of.update((run.run_id, half) for run in half.runs)
        return half
