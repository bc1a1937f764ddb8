"""Synthetic records, shared with the tests of records and statistics."""

from tests.records.synthetic import points, record, stored, sweep, sweep_frame, sweep_table  # noqa: F401
