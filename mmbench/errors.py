"""Errors that are not bugs: each is shown to the user as a message, without a stack trace."""

from __future__ import annotations

MOST = 10
"""Problems that a message lists; a sweep over a thousand wrong values has a thousand."""


class MmbenchError(Exception):
    """Base of all errors that a user can fix; `str(error)` is the whole message."""


class ConfigError(MmbenchError):
    """One or more wrong settings, all reported before any work starts."""

    def __init__(self, *problems: str) -> None:
        self.problems = list(dict.fromkeys(problems))
        told = self.problems if len(self.problems) <= MOST + 1 else self.problems[:MOST]
        more = len(self.problems) - len(told)
        super().__init__("\n".join([*told, *([f"and {more} more like these"] if more else [])]))


class DataError(MmbenchError):
    """A data source that cannot be read or used; the message names the row or the sizes."""


class UndefinedError(MmbenchError):
    """A combination that is not defined, such as an operator on a model family that it does not support.

    A run that raises it is recorded as `skipped`, with this message as the reason.
    """


class DivergedError(MmbenchError):
    """The training loss became infinite or NaN; deterministic, so it is stored and not tried again."""

    def __init__(self, step: int, loss: float) -> None:
        self.step, self.loss = step, loss
        super().__init__(
            f"diverged at step {step}: training loss {loss:g}; lower training.lr or set training.clip_norm"
        )


class ScoreError(MmbenchError):
    """A metric whose value is not a finite number; deterministic, so it is stored and not tried again."""


class StoreError(MmbenchError):
    """The results folder cannot be used. Every run would fail, so this ends the sweep and is not recorded."""


class BusyError(MmbenchError):
    """Another process is computing a result that is needed here; ask again later."""
