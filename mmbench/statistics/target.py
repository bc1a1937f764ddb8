"""The targets that metrics predict: their directions, and those that are computed from other columns."""

from __future__ import annotations

import numpy as np
import pandas as pd

TARGETS = {
    "gain": "gain in test accuracy",
    "best_validation_gain": "best gain in validation accuracy",
    "final_accuracy": "final test accuracy",
    "gain_over_scratch": "gain over compute-matched scratch",
    "test_loss_gain": "gain in test loss",
    "generalisation_gap": "generalisation gap",
}
"""The targets and their names for people.

* gain, final_accuracy: columns of the record.
* best_validation_gain: the best validation accuracy of the expanded model's training minus that of the base model's, a
  column of the record. This is the target G* of the paper (arXiv:2405.15895); it is chosen on the images that it is
  computed on.
* gain_over_scratch: final accuracy minus that of `scratch_matched`, the large network trained from scratch for the
  compute of base and expanded model together, on the same data set, base model, budget and seed (the mean over axes,
  where several were trained). Null for `scratch_matched` itself and where none was trained.
* test_loss_gain: base_loss - final_loss, in nats; positive is better.
* generalisation_gap: final_loss - final_train_loss, in nats; larger is worse.
"""
DIRECTIONS = {target: -1 if target == "generalisation_gap" else 1 for target in TARGETS}
"""+1 where a larger target is better. The sign expected of a correlation is the metric's expected sign times this."""

MATCHED = "scratch_matched"


def with_targets(runs: pd.DataFrame) -> pd.DataFrame:
    """Runs, as of `prepare`, with a column for each target that is not a column of the record."""
    with np.errstate(invalid="ignore"):
        return runs.assign(
            test_loss_gain=runs["base_loss"] - runs["final_loss"],
            generalisation_gap=runs["final_loss"] - runs["final_train_loss"],
            gain_over_scratch=_gain_over_scratch(runs),
        )


def is_matched(runs: pd.DataFrame) -> pd.Series:
    """Which runs are compute-matched scratch themselves."""
    return (runs["expansion"] == MATCHED).fillna(False).astype(bool)


def _gain_over_scratch(runs: pd.DataFrame) -> pd.Series:
    """Final accuracy minus that of compute-matched scratch of the same data set, base model, budget and seed."""
    keys = ["dataset", "base", "budget", "seed"]
    matched = runs[runs["done"] & is_matched(runs) & np.isfinite(runs["final_accuracy"])]
    # One training has a record for each metric, but counts once.
    trained = matched.groupby([*keys, "number"])["final_accuracy"].mean()
    scratch = trained.groupby(level=keys).mean().rename("scratch")
    partner = runs[keys].merge(scratch.reset_index(), on=keys, how="left")["scratch"].to_numpy(dtype=float)
    return (runs["final_accuracy"] - partner).mask(is_matched(runs))
