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
    """Its own cost, without that of `parts`."""
    parts: set[Any]
    """Keys of the results that it used."""


@dataclass
class Ledger:
    """Shared results, and what each costs a metric that is measured alone."""

    entries: dict[Any, Entry] = field(default_factory=dict)
    saved: float = 0.0
    """Seconds that the current metric saved through shared results."""
    used: set[Any] = field(default_factory=set)
    """Keys that the current metric has been charged for."""
    open: list[Entry] = field(default_factory=list)

    def begin(self) -> None:
        """Start the account of the next metric."""
        self.saved, self.used, self.open = 0.0, set(), []

    def charge(self, seconds: float) -> None:
        """Charge saved seconds to the entry that is being computed and to the current metric."""
        self.open[-1].seconds += seconds
        self.saved += seconds

    def get(self, key: Any, compute: Callable[[], T]) -> T:
        """The result for this key, computed if it is missing; its cost is charged to the metric that asks."""
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
