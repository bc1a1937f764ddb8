"""Moments of a training: a number of optimiser steps, or of epochs (`5epochs`)."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, Field

_EPOCHS = re.compile(r"(\d+) ?epochs?")


def _plain(moment: int | str) -> int | str:
    """One spelling for each moment, since hashes depend on it."""
    if isinstance(moment, int):
        return moment
    match = _EPOCHS.fullmatch(moment)
    assert match is not None  # the pattern of `Moment` is the same
    return f"{int(match[1])}epochs" if int(match[1]) else 0


Moment = Annotated[
    Annotated[int, Field(ge=0)]
    | Annotated[str, Field(pattern=rf"^{_EPOCHS.pattern}$", max_length=20, examples=["5epochs"])],
    AfterValidator(_plain),
]
"""An option that holds a moment."""


def steps_until(moment: int | str, epoch_steps: int) -> int:
    """The moment in optimiser steps; `epoch_steps` is the number of steps per epoch."""
    return moment if isinstance(moment, int) else int(moment.removesuffix("epochs")) * epoch_steps
