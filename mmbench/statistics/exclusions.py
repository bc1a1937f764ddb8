"""What is excluded, and why."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from mmbench.statistics.target import TARGETS, is_matched

COLUMNS = {
    **dict.fromkeys(("where", "metric", "target", "reason"), "string"),
    **{"n": "int64", "example": "string"},
}


def exclusion_table(frame: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """What is excluded, where, why, and how often.

    Args:
        frame: as of `load_records`; its `attrs` name the files that could not be read.
        runs: the frame as of `prepare`.

    Returns:
        One row per place (`file`, `run`, `score` or `target`), metric or target, and reason.
    """
    rows = [*_files(frame), *_repeated(frame)]
    lost = runs[~runs["done"]]
    reasons = lost["status"].fillna("no status") + ": " + lost["error"].fillna("no reason given")
    rows += _by_reason(lost.assign(reason=reasons), "run")
    without_score = runs[runs["done"] & ~np.isfinite(runs["score"])]
    reason = np.where(np.isinf(without_score["score"]), "score is infinite", "no score")
    rows += _by_reason(without_score.assign(reason=reason), "score")
    with_score = runs[runs["done"] & np.isfinite(runs["score"])]
    for target in TARGETS:
        without_target = with_score[~np.isfinite(with_score[target])]
        rows += [{**row, "target": target, "metric": None} for row in _without_target(without_target, target)]
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)


def _files(frame: pd.DataFrame) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    attrs = frame.attrs
    if damaged := attrs.get("damaged", []):
        rows.append({"where": "file", "reason": "damaged", "n": len(damaged), "example": damaged[0]})
    older = pd.DataFrame(attrs.get("other_versions", []), columns=["path", "version"])
    for version, files in older.groupby("version", dropna=False):
        reason = f"of version {version} of the store"
        rows.append({"where": "file", "reason": reason, "n": len(files), "example": files["path"].iloc[0]})
    if attrs.get("filtered"):
        rows.append({"where": "file", "reason": f"left out by where: {attrs.get('where')}", "n": attrs["filtered"]})
    return rows


def _repeated(frame: pd.DataFrame) -> list[dict[str, Any]]:
    if "run_id" not in frame:
        return []
    repeated = frame["run_id"][frame["run_id"].notna() & frame["run_id"].duplicated()]
    if repeated.empty:
        return []
    reason = "the same run is in another store"
    return [{"where": "run", "reason": reason, "n": len(repeated), "example": repeated.iloc[0]}]


def _by_reason(runs: pd.DataFrame, where: str) -> list[dict[str, Any]]:
    counts = runs.groupby(["metric", "reason"], dropna=False)["run_id"].agg(["size", "first"]).reset_index()
    return [
        {"where": where, "metric": metric, "reason": reason, "n": n, "example": example}
        for metric, reason, n, example in counts.itertuples(index=False)
    ]


def _without_target(runs: pd.DataFrame, target: str) -> list[dict[str, Any]]:
    reason = pd.Series(f"no {target.replace('_', ' ')}", index=runs.index)
    if target == "gain_over_scratch":
        matched = is_matched(runs)
        reason = reason.mask(~matched, "no scratch_matched of its data set, base model, budget and seed")
        reason = reason.mask(matched, "is scratch_matched itself")
    return _by_reason(runs.assign(reason=reason, metric="any"), "target")
