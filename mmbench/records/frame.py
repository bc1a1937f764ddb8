"""The records of one or several stores as one pandas frame, and the frame as files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mmbench.errors import ConfigError, StoreError
from mmbench.records.cache import read_records
from mmbench.records.columns import COLUMNS, MixedError, joined
from mmbench.store.files import replacing
from mmbench.store.store import VERSION, Store

Stores = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

__all__ = ["COLUMNS", "folders", "load_records", "write_records", "write_table"]

ORDER = ["dataset", "model", "expansion", "axis", "budget", "factor", "training", "metric", "seed", "run_id"]
"""Rows are sorted by these, so that the frame reads well and does not depend on the order of the files."""


def load_records(path: Stores, where: str | None = None) -> pd.DataFrame:
    """One row per run stored in the results folder `path`; failed and skipped runs are rows like any other.

    The columns of the contract come first, in its order and with its dtypes, also where no record has a value; columns
    that it does not name follow, sorted. Values that are no single number or text (lists, say) become JSON text. A
    store of some size keeps what was read in its folder `cache`, so that next time only new records are read.

    `frame.attrs` tells what is not there:

    * damaged: the paths of files that are damaged or lie under another run's name.
    * other_versions: {path, version} of records of another version of the store.
    * where, filtered: the filter, and how many rows it left out.
    * unfinished: how many runs of the store's sweeps have no record yet (`missing`), and how many of these `running`.
    * stores: the folders.

    Args:
        path: a results folder, or several; then a column `store` tells them apart.
        where: which rows to keep, a pandas query on the columns: `model == "vit" and budget > 2`.

    Raises:
        StoreError: there is no folder `path`.
        ConfigError: `where` cannot be understood.
    """
    stores = folders(path)
    parts: list[pd.DataFrame] = []
    damaged: list[str] = []
    older: list[dict[str, Any]] = []
    for folder in stores:
        part, unread = read_records(folder)
        part, others = _of_this_version(part, folder)
        parts.append(
            part.assign(store=pd.array([str(folder)] * len(part), dtype="string")) if len(stores) > 1 else part
        )
        damaged += map(str, sorted(unread))
        older += others
    frame = _united(parts)
    frame = frame.sort_values([*ORDER, *(["store"] if len(stores) > 1 else [])], kind="stable", ignore_index=True)
    found = len(frame)
    unfinished = _unfinished(stores, frame)
    if where is not None:
        frame = _kept(frame, where)
    frame.attrs |= {"damaged": damaged, "other_versions": older, "stores": [str(folder) for folder in stores]}
    frame.attrs |= {"where": where, "filtered": found - len(frame), "unfinished": unfinished}
    return frame


def folders(path: Stores) -> list[Path]:
    """The results folders that were named; `StoreError` if one is none."""
    given = [path] if isinstance(path, str | os.PathLike) else list(path)
    found = [Path(one) for one in given]
    if not found:
        raise StoreError("results is empty; give the folder that `mmbench run results=DIR` wrote to")
    for folder in found:
        if not folder.is_dir():
            what = "is not a folder" if folder.exists() else "does not exist"
            raise StoreError(
                f"results = {str(folder)!r} {what}; give the folder that `mmbench run results=DIR` wrote to"
            )
    return list(dict.fromkeys(found))


def write_records(frame: pd.DataFrame, folder: Path) -> None:
    """Write records.parquet and records.csv into `folder`, each replaced whole; the CSV has full precision."""
    with replacing(folder / "records.parquet") as path:
        frame.to_parquet(path, index=False)
    write_table(frame, folder / "records.csv")


def write_table(table: pd.DataFrame, path: Path) -> None:
    r"""Write a table as CSV in UTF-8, replaced whole: points in decimals, full precision, null as nothing.

    There is no byte order mark: pandas, R and LibreOffice do without, and in a reader that does not know it it becomes
    part of the first column's name. All that mmbench writes itself is ASCII, so Excel shows it as it is; only an error
    message or a folder's name may hold more. Line breaks inside a text (a traceback) become the two characters `\n`,
    so that a row is a line.
    """
    text = table.copy(deep=False)
    for name in text.columns[text.dtypes == "string"]:
        text[name] = text[name].str.replace("\r", "").str.replace("\n", "\\n")
    with replacing(path) as temporary:
        text.to_csv(temporary, index=False, lineterminator="\n")


def _united(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Several stores under one another; a column of different kinds becomes text."""
    while True:
        try:
            return joined(parts)
        except MixedError as error:
            name = str(error)
            parts = [part.assign(**{name: part[name].astype("string")}) if name in part else part for part in parts]


def _of_this_version(frame: pd.DataFrame, folder: Path) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """The records of the version that this mmbench writes; and which are of another."""
    if "store_version" not in frame:
        frame = frame.assign(store_version=pd.array([None] * len(frame), dtype="Int64"))
    version = pd.to_numeric(frame["store_version"], errors="coerce")
    other = (version != VERSION).fillna(True).to_numpy(dtype=bool)
    left = [
        {"path": str(folder / "records" / f"{run_id}.json"), "version": "unknown" if pd.isna(found) else f"{found:g}"}
        for run_id, found in zip(frame["run_id"][other], version[other], strict=True)
    ]
    return (frame[~other] if left else frame).drop(columns="store_version"), left


def _unfinished(stores: Sequence[Path], frame: pd.DataFrame) -> dict[str, int]:
    """How many runs that a sweep asked for have no record, and how many of these are running on this machine."""
    recorded = set(frame["run_id"].dropna())
    wanted: set[str] = set()
    running: set[str] = set()
    for folder in stores:
        store = Store(folder)
        wanted |= {run_id for sweep in store.sweeps() for run_id in sweep.get("runs", {})}
        running |= store.running().keys()
    missing = wanted - recorded
    return {"missing": len(missing), "running": len(missing & running)}


def _kept(frame: pd.DataFrame, where: str) -> pd.DataFrame:
    try:
        kept = frame.eval(where)
    except Exception as error:  # whatever a wrong expression comes to, it is the user's
        raise ConfigError(_misunderstood(where, str(error), frame)) from None
    if not isinstance(kept, pd.Series) or not pd.api.types.is_bool_dtype(kept.dtype):
        raise ConfigError(_misunderstood(where, "it is no condition", frame))
    return frame[kept.fillna(False).to_numpy(dtype=bool)].reset_index(drop=True)


def _misunderstood(where: str, problem: str, frame: pd.DataFrame) -> str:
    columns = ", ".join(map(str, frame.columns))
    return (
        f"where = {where!r} cannot be understood: {problem}; give a condition on columns, such as "
        f"where=\"model == 'vit' and budget > 2\"; the columns are {columns}"
    )
