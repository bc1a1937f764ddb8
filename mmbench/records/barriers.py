"""The stored barriers of base models and their expansions, and the manifold metric over its grid."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cache

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mmbench.records.frame import load_records
from mmbench.records.stages import arrays, rows_with
from mmbench.statistics.configurations import at_start, prepare
from mmbench.statistics.manifold_grid import Barriers, grid_of


def manifold_grid(
    records: pd.DataFrame | str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
) -> pd.DataFrame:
    """The rank correlation of the manifold metric with the gains, for each quantile q and number of nodes n.

    Nothing is measured: the metric is computed from the barriers that the store keeps, for q in 0.05, 0.1, 0.2, 0.4 and
    n in 50, 100, 250, 500, 1000, as far as that many nodes were stored (`metric.nodes=1000`). The columns are q, n,
    target, kendall, spearman, n_runs, n_configurations, and kendall_within, Kendall's tau among the expansions of one
    trained base model, averaged over base models, with its interval. `frame.attrs["choices"]` holds the paper's setting
    (0.4, 1000), fixed beforehand, and the best of the grid with the p-value that accounts for choosing it; see
    mmbench/statistics/manifold_grid.py. `frame.attrs["remark"]` says why the table is empty, if it is.

    Args:
        records: a results folder, or several, or a frame as of `load_records`.

    Returns:
        One row per metric (with its set of options), target, q and n; no row where no barriers are stored, or those of
        fewer than 50 nodes.

    Raises:
        StoreError: there is no such folder, or the frame does not say which folder it was loaded from.
    """
    frame = records if isinstance(records, pd.DataFrame) else load_records(records)
    grid = grid_of(at_start(prepare(frame)), read_barriers(frame))
    grid.table.attrs |= {"choices": grid.choices.to_dict("records"), "remark": grid.remark}
    return grid.table


def read_barriers(frame: pd.DataFrame) -> dict[str, Barriers]:
    """The stored barriers of the runs that have any, right after the expansion; damaged files are skipped.

    Args:
        frame: as of `load_records`.

    Returns:
        The barriers by the id of the run.

    Raises:
        StoreError: the frame does not say which folder it was loaded from.
    """
    rows = rows_with(frame, ("score_id", "reference_id", "run_id"))
    if rows.empty:
        return {}
    kept = set(at_start(prepare(rows))["run_id"])
    of_base, found = cache(_stored), {}
    for row in rows[rows["run_id"].isin(kept)].to_dict("records"):
        candidate = _stored(row["store"], "score", row["score_id"])
        base = of_base(row["store"], "reference", row["reference_id"]) if candidate is not None else None
        if candidate is not None and base is not None:
            found[str(row["run_id"])] = Barriers(candidate, base)
    return found


def _stored(store: str, stage: str, identity: object) -> NDArray[np.float64] | None:
    """The barriers (chains, nodes per chain) that a stage keeps; None if it holds none that can be read."""
    barriers = arrays(store, stage, identity, "tensors").get("barriers")
    if barriers is None or barriers.ndim not in (1, 2) or not barriers.size or np.isnan(barriers).any():
        return None
    return np.atleast_2d(barriers).astype(np.float64)
