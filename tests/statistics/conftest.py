"""Synthetic records."""

from tests.records.synthetic import points, record, stored, sweep, sweep_frame, sweep_table  # noqa: F401
