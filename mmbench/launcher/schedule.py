"""Which run a free worker takes next. Knows of no process and of no file.

Runs that share an expanded model form a group, which one worker does from end to end: it trains that model once, and
its metrics share their work. A group is taken up once its base model is there. So a worker is without work only if all
that is left waits for what others are doing.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from mmbench.store import key_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mmbench.run import Run

PAUSE = 0.5
"""Seconds before something that another sweep is computing is asked for again."""
DEATHS = 2
"""Workers that a base model's training may take with it before its runs are given up."""


def grouped(runs: Iterable[Run]) -> list[list[Run]]:
    """Defined runs grouped by expanded model, the largest first."""
    groups: defaultdict[str, list[Run]] = defaultdict(list)
    for run in runs:
        groups[key_of("expanded", run.expanded_inputs)].append(run)
    # Equal sizes differ in their seed, hence in their base model, so neighbours do not wait for the same one.
    return sorted(
        groups.values(), key=lambda group: -group[0].target().architecture.parameters(group[0].dataset.shape())
    )


@dataclass(frozen=True)
class Job:
    """What a worker does at a time: a run, or the training of its base model alone."""

    run: Run
    base_only: bool = False


@dataclass
class _Base:
    there: bool
    in_training: bool = False
    deaths: int = 0
    not_before: float = 0.0


@dataclass
class _Group:
    base: _Base
    runs: deque[Run]
    held: bool = False
    """Whether a slot is at it."""
    not_before: float = 0.0


@dataclass
class Schedule:
    """Hands out jobs to slots, numbered from 0; each slot says what became of its job before it takes another."""

    runs: list[Run]
    has_base: Callable[[Run], bool]
    """Whether the base model of a run is stored already."""
    retries: int = 0
    """How often a run that has failed is tried again."""
    clock: Callable[[], float] = time.monotonic
    _groups: deque[_Group] = field(default_factory=deque, init=False)
    _of: dict[str, _Group] = field(default_factory=dict, init=False)
    _own: dict[int, _Group] = field(default_factory=dict, init=False)
    _tries: Counter[str] = field(default_factory=Counter, init=False)

    def __post_init__(self) -> None:
        bases: dict[str, _Base] = {}
        for runs in grouped(self.runs):
            key = key_of("base", runs[0].base_inputs)
            if key not in bases:
                bases[key] = _Base(there=self.has_base(runs[0]))
            group = _Group(bases[key], deque(runs))
            self._groups.append(group)
            self._of |= {run.run_id: group for run in runs}

    @property
    def groups(self) -> int:
        """Groups that have runs left: more slots than that have nothing to do."""
        return len({id(group) for group in self._groups if group.runs})

    def take(self, slot: int) -> Job | None:
        """The next job: of the slot's own group, of a free one, else a base model. None if all waits for others."""
        now = self.clock()
        group = self._own.get(slot)
        if group is None or not group.runs:
            self._leave(slot)
            while self._groups and not self._groups[0].runs:
                self._groups.popleft()
            ready = (g for g in self._groups if g.runs and g.base.there and not g.held and g.not_before <= now)
            group = next(ready, None)
        if group is not None:
            group.held, self._own[slot] = True, group
            return Job(group.runs.popleft())
        for group in self._groups:
            base = group.base
            if group.runs and not base.there and not base.in_training and base.not_before <= now:
                base.in_training = True
                return Job(group.runs[0], base_only=True)
        return None

    def done(self, job: Job) -> None:
        """The job has come to its end, good or bad."""
        if job.base_only:
            base = self._of[job.run.run_id].base
            base.there, base.in_training = True, False

    def busy(self, slot: int, job: Job) -> None:
        """Another sweep is computing what the job needs: there is time for other work."""
        group, later = self._of[job.run.run_id], self.clock() + PAUSE
        if job.base_only:
            group.base.in_training, group.base.not_before = False, later
        else:
            group.runs.appendleft(job.run)
            group.not_before = later
            self._leave(slot)
            self._groups.append(group)

    def again(self, job: Job) -> bool:
        """Whether a failed run is to be tried once more; it then waits for its turn."""
        if self._tries[job.run.run_id] >= self.retries:
            return False
        self._tries[job.run.run_id] += 1
        if not job.base_only:
            group = self._of[job.run.run_id]
            group.runs.append(job.run)
            self._groups.append(group)  # it may have been done with
        return True

    def died(self, job: Job) -> list[Run]:
        """The worker died at the job: the runs that fail for it. One, or all of a base model that kills its workers."""
        group = self._of[job.run.run_id]
        if not job.base_only:
            return [] if self.again(job) else [job.run]
        base = group.base
        base.in_training, base.deaths = False, base.deaths + 1
        if self.again(job):
            return []
        if base.deaths < DEATHS:
            group.runs.remove(job.run)
            return [job.run]
        groups = [other for other in self._groups if other.base is base]
        victims = [run for other in groups for run in other.runs]
        for other in groups:
            other.runs.clear()
        return victims

    def _leave(self, slot: int) -> None:
        if (group := self._own.pop(slot, None)) is not None:
            group.held = False
