"""The first table of the report in LaTeX, for papers; it needs the package booktabs."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from mmbench.report.table import COST, EQUAL, PARTIAL, REGRET, SIGN, Column, column, interval_of
from mmbench.statistics.judge import ranked
from mmbench.store.files import replacing
from mmbench.text import DASH, MINUS

COLUMNS: tuple[Column, ...] = (
    SIGN,
    ("$n$", lambda row: str(row["n_configurations"])),
    (r"$\rho$", column("within_base_spearman")),
    (r"95\,\% interval", interval_of("within_base_low", "within_base_high")),
    EQUAL,
    (r"95\,\% interval", interval_of("equal_budget_low", "equal_budget_high")),
    PARTIAL,
    REGRET,
    COST,
)
_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", MINUS: "$-$", DASH: "--", "<": "$<$", ">": "$>$",
    "[": "{[}", "]": "{]}",
}  # fmt: skip
# A bracket at the start of a row would be read as the option of the line break before it: hence the braces.


def write_latex(correlations: pd.DataFrame, folder: Path) -> Path:
    """Write `folder`/correlations.tex: every metric's correlation with the gain, controls below a rule; its path."""
    rows = ranked(correlations).to_dict("records")
    under_test = [row for row in rows if not row["role"]]
    others = [row for row in rows if row["role"]]
    blocks = [
        "\n".join(
            " & ".join([escaped(str(row["metric"])), *(escaped(show(row)) for _, show in COLUMNS)]) + r" \\"
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
    """Text with LaTeX's special characters escaped."""
    return re.sub(r"[\\&%$#_{}~^<>\[\]–−]", lambda match: _SPECIAL[match[0]], text)
