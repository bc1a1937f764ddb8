"""The first table of the report in LaTeX, for papers; it needs the package booktabs."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from mmbench.report.columns import DASH, Column, between, cost, kind_of, of, points, sign
from mmbench.statistics.judge import ranked
from mmbench.store.files import replacing

COLUMNS: tuple[Column, ...] = (
    ("sign", sign),
    ("$n$", lambda row: str(row["n_configurations"])),
    (r"$\rho$", of("spearman")),
    (r"95\,\% interval", between("ci_low", "ci_high")),
    ("equal budget", of("equal_budget_spearman")),
    (r"95\,\% interval", between("equal_budget_low", "equal_budget_high")),
    ("partial", of("partial_spearman")),
    ("regret", of("regret_at_1", points)),
    ("cost", cost),
)
_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\N{MINUS SIGN}": "$-$", DASH: "--", "<": "$<$", ">": "$>$",
    "[": "{[}", "]": "{]}",
}  # fmt: skip
# A bracket at the start of a row would be read as the option of the line break before it: hence the braces.


def write_latex(correlations: pd.DataFrame, folder: Path) -> Path:
    """Write `folder`/correlations.tex: every metric's correlation with the gain, controls below a rule."""
    rows = ranked(correlations).to_dict("records")
    under_test = [row for row in rows if not kind_of(row)]
    others = [row for row in rows if kind_of(row)]
    blocks = [
        "\n".join(
            " & ".join([escaped(str(row["metric"])), *(escaped(render(row)) for _, render in COLUMNS)]) + r" \\"
            for row in block
        )
        for block in (under_test, others)
        if block
    ]
    lines = [
        r"% Written by mmbench analyze. \usepackage{booktabs}",
        rf"\begin{{tabular}}{{l{'r' * len(COLUMNS)}}}",
        r"\toprule",
        " & ".join(["metric", *(heading for heading, _ in COLUMNS)]) + r" \\",
        r"\midrule",
        "\n\\midrule\n".join(blocks) or "% no run has a score and a gain yet",
        r"\bottomrule",
        r"\end{tabular}",
    ]
    path = folder / "correlations.tex"
    with replacing(path) as temporary:
        temporary.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def escaped(text: str) -> str:
    """Text that LaTeX sets as it stands."""
    return re.sub(r"[\\&%$#_{}~^<>\[\]–−]", lambda found: _SPECIAL[found[0]], text)
