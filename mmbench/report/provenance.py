"""Where an analysis comes from: every setting of its runs in full, and the versions of what made it."""

from __future__ import annotations

import json
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import pandas as pd

from mmbench.records.curves import Traces
from mmbench.report.html import html_table, paragraphs
from mmbench.report.verdict import count
from mmbench.store.versions import versions

PACKAGES = (
    *("mmbench", "torch", "torchvision", "timm", "hydra-core", "omegaconf"),
    *("numpy", "pandas", "pyarrow", "scipy", "scikit-learn", "matplotlib", "safetensors", "pydantic"),
)
RECORDED = ("device", *versions())
"""What records say of the machine that ran them."""


def settings_section(traces: Traces) -> str:
    """A row per distinct model, data set, expansion, training and metric, with all its options."""
    rows = []
    for part, texts in traces.settings.items():
        for text in texts:
            options = json.loads(text)
            name = options.pop("name", "") if isinstance(options, dict) else ""
            rest = ", ".join(f"{key}={_plain(value)}" for key, value in options.items()) if options else "no options"
            rows.append(([part, str(name), rest], ""))
    if not rows:
        return "<p>The store holds no stage results, so that the runs' options are not known.</p>"
    more = ""
    if traces.left_out:
        more = (
            f"<p class=note>The store is large: {traces.left_out:,} of its stage results were not read, so that a "
            "setting may be missing here.</p>"
        )
    caption = "Every model, data set, expansion, training recipe and metric of these runs, with all its options"
    return html_table(["part", "name", "options"], rows, "words", caption, text_columns=[2]) + more


def versions_section(frame: pd.DataFrame) -> str:
    """Versions that the records hold, then those of the machine that made this report."""
    rows = [
        (["recorded by the runs", column, ", ".join(found)], "")
        for column in frame.columns
        if column in RECORDED and (found := sorted({str(value) for value in frame[column].dropna()}))
    ]
    here = {"Python": platform.python_version(), "platform": platform.platform(), **_installed()}
    rows += [(["machine that made this report", name, text], "") for name, text in here.items()]
    note = ""
    if not versions().keys() & set(frame.columns):
        note = (
            "The records of these runs hold no versions. The ones below are those of the machine that analysed them, "
            "which need not be the one that ran them."
        )
    read = f"From {count(len(frame), 'record')}."
    caption = "Versions"
    return paragraphs([read, note] if note else [read]) + html_table(
        ["where", "what", "version"], rows, "words", caption, text_columns=[2]
    )


def _installed() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _plain(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value
