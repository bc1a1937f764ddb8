"""The report: one self-contained HTML page for people, and the same table for the terminal."""

from __future__ import annotations

import math
import platform
import re
from collections.abc import Mapping
from html import escape
from importlib.metadata import PackageNotFoundError, version
from string import Template
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from mmbench.analysis import invariances
from mmbench.analysis.frame import replacing
from mmbench.analysis.html import html_table
from mmbench.analysis.plots import signed
from mmbench.analysis.statistics import ENOUGH, SIZE, TARGETS, compare, decided, interval, mixed, ranked, role

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mmbench.analysis.plots import Drawing
    from mmbench.analysis.statistics import Comparison

RIVALS = (SIZE, "loss_after_k_steps")
"""What the manifold metric has to beat to be worth its cost."""
DASH = "–"
Row = Mapping[Any, Any]


def write_report(
    frame: pd.DataFrame, correlations: pd.DataFrame, folder: Path, drawings: Sequence[Drawing] = ()
) -> Path:
    """Write `folder`/report.html from what `load_records`, `correlate` and `draw` returned, and return its path.

    The page holds its style and its figures, needs no network and no script, and all text from data is escaped. The
    same input gives the same bytes.
    """
    overview = [drawing for drawing in drawings if drawing.svg.stem == "overview"]
    scatters = [drawing for drawing in drawings if drawing.svg.stem != "overview"]
    page = _PAGE.substitute(
        verdict="".join(f"<p>{escape(sentence)}</p>" for sentence in verdict(frame, correlations)),
        overview="".join(_figure(drawing) for drawing in overview),
        tables="".join(_section_of(correlations, target) for target in TARGETS),
        groups=_group_section(correlations),
        invariances=invariances.section(ranked(correlations)["metric"]),
        scatters="".join(_figure(drawing) for drawing in scatters) or "<p>No run has a score and a gain yet.</p>",
        runs=_runs_section(frame),
        made=_made_section(frame),
    )
    path = folder / "report.html"
    with replacing(path) as temporary:
        temporary.write_text(page, encoding="utf-8")
    return path


def verdict(frame: pd.DataFrame, correlations: pd.DataFrame) -> list[str]:
    """What the numbers of group `all` and target `gain` say, in plain sentences, and what they do not."""
    rows = ranked(correlations)
    largest = int(rows["n_configurations"].max()) if len(rows) else 0
    if largest == 0:
        return ["There is nothing to judge yet: no run has both a score and a gain."]
    if largest < ENOUGH:
        return [_too_few(largest), *_mixed(frame)]
    extent = "" if rows["n"].nunique() == 1 else "Up to "
    sentences = [f"{extent}{_count(int(rows['n'].max()), 'run')} of {largest} configurations count for each metric."]
    few = rows[rows["n_configurations"] < ENOUGH]
    if len(few):
        sentences.append(f"Too few configurations (under {ENOUGH}) to say anything of {', '.join(few['metric'])}.")
    judged = rows[rows["n_configurations"] >= ENOUGH]
    clear = judged.apply(decided, axis=1).astype(bool)
    agrees = judged["sign_agrees"].fillna(False).astype(bool)
    known = judged["sign_agrees"].notna()
    sentences += _findings(judged, judged[clear & agrees], judged[clear & known & ~agrees])
    controls = [row["metric"] for row in judged[clear].to_dict("records") if role(**_named(row)) == "negative control"]
    if controls:
        sentences.append(
            f"Caution: the interval of {', '.join(controls)} excludes 0 too, though theory expects nothing there; "
            "read the other correlations with that in mind."
        )
    return [*sentences, *_against_rivals(frame, judged), *_mixed(frame)]


def correlation_table(correlations: pd.DataFrame, target: str = "gain", group: str = "all") -> Table:
    """The correlations of one target and group for the terminal, best agreement with the expected sign first."""
    table = Table(
        title=Text(f"Spearman's rho of score and {target}, {_group_words(group)}", style="table.title"),
        caption="* baseline, ° negative control; n: configurations\nregret: accuracy points lost by its first choice",
        box=SIMPLE_HEAD, padding=0, title_justify="left", caption_justify="left",
    )  # fmt: skip
    table.add_column("metric", overflow="fold")
    for heading, _ in _SHORT:
        table.add_column(
            heading.replace(" b", "\nb").replace(" i", "\ni"), justify="right", no_wrap=True, vertical="bottom"
        )
    for row in ranked(correlations, target, group).to_dict("records"):
        kind = role(**_named(row))
        name = Text(str(row["metric"])).append({"baseline": " *", "negative control": " °"}.get(kind, ""))
        table.add_row(name, *(Text(render(row)) for _, render in _SHORT), style="dim" if kind else None)
    return table


