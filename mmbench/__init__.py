"""mmbench: does the loss landscape predict how much a network gains from being expanded?

frame = mmbench.load_records("results")
table = mmbench.correlate(frame)
tables = mmbench.judge(frame)
large = mmbench.expand(model, "net2wider", factor=2.0)
again = mmbench.build(mmbench.configuration(large))
trace = mmbench.measure(model, (images, labels), "hessian_trace", probes=64)
advice = mmbench.advise(model, (images, labels), budget=2.0)
scores = mmbench.measure_all(model, (images, labels), ["hessian_trace", "top_eigenvalue"])
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmbench.advice.advise import advise
    from mmbench.expansions.apply import expand
    from mmbench.metrics.base import Estimate, measure, measure_all
    from mmbench.models.reading import build, configuration
    from mmbench.records.frame import load_records
    from mmbench.statistics.judge import correlate, judge

__version__ = "0.1.0"
__all__ = [
    "Estimate",
    "advise",
    "build",
    "configuration",
    "correlate",
    "expand",
    "judge",
    "load_records",
    "measure",
    "measure_all",
]

_HOMES = {
    "load_records": "mmbench.records.frame",
    "correlate": "mmbench.statistics.judge",
    "judge": "mmbench.statistics.judge",
    "expand": "mmbench.expansions.apply",
    "configuration": "mmbench.models.reading",
    "build": "mmbench.models.reading",
    "Estimate": "mmbench.metrics.base",
    "measure": "mmbench.metrics.base",
    "measure_all": "mmbench.metrics.base",
    "advise": "mmbench.advice.advise",
}


def __getattr__(name: str) -> Any:
    # Imported on first use: the command line must answer before torch or pandas could be loaded.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'mmbench' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
