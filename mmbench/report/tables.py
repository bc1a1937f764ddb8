"""The tables of the report, each as HTML from the tables of a judgement; empty where there is nothing to show."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from html import escape
from typing import Any

import pandas as pd

from mmbench.report.columns import CEILING, CHOICE, DASH, EQUAL, MAIN, Column, Row, kind_of, probability, share
from mmbench.report.figures.style import interval_text, signed
from mmbench.report.html import Html, bullets, html_table
from mmbench.report.verdict import count, listed
from mmbench.statistics.judge import Judgement, ranked
from mmbench.statistics.target import TARGETS

MOST = 60
"""Rows of a table that grows with the data; the rest is in the CSV."""


def named(row: Row) -> Html:
    """A metric's name with its role."""
    kind = kind_of(row)
    return Html(f"{escape(str(row['metric']))}{f' <small>{escape(kind)}</small>' if kind else ''}")


def metrics_table(rows: pd.DataFrame, columns: Sequence[Column], caption: str) -> str:
    """A row per metric."""
    body = [([named(row), *(render(row) for _, render in columns)], kind_of(row)) for row in rows.to_dict("records")]
    return html_table(["metric", *(heading for heading, _ in columns)], body, caption=caption)


def remarks(rows: pd.DataFrame) -> str:
    """What the rows say of themselves in words; metrics of which the same is said, together."""
    said: dict[str, list[str]] = {}
    for row in rows.to_dict("records"):
        if words := _words(row):
            said.setdefault(words, []).append(str(row["metric"]))
    return bullets(
        [f"{'All' if len(names) == len(rows) else listed(names)}: {words}" for words, names in said.items()], "caveats"
    )


def main(judgement: Judgement) -> str:
    """The correlations with the gain."""
    rows = ranked(judgement.correlations)
    caption = (
        "Rank correlation of each metric with the gain, over all runs; best agreement with the expected sign first"
    )
    return metrics_table(rows, MAIN, caption) + remarks(rows) if len(rows) else ""


def equal(judgement: Judgement) -> str:
    """What is left inside groups of equal size, and each group."""
    rows = ranked(judgement.correlations)
    if not len(rows) or rows["equal_budget_spearman"].isna().all():
        return "<p>No group of equal budget has three configurations yet.</p>"
    caption = "Rank correlation with the gain inside groups of equal budget, pooled over the groups"
    known = rows[rows["equal_budget_spearman"].notna()]
    return metrics_table(known, EQUAL, caption) + _cells(judgement, list(known["metric"]))


def _cells(judgement: Judgement, metrics: Sequence[str]) -> str:
    cells = judgement.cells
    cells = cells[(cells["target"] == "gain") & (cells["kind"] == "equal_budget")]
    labels = sorted(set(cells["label"].dropna()))
    found = {(row["label"], row["metric"]): row for row in cells.to_dict("records")}

    def text(label: str, metric: str) -> str:
        row = found.get((label, metric))
        return DASH if row is None or pd.isna(row["spearman"]) else f"{signed(row['spearman'])} ({row['n']})"

    caption = "ρ with the gain in each group of equal budget (configurations)"
    return _crossed("group", labels, metrics, text, caption, "cells.csv")


def choice(judgement: Judgement) -> str:
    """Regret, precision and sign error."""
    rows = ranked(judgement.correlations)
    caption = (
        "What a choice by the metric brings: accuracy points lost by its first choice, share of the best three found, "
        "and how often it orders two configurations that differ in one thing wrongly (0.5 is a coin)"
    )
    return metrics_table(rows, CHOICE, caption) if len(rows) else ""


def differences(judgement: Judgement) -> str:
    """The manifold metric against every other, on the same configurations."""
    table = judgement.differences
    table = table[(table["target"] == "gain") & (table["group"] == "all")]
    words = {"spearman": "over all", "equal_budget_spearman": "at equal budget"}
    body = []
    for row in table.sort_values(["metric", "statistic", "rival"], ascending=[True, False, True]).to_dict("records"):
        cells = [
            f"{row['metric']} against {row['rival']}", words.get(row["statistic"], str(row["statistic"])),
            signed(row["rho"]), signed(row["rival_rho"]), signed(row["difference"]),
            interval_text(row["ci_low"], row["ci_high"]), probability(row["p_value"]), probability(row["q_value"]),
            str(row["n_configurations"]), _words(row),
        ]  # fmt: skip
        body.append((cells, ""))
    if not body:
        return "<p>There is no manifold metric, or nothing to compare it with.</p>"
    headings = ["pair", "where", "ρ", "ρ of the rival", "difference", "95 % interval", "p", "q", "n", "remark"]
    caption = "Correlations turned by their expected signs, and their paired difference; above 0 manifold is better"
    return _without_empty(headings, body, caption, {9})