def _too_few(n: int) -> str:
    text = f"Too few to say: only {_count(n, 'configuration')} entered, and rank correlations need at least {ENOUGH}."
    if n < 4:
        return f"{text} With fewer than 4, not even an interval is defined."
    low, high = interval(0.8, n)
    return (
        f"{text} With {n}, the 95 % interval of an observed correlation of 0.80 reaches from {signed(low)} "
        f"to {signed(high)}. The numbers below describe these runs and support no conclusion."
    )


def _findings(judged: pd.DataFrame, good: pd.DataFrame, bad: pd.DataFrame) -> list[str]:
    """Which intervals exclude 0, on which side, and how far to trust that."""
    sentences = []
    if len(good):
        sentences.append(
            f"Correlated with the gain in the direction theory expects (95 % interval excludes 0): {_values(good)}."
        )
    else:
        sentences.append("No metric is shown to correlate with the gain in the direction theory expects.")
    if len(bad):
        sentences.append(f"Correlated in the opposite direction to the one expected: {_values(bad)}.")
    if len(judged) > 1:
        sentences.append(
            f"With {len(judged)} metrics judged, about {len(judged) * 0.05:.1f} such intervals are expected to exclude "
            "0 by chance alone; no correction is made for that."
        )
    return sentences


def _against_rivals(frame: pd.DataFrame, judged: pd.DataFrame) -> list[str]:
    """Whether the manifold metric beats the trivial ones, and what is left of it among networks of one size."""
    rows = {row["metric"]: row for row in judged.to_dict("records") if not pd.isna(row["spearman"])}
    if "manifold" not in rows:
        return []
    sentences = [_compared(rival, compare(frame, "manifold", rival)) for rival in RIVALS if rival in rows]
    equal = rows["manifold"]["equal_budget_spearman"]
    if pd.isna(equal):
        sentences.append(
            "Whether manifold ranks expansions of equal budget cannot be said: no such group is large enough."
        )
    else:
        sentences.append(
            f"Inside groups of equal budget, where size cannot help, manifold has ρ = {signed(equal)} on average."
        )
    return sentences


def _mixed(frame: pd.DataFrame) -> list[str]:
    return [
        f"Caution: {metric} was measured more than once for the same configuration and seed, perhaps with different "
        "options; what is judged here is the average."
        for metric in mixed(frame)
    ]


def _compared(rival: str, found: Comparison) -> str:
    n = found.n_configurations
    numbers = f"{signed(found.rho)} against {signed(found.rival_rho)} in their expected directions, {n} configurations"
    if n < ENOUGH or math.isnan(found.p_value):
        return f"Whether manifold ranks the gain better than {rival} cannot be tested ({numbers})."
    numbers += f", p = {found.p_value:.2g} for the difference"
    if found.p_value >= 0.05:
        return f"Manifold is not shown to rank the gain better or worse than {rival} ({numbers})."
    if found.rho < found.rival_rho:
        return f"Manifold ranks the gain worse than {rival} ({numbers})."
    but = "" if found.rho > 0 else ", but it is itself no predictor of it"
    return f"Manifold ranks the gain better than {rival} ({numbers}){but}."


