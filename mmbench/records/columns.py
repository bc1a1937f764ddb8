"""From records, which are dictionaries, to a frame with one dtype per column."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

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
    "best_validation_gain": "number",
    "base_loss": "number",
    "final_loss": "number",
    "train_seconds": "number",
}
"""The contract's columns in order. text: `string`, count: `Int64`, number: `float64`; all of them allow nulls."""


def records_frame(records: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Records as a frame: the contract's columns, then the others, sorted; lists and the like become JSON text."""
    extras = sorted({name for record in records for name in record} - COLUMNS.keys())
    data = {}
    for name in [*COLUMNS, *extras]:
        values = [record.get(name) for record in records]
        data[name] = _column(values, COLUMNS.get(name) or _kind(values))
    return pd.DataFrame(data)


def _kind(values: Sequence[Any]) -> str:
    """The kind of a column that the contract does not name; a mixed one is text."""
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
            pass  # not an integer, or one beyond 64 bits
    return pd.to_numeric(pd.Series(values, dtype=object), errors="coerce").astype("float64")
