"""How many runs are done, failed and skipped, what was left out, and why."""

from __future__ import annotations

import re
from typing import Any

import pandas as pd

from mmbench.report.sections.base import Results, Section
from mmbench.report.table import MOST, Table
from mmbench.text import count, shortened

LONGEST = 300
"""Characters of a reason."""
UNKNOWN = "no reason recorded"


class Runs(Section):
    """Counts, and why runs are missing."""

    title = "Runs"
    order = 110
    template = """
<p>{{ runs }}: {{ summary }}. {{ damaged }} left out.</p>
{{ bullets(notes) }}
{% if reasons %}{{ table(reasons) }}{% endif %}
{% if exclusions %}{{ table(exclusions) }}{% endif %}
"""

    def content(self, results: Results) -> dict[str, Any] | None:
        """Always shown, even if all runs failed."""
        frame = results.frame
        counts = frame["status"].fillna("unknown").value_counts() if len(frame) else pd.Series(dtype=int)
        notes = []
        if frame.attrs.get("filtered"):
            condition = frame.attrs.get("where")
            notes.append(f"{count(int(frame.attrs['filtered']), 'run')} left out by the condition {condition}.")
        older = frame.attrs.get("other_versions", [])
        notes += [f"{file.get('path')} is of version {file.get('version')} and was not read." for file in older]
        return {
            "runs": count(len(frame), "run"),
            "summary": ", ".join(f"{counts.get(status, 0):,} {status}" for status in ("done", "failed", "skipped")),
            "damaged": count(len(frame.attrs.get("damaged", [])), "damaged record file"),
            "notes": notes,
            "reasons": _reasons(frame),
            "exclusions": _exclusions(results),
        }


def _reasons(frame: pd.DataFrame) -> Table | None:
    """Why runs failed or were skipped, the most frequent reason first. Reasons that differ in numbers are one."""
    lost = frame[frame["status"] != "done"]
    reasons: dict[tuple[str, str], list[str]] = {}
    for status, error in zip(lost["status"].fillna("unknown"), lost["error"].fillna(UNKNOWN), strict=True):
        line = next(iter(str(error).strip().splitlines()), UNKNOWN)
        reasons.setdefault((status, re.sub(r"\d[\d.,e+-]*", "#", line)), []).append(line)
    rows = []
    for (status, _), lines in sorted(reasons.items(), key=lambda item: (-len(item[1]), item[0]))[:MOST]:
        prefix = "" if len(set(lines)) == 1 else "for example: "
        rows.append([f"{len(lines):,}", status, prefix + shortened(min(lines), LONGEST)])
    if len(reasons) > MOST:
        rows.append(["", "", f"and {len(reasons) - MOST} more reasons; see records.csv"])
    caption = "Runs that failed or were skipped"
    return Table(["runs", "status", "reason"], rows, caption, "words", running={2}) if rows else None


def _exclusions(results: Results) -> Table | None:
    """Files and finished runs that are excluded."""
    table = results.judgement.exclusions
    table = table[table["where"] != "run"]
    rows = []
    for row in table.sort_values("n", ascending=False, kind="stable")[:MOST].to_dict("records"):
        what = [str(row[name]) for name in ("metric", "target") if not pd.isna(row[name])]
        rows.append([str(row["where"]), ", ".join(what), shortened(row["reason"], LONGEST), f"{row['n']:,}"])
    if len(table) > MOST:
        rows.append(["", "", f"and {len(table) - MOST} more; see exclusions.csv", ""])
    caption = "What is excluded although it is done, and why"
    return Table(["what", "where", "reason", "number"], rows, caption, "words", running={2}) if rows else None
