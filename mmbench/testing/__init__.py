"""Contract tests that a component of another package can inherit. They need pytest, which mmbench itself does not.

from mmbench.testing.metrics import MetricContract

class TestMine(MetricContract):
    metric = "mine"
"""

from __future__ import annotations

import importlib.util

if importlib.util.find_spec("pytest") is None:
    raise ImportError("mmbench.testing needs pytest, which is not installed: pip install pytest")

import pytest

# So that failures show the values that were compared.
pytest.register_assert_rewrite(*(f"mmbench.testing.{kind}" for kind in ("datasets", "expansions", "metrics", "models")))
