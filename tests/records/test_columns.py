"""Which dtype a column gets."""

import pytest

from mmbench.records.columns import COLUMNS, records_frame

pytestmark = pytest.mark.filterwarnings("error")


@pytest.mark.parametrize(
    ("values", "dtype", "column"),
    [
        ([1, 2], "Int64", [1, 2]),
        ([None, "a"], "string", [None, "a"]),
        ([True, None], "boolean", [True, None]),
        ([1, 1.5], "float64", [1, 1.5]),
        ([2**70, 1], "float64", [2.0**70, 1]),
        ([1, "a"], "string", ["1", "a"]),
        ([True, 0], "string", ["true", "0"]),
        ([[1], 2.5], "string", ["[1]", "2.5"]),
        ([None, None], "float64", [None, None]),
    ],
    ids=["whole", "null first", "null last", "whole and not", "beyond 64 bits", "number and text", "flag and number",
         "list and number", "null"],
)  # fmt: skip
def test_a_column_has_one_dtype(values, dtype, column):
    found = records_frame([{"x": value} for value in values])["x"]
    assert str(found.dtype) == dtype
    assert found.astype(object).where(found.notna(), None).tolist() == column


def test_a_count_of_the_contract_that_is_not_whole_becomes_a_number():
    assert records_frame([{"seed": 1}, {"seed": 1.5}])["seed"].tolist() == [1, 1.5]


def test_a_column_that_some_records_lack_is_null_there():
    frame = records_frame([{"x": 1}, {"y": "a"}])
    assert list(frame.columns) == [*COLUMNS, "x", "y"]
    assert frame["x"].isna().tolist() == [False, True]
