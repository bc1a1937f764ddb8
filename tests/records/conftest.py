"""Synthetic records."""

from tests.records.synthetic import record, stored, sweep  # noqa: F401
