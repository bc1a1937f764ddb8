"""Synthetic records."""

from tests.records.synthetic import stored, sweep, sweep_frame, sweep_table  # noqa: F401