def targets(judgement: Judgement) -> str:
    """One score can predict one target and not another: rho with each."""
    table = judgement.correlations
    table = table[(table["group"] == "all") & (table["n_configurations"] > 0)]
    present = [target for target in TARGETS if (table["target"] == target).any()]
    found = {(row["metric"], row["target"]): row for row in table.to_dict("records")}
    order = [*ranked(judgement.correlations)["metric"]]
    body = []
    for metric in order:
        rows = [found.get((metric, target)) for target in present]
        texts = [
            DASH if row is None else f"{signed(row['spearman'])} {interval_text(row['ci_low'], row['ci_high'])}"
            for row in rows
        ]
        some = next((row for row in rows if row is not None), None)
        if some is not None:
            body.append(([named(some), *texts], kind_of(some)))
    caption = (
        "ρ with each target and its 95 % interval; a larger generalisation gap is worse, so the sign to expect turns"
    )
    headings = ["metric", *(TARGETS.get(target, target) for target in present)]
    return html_table(headings, body, caption=caption) if body and len(present) > 1 else ""


def groups(judgement: Judgement) -> str:
    """Spearman's rho with the gain, group by metric; groups too small to have one are left to the CSV."""
    table = judgement.correlations
    rows = table[(table["target"] == "gain") & (table["n_configurations"] >= 3)]
    names = list(dict.fromkeys(rows["group"]))
    metrics = [metric for metric in ranked(table)["metric"] if metric in set(rows["metric"])]
    found = {(row["group"], row["metric"]): row for row in rows.to_dict("records")}

    def text(group: str, metric: str) -> str:
        row = found.get((group, metric))
        return DASH if row is None else f"{signed(row['spearman'])} ({row['n_configurations']})"

    if len(names) < 2:
        return "<p>No group has 3 configurations yet.</p>"
    caption = "ρ with the gain in each group of at least 3 configurations (their number); small groups swing widely"
    return _crossed("group", names, metrics, text, caption, "correlations.csv")


def granulated(judgement: Judgement) -> str:
    """Kendall's tau with all but one thing fixed."""
    table = judgement.granulated
    table = table[(table["target"] == "gain") & table["psi"].notna()]
    axes = list(dict.fromkeys(table["axis"]))
    metrics = [metric for metric in ranked(judgement.correlations)["metric"] if metric in set(table["metric"])]
    found = {(row["axis"], row["metric"]): row for row in table.to_dict("records")}

    def text(axis: str, metric: str) -> str:
        row = found.get((axis, metric))
        return DASH if row is None else f"{signed(row['psi'])} ({row['strata']})"

    caption = "Granulated Kendall: mean τ with the gain where only one thing differs (cells)"
    return _crossed("what differs", axes, metrics, text, caption, "granulated.csv") if axes else ""


def transfer(judgement: Judgement) -> str:
    """Does the sign learned elsewhere hold in a group that was left out?"""
    table = judgement.transfer
    table = table[(table["target"] == "gain") & table["transferred"].notna()]
    places = sorted({(row["by"], row["held_out"]) for row in table.to_dict("records")})
    metrics = [metric for metric in ranked(judgement.correlations)["metric"] if metric in set(table["metric"])]
    found = {(f"{row['by']}={row['held_out']}", row["metric"]): row for row in table.to_dict("records")}

    def text(place: str, metric: str) -> str:
        row = found.get((place, metric))
        return DASH if row is None else f"{signed(row['transferred'])} ({row['n']})"

    caption = (
        "Transfer: ρ in a group that was left out, turned by the sign that the other groups have; positive where the "
        "rule carried over (configurations)"
    )
    labels = [f"{by}={held}" for by, held in places]
    return _crossed("left out", labels, metrics, text, caption, "transfer.csv") if places else ""


def reliability(judgement: Judgement) -> str:
    """How far seeds agree, and the largest correlation that they leave room for."""
    table, rows = judgement.reliability, ranked(judgement.correlations)
    body = [
        ([TARGETS.get(row["target"], row["target"]), _number(row["seeds"]), str(row["configurations"]),
          signed(row["single"]), signed(row["mean"]), signed(row["ceiling"]), _words(row)], "")
        for row in table.to_dict("records")
    ]  # fmt: skip
    first = ""
    if body:
        headings = ["target", "seeds", "configurations", "one seed", "mean of the seeds", "largest ρ", "remark"]
        caption = "Agreement of the seeds (intraclass correlation of ranks), and the ceiling that it sets"
        first = _without_empty(headings, body, caption, {6})
    known = rows[rows["noise_ceiling"].notna()] if "noise_ceiling" in rows else rows[:0]
    if not len(known):
        return first
    return first + metrics_table(known, CEILING, "Reliability of score and gain, and the noise ceiling that follows")


def failures(frame: pd.DataFrame, judgement: Judgement) -> str:
    """How many runs are done, failed and skipped; what did not count, and why.

    Reasons that differ only in their numbers are one.
    """
    counts = frame["status"].fillna("unknown").value_counts() if len(frame) else pd.Series(dtype=int)
    damaged = frame.attrs.get("damaged", [])
    summary = ", ".join(f"{counts.get(status, 0):,} {status}" for status in ("done", "failed", "skipped"))
    text = f"<p>{count(len(frame), 'run')}: {summary}. {count(len(damaged), 'damaged record file')} left out.</p>"
    notes = []
    if frame.attrs.get("filtered"):
        condition = frame.attrs.get("where")
        notes.append(f"{count(int(frame.attrs['filtered']), 'run')} left out by the condition {condition}.")
    others = frame.attrs.get("other_versions", [])
    notes += [f"{other.get('path')} is of version {other.get('version')} and was not read." for other in others]
    return text + bullets(notes) + _reasons(frame) + _exclusions(judgement)


