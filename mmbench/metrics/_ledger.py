"""Results that metrics share, each computed once and charged to every metric that uses it."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

T = TypeVar("T")


@dataclass
class Entry:
    """A result and its cost."""

    value: Any
    seconds: float
    """Its own, without those of `parts`."""
    parts: set[Any]
    """Keys of what was used on the way."""


@dataclass
class Ledger:
    """Shared results, and what each would have cost a metric that had been alone."""

    entries: dict[Any, Entry] = field(default_factory=dict)
    saved: float = 0.0
    """Seconds that the present metric was spared."""
    used: set[Any] = field(default_factory=set)
    """Keys that the present metric has paid for."""
    open: list[Entry] = field(default_factory=list)

    def begin(self) -> None:
        """Another metric is measured from here on."""
        self.saved, self.used, self.open = 0.0, set(), []

    def charge(self, seconds: float) -> None:
        """The entry that is being made, and the present metric, were spared so much."""
        self.open[-1].seconds += seconds
        self.saved += seconds

    def get(self, key: Any, compute: Callable[[], T]) -> T:
        """The result under this key, computed unless it is there; its cost is charged to the metric that asks."""
        if key not in self.entries:
            entry = Entry(None, 0.0, set())
            self.open.append(entry)
            start = time.perf_counter()
            try:
                entry.value = compute()
            finally:
                self.open.pop()
            elapsed = time.perf_counter() - start
            entry.seconds += elapsed
            if self.open:
                self.open[-1].seconds -= elapsed
            self.entries[key] = entry
            self.used.add(key)
        entry = self.entries[key]
        for part in {key, *entry.parts}:
            if part not in self.used:
                self.saved += self.entries[part].seconds
                self.used.add(part)
        for outer in self.open:
            outer.parts |= {key, *entry.parts}
        value: T = entry.value
        return value
