"""The versions of what computes, for the records: without them nobody can say later what a number came from."""

from __future__ import annotations

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("mmbench", "torch", "timm")


@cache
def versions() -> dict[str, str]:
    """`torch_version` and the like, and the platform; of packages that are installed, without loading them."""
    found = {"python_version": platform.python_version(), "platform": platform.platform()}
    for name in PACKAGES:
        try:
            found[f"{name}_version"] = version(name)
        except PackageNotFoundError:  # mmbench on the path, not installed
            found[f"{name}_version"] = "not installed"
    return found
