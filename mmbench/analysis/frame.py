"""The records of a store as one pandas frame, and the frame as files."""

from __future__ import annotations

import json
import uuid
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from mmbench.errors import StoreError
from mmbench.store import look

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

COLUMNS = {
    "run_id": "text",
    "status": "text",
    "error": "text",
    "model": "text",
    "dataset": "text",
    "expansion": "text",
    "axis": "text",
    "factor": "number",
    "budget": "number",
    "training": "text",
    "seed": "count",
    "metric": "text",
    "expected_sign": "count",
    "score": "number",
    "score_stderr": "number",
    "metric_seconds": "number",
    "parameters": "count",
    "base_parameters": "count",
    "base_accuracy": "number",
    "final_accuracy": "number",
    "gain": "number",
    "base_loss": "number",
    "final_loss": "number",
    "train_seconds": "number",
}
"""The contract's columns in their order. text: `string`, count: `Int64`, number: `float64`; all of them hold nulls."""

ORDER = ["dataset", "model", "expansion", "axis", "budget", "factor", "training", "metric", "seed", "run_id"]
"""Rows are sorted by these, so that the frame reads well and does not depend on the order of the files."""


def load_records(path: str | os.PathLike[str]) -> pd.DataFrame:
    """One row per run stored in the results folder `path`; failed and skipped runs are rows like any other.

    The columns of the contract come first, in its order and with its dtypes, also where no record has a value; columns
    that it does not name follow, sorted. Values that are no single number or text (lists, say) become JSON text.
    A file that is no record of this version is left out: `frame.attrs["damaged"]` lists the paths of those that are
    damaged or copied from another run, `frame.attrs["older"]` of those that another version of mmbench wrote.

    Raises:
        StoreError: there is no folder `path`.
    """
    folder = Path(path)
    if not folder.is_dir():
        found = "is not a folder" if folder.exists() else "does not exist"
        raise StoreError(f"results = {str(path)!r} {found}; give the folder that `mmbench run results=DIR` wrote to")
    records: list[dict[str, Any]] = []
    left_out: dict[str, list[str]] = {"damaged": [], "older": []}
    for file in sorted((folder / "records").glob("*.json")):
        entry = look(file)
        if entry.record is not None:
            records.append({name: value for name, value in entry.record.items() if name != "store_version"})
        else:
            left_out["older" if entry.state == "older" else "damaged"].append(str(file))
    extras = sorted({name for record in records for name in record} - COLUMNS.keys())
    data = {}
    for name in [*COLUMNS, *extras]:
        values = [record.get(name) for record in records]
        data[name] = _column(values, COLUMNS.get(name) or _kind(values))
    frame = pd.DataFrame(data).sort_values(ORDER, kind="stable", ignore_index=True)
    frame.attrs.update(left_out)
    return frame


def write_records(frame: pd.DataFrame, folder: Path) -> None:
    """Write records.parquet and records.csv into `folder`, each replaced whole; the CSV has full precision."""
    with replacing(folder / "records.parquet") as path:
        frame.to_parquet(path, index=False)
    with replacing(folder / "records.csv") as path:
        frame.to_csv(path, index=False)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path to write to; moved to `path` when the block succeeds, so that a reader sees all or nothing."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _kind(values: Sequence[Any]) -> str:
    """The kind of a column that the contract does not name."""
    types = {type(value) for value in values if value is not None}
    if types == {bool}:
        return "flag"
    if types == {int}:
        return "count"
    return "number" if types <= {int, float} else "text"


def _column(values: Sequence[Any], kind: str) -> Any:
    if kind == "text":
        return pd.array([v if v is None or isinstance(v, str) else json.dumps(v) for v in values], dtype="string")
    if kind == "flag":
        return pd.array(values, dtype="boolean")
    if kind == "count":
        try:
            return pd.array(values, dtype="Int64")
        except (TypeError, ValueError, OverflowError):
            pass  # not an integer after all, or one beyond 64 bits
    return pd.to_numeric(pd.Series(values, dtype=object), errors="coerce").astype("float64")
