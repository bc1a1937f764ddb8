"""Time to spend: how much is left, how much of it a candidate may take, and an end to whatever takes longer."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

from torch.overrides import TorchFunctionMode

PATIENCE = 2.0
"""A candidate may take this many times as long as those before it."""

SETTINGS = ("set_", "_set_", "_enter", "_exit")
"""How the names of functions begin that change settings of torch."""


class OutOfTime(BaseException):
    """A step has used up its time. No `Exception`: code that catches errors of a network must not catch this."""


class TimeBudget:
    """Seconds that the whole advice may take.

    `at_most` ends a step from inside, at the next operation of torch. So no step needs to know of the budget: neither
    an operator that learns, nor a metric of a user's own. What cannot be ended is one operation that is under way.
    """

    def __init__(self, seconds: float | None = None, clock: Callable[[], float] = time.perf_counter) -> None:
        """Start to count; None: without limit. The clock gives seconds."""
        self._clock, self._start = clock, clock()
        self.seconds = math.inf if seconds is None else seconds

    @property
    def spent(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._start

    @property
    def left(self) -> float:
        """Seconds until the end, never negative; infinite without a limit."""
        return max(0.0, self.seconds - self.spent)

    def share(self, waiting: int, before: list[float]) -> float:
        """The seconds that the next candidate may take.

        Its equal share of what is left, or `PATIENCE` times the median of those before it if that is more: where the
        time does not suffice for all, some are measured rather than none. The first may take half of what is left.

        Args:
            waiting: how many candidates still wait, this one included.
            before: seconds that each of those measured before has taken.

        Returns:
            At most what is left.
        """
        usual = PATIENCE * median(before) if before else self.left / 2
        return min(self.left, max(self.left / waiting, usual))

    @contextmanager
    def at_most(self, seconds: float = math.inf) -> Iterator[None]:
        """End what is inside, with `OutOfTime`, after that many seconds, or when the budget is used up.

        One limit must not hold another: the outer one could end the cleaning up after the inner one.
        """
        end = self.spent + min(seconds, self.left)
        if math.isinf(end):
            yield
            return
        with _Watch(self, end):
            yield


class _Watch(TorchFunctionMode):
    """Looks at the clock before every operation of torch, and raises once: what cleans up afterwards is not disturbed.

    Nor is what changes a setting of torch, such as whether gradients are recorded: it may be on its way to change it
    back.
    """

    def __init__(self, budget: TimeBudget, end: float) -> None:
        super().__init__()
        self._budget, self._end, self._raised = budget, end, False

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        setting = getattr(function, "__name__", "").startswith(SETTINGS)
        if not self._raised and not setting and self._budget.spent >= self._end:
            self._raised = True
            raise OutOfTime
        return function(*args, **(kwargs or {}))
