"""The versions of the software, for the records: they say how a number was computed. And files of a newer mmbench."""

from __future__ import annotations

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

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


def is_newer(found: Any, ours: int) -> str:
    """Why a file is not ours to move or replace: its version of the store came with a later mmbench.

    Args:
        found: the version that the file names.
        ours: the version of the store that this mmbench writes.

    Returns:
        The end of a sentence that begins with the file's path; empty if it is no newer version.
    """
    if not isinstance(found, int) or found <= ours:
        return ""
    return f"was written by a newer mmbench (version {found} of the store, not {ours}): update mmbench to use it"