def _reasons(frame: pd.DataFrame) -> str:
    lost = frame[frame["status"] != "done"]
    reasons: dict[tuple[str, str], list[str]] = {}
    for status, error in zip(lost["status"].fillna("unknown"), lost["error"].fillna("no reason recorded"), strict=True):
        line = next(iter(str(error).strip().splitlines()), "no reason recorded")
        reasons.setdefault((status, re.sub(r"\d[\d.,e+-]*", "#", line)), []).append(line)
    body: list[tuple[list[Any], str]] = []
    for (status, _), lines in sorted(reasons.items(), key=lambda item: (-len(item[1]), item[0]))[:MOST]:
        prefix = "" if len(set(lines)) == 1 else "for example: "
        body.append(([f"{len(lines):,}", status, prefix + _cut(min(lines))], ""))
    if len(reasons) > MOST:
        body.append((["", "", f"and {len(reasons) - MOST} more reasons; see records.csv"], ""))
    if not body:
        return ""
    return html_table(["runs", "status", "reason"], body, "words", "Runs that failed or were skipped", [2])


def _exclusions(judgement: Judgement) -> str:
    """Runs that are done, and files, that did not count all the same."""
    table = judgement.exclusions
    table = table[table["where"] != "run"]
    body: list[tuple[list[Any], str]] = []
    for row in table.sort_values("n", ascending=False, kind="stable")[:MOST].to_dict("records"):
        what = [str(row[name]) for name in ("metric", "target") if not pd.isna(row[name])]
        body.append(([str(row["where"]), ", ".join(what), _cut(str(row["reason"])), f"{row['n']:,}"], ""))
    if len(table) > MOST:
        body.append((["", "", f"and {len(table) - MOST} more; see exclusions.csv", ""], ""))
    if not body:
        return ""
    caption = "What was done and does not count, with the reason"
    return html_table(["what", "where", "reason", "number"], body, "words", caption, [2])


def branches(frame: pd.DataFrame) -> str:
    """What the manifold metric found on its way: barriers, connectedness, distance and loss of its branches."""
    names = {
        "manifold_barrier": "barrier, nats", "manifold_connected": "connected", "manifold_distance": "distance / norm",
        "manifold_branch_loss": "loss at the ends, nats",
    }  # fmt: skip
    present = [name for name in names if name in frame]
    done = frame[(frame["status"] == "done") & frame["metric"].fillna("").str.startswith("manifold")]
    if not present or done.empty:
        return ""
    means = done.groupby(["dataset", "model", "expansion"])[present].mean()
    body = []
    for place, row in list(means.iterrows())[:MOST]:
        label = ", ".join(map(str, place)) if isinstance(place, tuple) else str(place)
        cells = [share(row[name]) if name == "manifold_connected" else f"{row[name]:.3g}" for name in present]
        body.append(([label, *("–" if cell == "nan" else cell for cell in cells)], ""))
    caption = "The branches of the manifold metric, mean over runs; connected: share of thresholds above the barrier"
    return html_table(["data set, model, operator", *(names[name] for name in present)], body, caption=caption)


def _crossed(
    corner: str, labels: Sequence[str], metrics: Sequence[str], text: Callable[[str, str], str], caption: str, file: str
) -> str:
    """A table of two things crossed: the longer list goes down, so that the table stays narrow."""
    if not labels or not metrics:
        return ""
    more = f"; {len(labels) - MOST} more groups are in {file}" if len(labels) > MOST else ""
    labels = labels[:MOST]
    if len(metrics) > len(labels):
        body = [([metric, *(text(label, metric) for label in labels)], "") for metric in metrics]
        return html_table(["metric", *labels], body, caption=caption + more)
    body = [([label, *(text(label, metric) for metric in metrics)], "") for label in labels]
    return html_table([corner, *metrics], body, caption=caption + more)


def _without_empty(
    headings: Sequence[str], body: Sequence[tuple[list[str], str]], caption: str, optional: Iterable[int]
) -> str:
    """The table, less the optional columns that are empty in every row."""
    drop = {place for place in optional if not any(cells[place] for cells, _ in body)}
    kept = [place for place in range(len(headings)) if place not in drop]
    rows = [([cells[place] for place in kept], dim) for cells, dim in body]
    wraps = [kept.index(place) for place in optional if place in kept]
    return html_table([headings[place] for place in kept], rows, caption=caption, text_columns=wraps)


def _words(row: Row) -> str:
    return "" if row.get("remark") is None or pd.isna(row["remark"]) else str(row["remark"])


def _number(value: Any) -> str:
    return DASH if pd.isna(value) else f"{value:.3g}"


def _cut(text: str, length: int = 300) -> str:
    return text if len(text) <= length else f"{text[:length]}…"
