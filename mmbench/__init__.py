"""mmbench: does the loss landscape predict how much a network gains from being expanded?

frame = mmbench.load_records("results")
table = mmbench.correlate(frame)
tables = mmbench.judge(frame)
strategies = mmbench.compare(frame)
grid = mmbench.manifold_grid(frame)
large = mmbench.expand(model, "net2wider", factor=2.0)
mmbench.save(large, "large.safetensors")
again = mmbench.load("large.safetensors")
twin = mmbench.build(mmbench.configuration(large))
trace = mmbench.measure(model, (images, labels), "hessian_trace", probes=64)
advice = mmbench.advise(model, (images, labels), budget=2.0)
scores = mmbench.measure_all(model, (images, labels), ["hessian_trace", "top_eigenvalue"])
"""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path
from typing import Any

__version__ = "0.1.0"

_STUB = ast.parse(Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
_MODULES = {name.name: node.module for node in _STUB.body if isinstance(node, ast.ImportFrom) for name in node.names}
__all__ = [*_MODULES]


def __getattr__(name: str) -> Any:
    # Imported on first use, so that the command line answers before torch and pandas are loaded.
    if name in _MODULES:
        return getattr(import_module(str(_MODULES[name])), name)
    raise AttributeError(f"module 'mmbench' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
