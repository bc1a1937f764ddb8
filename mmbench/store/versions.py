"""The versions of the software, for the records: they say how a number was computed."""

from __future__ import annotations

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("mmbench", "torch", "timm")


@cache
def versions() -> dict[str, str]:
    """The platform and the versions (`torch_version`, ...). Loads no package."""
    known = {"python_version": platform.python_version(), "platform": platform.platform()}
    for name in PACKAGES:
        try:
            known[f"{name}_version"] = version(name)
        except PackageNotFoundError:  # mmbench on the path, not installed
            known[f"{name}_version"] = "not installed"
    return known
