"""From records, which are dictionaries, to a frame with one dtype per column, whole or in parts that are joined."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

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

_KINDS = {"string": "text", "boolean": "flag", "Int64": "count", "float64": "number"}
_DTYPES = {kind: dtype for dtype, kind in _KINDS.items()}


class MixedError(Exception):
    """The parts of a column have kinds that only the records themselves can tell how to unite."""


def typed(records: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Records as a frame: the contract's columns, then the others, sorted; lists and the like become JSON text."""
    extras = sorted({name for record in records for name in record} - COLUMNS.keys())
    data = {}
    for name in [*COLUMNS, *extras]:
        values = [record.get(name) for record in records]
        data[name] = _column(values, COLUMNS.get(name) or _kind(values))
    return pd.DataFrame(data)


def joined(parts: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """The frames of several parts as the one that `typed` makes of all their records.

    Raises:
        MixedError: a column is text in one part and something else in another.
    """
    if len(parts) == 1:
        return parts[0]
    extras = sorted({str(name) for part in parts for name in part} - COLUMNS.keys())
    data = {}
    for name in [*COLUMNS, *extras]:
        kinds = {_KINDS[str(part[name].dtype)] for part in parts if name in part and part[name].notna().any()}
        if kinds == {"count", "number"}:
            kinds = {"number"}
        if len(kinds) > 1:
            raise MixedError(name)
        dtype: Any = _DTYPES[kinds.pop() if kinds else COLUMNS.get(name, "number")]
        pieces = [
            part[name].astype(dtype) if name in part and part[name].notna().any() else _nulls(len(part), dtype)
            for part in parts
        ]
        data[name] = pd.concat(pieces, ignore_index=True)
    return pd.DataFrame(data)


def _nulls(n: int, dtype: str) -> pd.Series:
    return pd.Series(np.full(n, np.nan) if dtype == "float64" else [None] * n, dtype=dtype)


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
