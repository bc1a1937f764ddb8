"""The gain in validation accuracy along the training of each expanded model: the paper's G_t (arXiv:2405.15895)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd

from mmbench.records.stages import arrays, rows_with

NEEDED = ("trained_id", "base_best_validation_accuracy", "epoch_steps")
READ = 2000
"""At most this many trainings are read, however large the store: the first by their id, which is a hash."""


@dataclass(frozen=True)
class GainCurve:
    """G_t of one training: validation accuracy after t epochs, minus the best of its base model."""

    run_id: str
    """Of one of the runs of this training."""
    epochs: tuple[float, ...]
    gains: tuple[float, ...]


def read_gains(frame: pd.DataFrame) -> list[GainCurve]:
    """The gains along the trainings of a frame; trainings without a stored curve are skipped.

    Args:
        frame: as of `load_records`.

    Returns:
        One curve per training of an expanded model.

    Raises:
        StoreError: the frame does not say which folder it was loaded from.
    """
    rows = rows_with(frame, NEEDED)
    if rows.empty:
        return []
    return list(_curves(rows.drop_duplicates("trained_id").sort_values("trained_id", kind="stable")[:READ]))


def _curves(rows: pd.DataFrame) -> Iterator[GainCurve]:
    for row in rows.to_dict("records"):
        stored = arrays(row["store"], "trained", row["trained_id"], "history")
        if not {"validation_steps", "validation_accuracy"} <= stored.keys():
            continue
        steps, accuracies = stored["validation_steps"], stored["validation_accuracy"].astype(float)
        if len(steps) != len(accuracies) or len(steps) < 2 or not np.isfinite(accuracies).all():
            continue
        epochs = steps / max(float(row["epoch_steps"]), 1.0)
        gains = accuracies - float(row["base_best_validation_accuracy"])
        yield GainCurve(str(row["run_id"]), tuple(epochs.tolist()), tuple(gains.tolist()))
