"""How well a metric chose expansions in earlier sweeps: evidence on how far its ranking can be trusted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from mmbench.statistics.configurations import configurations
from mmbench.statistics.regret import random_regret, regret_at_1
from mmbench.text import metric_name

CHOICE = 2
"""The smallest number of configurations of one budget that makes a choice."""


def track_record(frame: pd.DataFrame, family: str, metrics: Mapping[str, str]) -> list[str]:
    """What choosing by the metrics lost and gained on earlier configurations of a family.

    Among the configurations of one data set, base model and budget, the one with the best score is chosen (with several
    metrics, the one with the best mean rank). Its gain is compared with the best gain and with the mean gain, in points
    of test accuracy, averaged over these choices.

    Args:
        frame: records, as of `load_records`.
        family: the model's name, such as `resnet`.
        metrics: names to definitions. Records of another definition count only if there are none of this one.

    Returns:
        A sentence for the metrics together, if there are several, and one for each.
    """
    tried = configurations(_as_defined(frame, metrics), "gain")
    tried = tried[(tried["model"] == family) & (tried["arm"] == "expansion") & (tried["budget_cell"] >= 0)]
    signs = frame.dropna(subset=["metric"]).drop_duplicates("metric").set_index("metric")["expected_sign"]
    choices = {name: _choices(tried[tried["metric"].map(metric_name) == name], signs.get(name)) for name in metrics}
    sentences = [_sentence(rows, name, family) for name, rows in choices.items()]
    if len(choices) < 2 or any(rows.empty for rows in choices.values()):
        return sentences
    ranks = [rows.groupby("budget_cell")["value"].rank(pct=True) for rows in choices.values()]
    joint = pd.concat(ranks, axis=1, join="inner").mean(axis=1).rename("value")
    first = next(iter(choices.values()))[["budget_cell", "target"]]
    return [_sentence(first.join(joint, how="inner"), f"the mean rank of {' and '.join(choices)}", family), *sentences]


def _as_defined(frame: pd.DataFrame, metrics: Mapping[str, str]) -> pd.DataFrame:
    """The records with one metric id per definition, whatever the training recipe of the run."""
    if "definition" not in frame:
        return frame
    for name, definition in metrics.items():
        named, defined = frame["metric"] == name, frame["definition"] == definition
        if (named & defined).any():
            frame = frame[~named | defined]
    return frame.assign(metric_id=pd.factorize(frame["definition"])[0].astype(str))


def _choices(rows: pd.DataFrame, sign: Any) -> pd.DataFrame:
    # If the metric has several sets of options, the one with the most configurations counts.
    parts = []
    for _, part in rows.groupby("metric"):
        cell = part["budget_cell"].to_numpy()
        parts.append(part[np.bincount(cell)[cell] >= CHOICE])
    best = max(parts, key=len, default=rows).set_index("number")
    return best.assign(value=best["score"] * (-1 if sign is not None and sign < 0 else 1))


def _sentence(best: pd.DataFrame, metric: str, family: str) -> str:
    none = f"There is no evidence on {metric}: no earlier sweep trained several expansions of a {family} to one budget."
    if best.empty:
        return none
    cell, gain, value = (best[name].to_numpy() for name in ("budget_cell", "target", "value"))
    lost, chance = regret_at_1(cell, value.astype(float), gain.astype(float)), random_regret(cell, gain.astype(float))
    if math.isnan(lost):
        return none
    gained, cells = chance - lost, len(np.unique(cell))
    verb = f"gained {100 * gained:.1f} points over" if gained >= 0 else f"was {-100 * gained:.1f} points worse than"
    return (
        f"On {len(best)} earlier configurations of a {family} ({cells} choices at equal budget), choosing by {metric} "
        f"lost {100 * lost:.1f} points of test accuracy against the best and {verb} picking at random."
    )
