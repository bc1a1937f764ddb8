"""The records of one or several stores as one pandas frame, and the frame as files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from mmbench.arguments import shown
from mmbench.errors import ConfigError, StoreError
from mmbench.records.columns import records_frame
from mmbench.store.files import read_json, replacing
from mmbench.store.store import VERSION, Store
from mmbench.store.survey import superseded

Stores = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

ORDER = ["dataset", "model", "expansion", "axis", "budget", "factor", "training", "metric", "seed", "run_id"]
"""Rows are sorted by these, so that the frame reads well and does not depend on the order of the files."""


def load_records(path: Stores, where: str | None = None) -> pd.DataFrame:
    """One row per run stored in the results folder `path`; failed and skipped runs are rows like any other.

    The columns of the contract come first, in its order and with its dtypes, also where no record has a value; columns
    that it does not name follow, sorted. Values that are not a single number or text (lists, say) become JSON text.

    `frame.attrs` says what is missing from the rows:

    * damaged: the paths of files that are damaged or lie under another run's name.
    * other_versions: {path, version} of records of another version of the store.
    * where, filtered: the filter, and how many rows it left out.
    * superseded: how many failed, skipped and missing runs a later sweep repeats with other data; they are left out.
    * unfinished: how many runs of the store's sweeps have no record yet (`missing`), and how many of these `running`.
    * stores: the folders.

    Args:
        path: a results folder, or several; then a column `store` tells them apart.
        where: which rows to keep, a pandas query on the columns: `model == "vit" and budget > 2`.

    Returns:
        The records, sorted by `ORDER`.

    Raises:
        StoreError: there is no folder `path`.
        ConfigError: `where` cannot be understood.
    """
    stores = folders(path)
    records: list[dict[str, Any]] = []
    damaged: list[str] = []
    other_versions: list[dict[str, str]] = []
    for folder in stores:
        for file in sorted((folder / "records").glob("*.json")):
            record = read_json(file)
            if record is None or record.get("run_id", file.stem) != file.stem:
                if file.exists():  # else it was removed while we read
                    damaged.append(str(file))
            elif (version := record.pop("store_version", None)) != VERSION:
                other_versions.append({"path": str(file), "version": "unknown" if version is None else str(version)})
            else:
                record.pop("config", None)  # every option of the run, for `mmbench show`
                records.append({**record, "store": str(folder)} if len(stores) > 1 else record)
    sweeps = {folder: Store(folder).sweeps() for folder in stores}
    outdated = {run_id for of_store in sweeps.values() for run_id in superseded(of_store)}
    left_out = {record["run_id"] for record in records if record["status"] != "done"} & outdated
    records = [record for record in records if record["run_id"] not in left_out]
    frame = records_frame(records)
    order = [*ORDER, "store"] if "store" in frame else ORDER
    frame = frame.sort_values(order, kind="stable", ignore_index=True)
    total = len(frame)
    unfinished = _unfinished(sweeps, set(frame["run_id"].dropna()) | outdated)
    if where is not None:
        frame = _filtered(frame, where)
    frame.attrs |= {"damaged": damaged, "other_versions": other_versions, "stores": [str(folder) for folder in stores]}
    frame.attrs |= {"where": where, "filtered": total - len(frame), "unfinished": unfinished}
    frame.attrs["superseded"] = len(left_out)
    return frame


def folders(path: Stores) -> list[Path]:
    """The results folders that were named, each once.

    Returns:
        The folders in the order given.

    Raises:
        StoreError: none was named, or one of them is not a folder.
    """
    given: Any = path
    one = isinstance(given, str | bytes | os.PathLike | pd.DataFrame) or not isinstance(given, Iterable)
    paths: list[Any] = [given] if one else list(given)
    for wrong in (one for one in paths if not isinstance(one, str | os.PathLike)):
        raise StoreError(f"results = {shown(wrong)} is not allowed: must be the path of a results folder, or several")
    if not paths:
        raise StoreError("results is empty; give the folder that `mmbench run results=DIR` wrote to")
    distinct = list(dict.fromkeys(map(Path, paths)))
    for folder in distinct:
        if not folder.is_dir():
            what = "is not a folder" if folder.exists() else "does not exist"
            raise StoreError(
                f"results = {str(folder)!r} {what}; give the folder that `mmbench run results=DIR` wrote to"
            )
    return distinct


def write_records(frame: pd.DataFrame, folder: Path) -> None:
    """Write records.parquet and records.csv into `folder`, each replaced whole; the CSV has full precision."""
    with replacing(folder / "records.parquet") as path:
        frame.to_parquet(path, index=False)
    write_table(frame, folder / "records.csv")


def write_table(table: pd.DataFrame, path: Path) -> None:
    r"""Write a table as CSV in UTF-8, replaced whole: decimal points, full precision, nulls empty.

    There is no byte order mark: pandas, R and LibreOffice do not need one, and some readers take it for a part of the
    first column's name. All that mmbench writes itself is ASCII, so Excel shows it correctly; only an error message or
    a folder's name may hold other characters. Line breaks inside a text (a traceback) become the two characters `\n`,
    so that each row is one line.
    """
    text = table.copy(deep=False)
    for name in text.columns[text.dtypes == "string"]:
        text[name] = text[name].str.replace("\r", "").str.replace("\n", "\\n")
    with replacing(path) as temporary:
        text.to_csv(temporary, index=False, lineterminator="\n")


def _unfinished(sweeps: dict[Path, list[dict[str, Any]]], settled: set[str]) -> dict[str, int]:
    """How many runs of the stores' sweeps are not settled, and how many of these are running."""
    wanted = {run_id for of_store in sweeps.values() for sweep in of_store for run_id in sweep.get("runs", {})}
    running = {run_id for folder in sweeps for run_id in Store(folder).running()}
    missing = wanted - settled
    return {"missing": len(missing), "running": len(missing & running)}


def _filtered(frame: pd.DataFrame, where: str) -> pd.DataFrame:
    try:
        kept = frame.eval(where)
    except Exception as error:  # pandas raises errors of many kinds for a wrong expression
        raise ConfigError(_misunderstood(where, str(error), frame)) from None
    if not isinstance(kept, pd.Series) or not pd.api.types.is_bool_dtype(kept.dtype):
        raise ConfigError(_misunderstood(where, "it is not a condition", frame))
    return frame[kept.fillna(False).to_numpy(dtype=bool)].reset_index(drop=True)


def _misunderstood(where: str, problem: str, frame: pd.DataFrame) -> str:
    columns = ", ".join(map(str, frame.columns))
    return (
        f"where = {where!r} cannot be understood: {problem}; give a condition on columns, such as "
        f"where=\"model == 'vit' and budget > 2\"; the columns are {columns}"
    )