def _values(rows: pd.DataFrame) -> str:
    perfect = "a perfect order"
    return "; ".join(
        f"{row['metric']} ({signed(row['spearman'])} {perfect if pd.isna(row['ci_low']) else _interval(row)})"
        for row in rows.to_dict("records")
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _named(row: Row) -> dict[str, Any]:
    return {"metric": row["metric"], "expected_sign": row["expected_sign"]}


def _group_words(group: str) -> str:
    return "all runs" if group == "all" else group


def _interval(row: Row) -> str:
    return DASH if pd.isna(row["ci_low"]) else f"[{signed(row['ci_low'])}, {signed(row['ci_high'])}]"


def _sign(row: Row) -> str:
    return DASH if pd.isna(row["expected_sign"]) else {1: "+", -1: "\N{MINUS SIGN}"}.get(row["expected_sign"], "0")


def _points(row: Row) -> str:
    return DASH if pd.isna(row["regret_at_1"]) else f"{100 * row['regret_at_1']:.2f}"


def _cost(row: Row) -> str:
    value = row["cost_fraction"]
    return DASH if pd.isna(value) else "<0.1 %" if 0 < value < 0.001 else f"{100 * value:.1f} %"


_SHORT = (
    ("sign", _sign),
    ("ρ", lambda row: signed(row["spearman"])),
    ("95 % interval", _interval),
    ("n", lambda row: str(row["n_configurations"])),
    ("equal budget", lambda row: signed(row["equal_budget_spearman"])),
    ("partial", lambda row: signed(row["partial_spearman"])),
    ("regret", _points),
    ("cost", _cost),
)
_LONG = (
    *_SHORT[:3],
    ("τ", lambda row: signed(row["kendall"])),
    ("n", lambda row: f"{row['n_configurations']} ({row['n']})"),
    *_SHORT[4:],
)


def _section_of(correlations: pd.DataFrame, target: str) -> str:
    rows = []
    for row in ranked(correlations, target).to_dict("records"):
        kind = role(**_named(row))
        name = f"{escape(str(row['metric']))}{f' <small>{kind}</small>' if kind else ''}"
        rows.append(([name, *(escape(render(row)) for _, render in _LONG)], kind))
    return f"<h3>{escape(target.replace('_', ' '))}</h3>" + html_table(
        ["metric", *(heading for heading, _ in _LONG)], rows
    )


def _group_section(correlations: pd.DataFrame) -> str:
    """Spearman's rho with the gain, metric by group; groups too small to have one are left to correlations.csv."""
    rows = correlations[(correlations["target"] == "gain") & (correlations["n_configurations"] >= 3)]
    groups = list(dict.fromkeys(rows["group"]))
    metrics = list(ranked(correlations)["metric"])
    if len(groups) < 2:
        return "<p>No group has 3 configurations yet.</p>"
    cells = {(row["group"], row["metric"]): row for row in rows.to_dict("records")}
    body = []
    for group in groups:
        found = [cells.get((group, metric)) for metric in metrics]
        texts = [
            DASH if row is None else f"{signed(row['spearman'])} <small>({row['n_configurations']})</small>"
            for row in found
        ]
        body.append(([escape(_group_words(group)), *texts], ""))
    return html_table(["group", *map(escape, metrics)], body)


def _runs_section(frame: pd.DataFrame) -> str:
    """How many runs are done, failed and skipped, and why; reasons that differ only in their numbers are one."""
    counts = frame["status"].fillna("unknown").value_counts() if len(frame) else pd.Series(dtype=int)
    damaged = frame.attrs.get("damaged", [])
    summary = ", ".join(f"{counts.get(status, 0)} {status}" for status in ("done", "failed", "skipped"))
    text = f"<p>{_count(len(frame), 'run')}: {summary}. {_count(len(damaged), 'damaged record file')} left out.</p>"
    lost = frame[frame["status"] != "done"]
    reasons: dict[tuple[str, str], list[str]] = {}
    for status, error in zip(lost["status"].fillna("unknown"), lost["error"].fillna("no reason recorded"), strict=True):
        line = next(iter(str(error).strip().splitlines()), "no reason recorded")
        reasons.setdefault((status, re.sub(r"\d[\d.,e+-]*", "#", line)), []).append(line)
    common = sorted(reasons.items(), key=lambda item: (-len(item[1]), item[0]))
    body = []
    for (status, _), lines in common[:50]:
        example = min(lines)
        prefix = "" if len(set(lines)) == 1 else "for example: "
        short = example if len(example) <= 300 else f"{example[:300]}…"
        body.append(([str(len(lines)), escape(status), escape(prefix + short)], ""))
    if len(common) > 50:
        body.append((["", "", f"and {len(common) - 50} more reasons; see records.csv"], ""))
    return text + (html_table(["runs", "status", "reason"], body, kind="reasons") if body else "")


def _made_section(frame: pd.DataFrame) -> str:
    names = ("mmbench", "numpy", "pandas", "scipy", "matplotlib")
    versions = ", ".join(f"{name} {_version(name)}" for name in names)
    return f"<p>From {_count(len(frame), 'record')}, with {escape(versions)}, Python {platform.python_version()}.</p>"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "(not installed)"


def _figure(drawing: Drawing) -> str:
    """The drawing as inline SVG: only the element itself, scaled by the page, its ids made unique among the figures."""
    svg = drawing.svg.read_text(encoding="utf-8")
    svg = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    opening, rest = svg.split(">", 1)
    box = re.search(r'viewBox="[^"]*"', opening)
    rest = rest.replace("xlink:href", "href")
    stem = escape(drawing.svg.stem)
    rest = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{stem}-", rest)
    label = escape(drawing.alt)
    return (
        f'<figure><svg role="img" aria-label="{label}" {box[0] if box else ""}><title>{label}</title>{rest}</figure>\n'
    )


_PAGE = Template(
    """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>mmbench report</title>
<style>
:root { color-scheme: light; background: #fff; }
body { margin: 0 auto; max-width: 76rem; padding: 1rem; color: #222; font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: .5rem 0 1rem; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .6rem; border-bottom: 1px solid #ddd; padding-bottom: .2rem; }
h3 { font-size: 1rem; margin: 1.2rem 0 .4rem; }
p, ul { max-width: 46rem; margin: .5rem 0; overflow-wrap: anywhere; }
small, .note { color: #5a5a5a; }
.verdict { border-left: .3rem solid #0072b2; background: #f4f8fb; padding: .4rem 1rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .7rem; text-align: right; border-bottom: 1px solid #e4e4e4; white-space: nowrap; }
th:first-child { text-align: left; }
tbody th { position: sticky; left: 0; background: inherit; }
tbody th { font-weight: 500; }
thead th { border-bottom: 2px solid #bbb; vertical-align: bottom; }
tbody tr { background: #fff; }
tbody tr.control { background: #f1f1ec; }
.reasons th, .reasons td { text-align: left; vertical-align: top; }
.reasons td:last-child { white-space: normal; overflow-wrap: anywhere; min-width: 14rem; }
figure { margin: 1rem 0; overflow-x: auto; }
figure svg { display: block; width: 100%; height: auto; max-width: 46rem; }
.overview svg { min-width: 28rem; }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 28rem), 1fr)); gap: 1rem 2rem; }
.grid figure { margin: 0; }
@media (max-width: 40rem) { th small { display: block; } th, td { padding: .3rem .45rem; } }
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; }
  .wide, figure { overflow: visible; }
  table { font-size: 7.5pt; } th, td { padding: .15rem .35rem; }
  figure, tr { break-inside: avoid; } h2, h3 { break-after: avoid; }
  .grid { grid-template-columns: 1fr 1fr; gap: .5rem 1rem; }
}
</style>
</head>
<body>
<h1>Does the loss landscape predict the gain?</h1>
<section class="verdict">
$verdict
</section>
<h2>Overview</h2>
<div class="overview">$overview</div>
<p class="note">Spearman's ρ of score and gain over all configurations, and inside groups of one data set, base model
and budget. The sign in brackets is the one theory expects; the shaded metrics are baselines and negative controls.</p>
<h2>Correlations</h2>
<p class="note">Over all runs, best agreement with the expected sign first. Sign: the one theory expects. n:
configurations (runs). Equal budget: mean ρ inside groups of one data set, base model and budget; not defined for the
parameter count itself. Partial: given log parameters and base accuracy. Regret: accuracy lost by taking the metric's
first choice, in points. Cost: time of the metric over time of training. A dash is a value that these runs do not
define.</p>
$tables
<h2>By group</h2>
<p class="note">ρ with the gain (configurations), for groups of at least 3. Small groups swing widely.</p>
$groups
<h2>What leaves each metric unchanged</h2>
$invariances
<h2>Score against gain</h2>
<p class="note">A large mark is a configuration, averaged over its seeds; the small ones joined to it are its runs.</p>
<div class="grid">
$scatters</div>
<h2>Runs</h2>
$runs
<h2>How it was made</h2>
<p>The unit is the configuration, not the run: score and target are averaged over seeds, then ranked. Intervals are
95 %, after Bonett and Wright (2000); they are rough below $enough configurations and where |ρ| exceeds 0.8. Two metrics
are compared by the test of Meng, Rosenthal and Rubin (1992). Configurations that share a base model are not
independent, so the true uncertainty is larger than the intervals say. All runs count, those of the controls none,
scratch and scratch_matched included; the group arm=expansion leaves these out.</p>
$made
</body>
</html>
""".replace("$enough", str(ENOUGH))
)
