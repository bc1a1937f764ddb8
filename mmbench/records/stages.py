"""The arrays that the stages of a store keep, for the rows of a frame; what is damaged or missing is left out."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from mmbench.errors import StoreError


def rows_with(frame: pd.DataFrame, columns: Iterable[str]) -> pd.DataFrame:
    """The runs that are done and have a value in each of these columns.

    Args:
        frame: as of `load_records`.
        columns: their names.

    Returns:
        The rows, with the results folder of each in the column `store`; none if the frame lacks a column.

    Raises:
        StoreError: the frame does not say which folder it was loaded from.
    """
    needed = ["status", *columns]
    if frame.empty or not set(needed) <= set(frame.columns):
        return frame.iloc[:0]
    rows = frame[(frame["status"] == "done") & frame[needed].notna().all(axis=1)]
    if rows.empty or "store" in rows:
        return rows
    stores = frame.attrs.get("stores", [])
    if len(stores) != 1:
        raise StoreError(
            "the frame does not say which results folder it is from; pass the folder itself, or a frame of "
            "mmbench.load_records(folder)"
        )
    return rows.assign(store=stores[0])


def arrays(store: str, stage: str, identity: object, name: str) -> dict[str, NDArray[Any]]:
    """What one stage keeps in one file.

    Args:
        store: the results folder.
        stage: the kind of stage, such as `trained`.
        identity: its id.
        name: of the file, without its ending.

    Returns:
        Arrays by name; none if the file cannot be read.
    """
    try:
        return load_file(Path(store) / "stages" / stage / str(identity) / f"{name}.safetensors")
    except (OSError, SafetensorError):
        return {}
