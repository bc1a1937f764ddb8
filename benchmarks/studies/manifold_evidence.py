"""The tables and the figure of docs/evidence.md, from a store that holds sweeps=manifold_family (some minutes).

    python -m benchmarks.studies.manifold_evidence RESULTS [FIGURE.png]

Prints markdown. benchmarks/studies/family.py says what is chosen, confirmed and compared.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from benchmarks.studies.family import Family, family
from benchmarks.studies.family_rules import ADVISED
from mmbench import load_records

BEST, CHEAP = 8, 0.1
"""Definitions in the first table; the cost up to which one is cheap."""
JOINT = "mean rank of"
LABELLED = 0.15
"""Rivals farther from zero are named in the figure."""


def signed(value: float) -> str:
    return "-" if pd.isna(value) else f"{value:+.2f}"


def table(rows: pd.DataFrame, columns: dict[str, str]) -> str:
    head = "| " + " | ".join(columns.values()) + " |\n|" + "---|" * len(columns)
    lines = []
    for row in rows.to_dict("records"):
        cells = [signed(row[c]) if isinstance(row[c], float) and c != "cost" else str(row[c]) for c in columns]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([head, *lines])


def named(summary: pd.DataFrame) -> pd.DataFrame:
    """With the columns that the tables show; definitions that are the same by construction once."""
    rows = summary.assign(
        name=[f"{s}: {d}" if s else d for s, d in zip(summary["sampler"], summary["definition"], strict=True)],
        interval=[
            f"[{signed(low)}, {signed(high)}]"
            for low, high in zip(summary["all_low"], summary["all_high"], strict=True)
        ],
        positive=[f"{p} of {n}" for p, n in zip(summary["all_positive"], summary["all_cells"], strict=True)],
        regret_text=[f"{100 * lost:.1f}" for lost in summary["regret"]],
        random_text=[f"{100 * lost:.1f}" for lost in summary["random_regret"]],
        better=[f"{b} of {n}" for b, n in zip(summary["better_than_random"], summary["all_cells"], strict=True)],
        cost_text=[f"{100 * cost:.0f} %" for cost in summary["cost"]],
    )
    return rows[~rows.duplicated(["sampler", "chosen", "confirmed", "all", "cost"])]


COLUMNS = {
    "name": "definition",
    "cost_text": "cost / training",
    "chosen": "chosen on (6 cells)",
    "confirmed": "confirmed on (6)",
    "all": "all 12",
    "interval": "95 % over cells",
    "positive": "positive",
    "spearman": "over both budgets",
    "partial": "given parameters",
    "equal_architecture": "inside one architecture",
    "regret_text": "regret, points",
    "better": "less than random's",
}


def draw(found: Family, path: Path) -> None:
    """Every definition: what it had where definitions were chosen, against what it had where it was confirmed."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    mine, rivals = (found.summary[found.summary["sampler"].ne("") == own] for own in (True, False))
    joint = rivals[rivals["definition"] == f"{JOINT} manifold and flops"]
    rivals = rivals[~rivals["definition"].str.startswith(JOINT)]
    default = mine[(mine["sampler"] == ADVISED[0]) & (mine["definition"] == ADVISED[1])]
    figure, axes = plt.subplots(figsize=(7, 6), layout="constrained")
    cheap = mine["cost"] <= CHEAP
    axes.scatter(mine["chosen"][~cheap], mine["confirmed"][~cheap], s=8, color="#bbbbbb", label="definitions")
    axes.scatter(
        mine["chosen"][cheap], mine["confirmed"][cheap], s=12, color="#0072b2", label="at most a tenth of training"
    )
    axes.scatter(rivals["chosen"], rivals["confirmed"], s=40, marker="D", color="#d55e00", label="rivals")
    far = rivals[(rivals["chosen"].abs() > LABELLED) | (rivals["confirmed"].abs() > LABELLED)]
    for row in far.itertuples():
        name = row.definition.replace("(state=trained, images=64)", " after a tenth")
        axes.annotate(name, (row.chosen, row.confirmed), textcoords="offset points", xytext=(6, 3), fontsize=8)
    for rows, marker, label in ((default, "*", "the default"), (joint, "P", "mean rank of the default and flops")):
        axes.scatter(rows["chosen"], rows["confirmed"], s=110, marker=marker, color="black", label=label)
    axes.axvline(found.luck, linestyle=":", color="black", label="best by luck, 95 %")
    axes.axhline(0, color="black", linewidth=0.5)
    axes.set_xlabel("mean correlation with the gain at equal budget, half that definitions are chosen on")
    axes.set_ylabel("the other half")
    axes.legend(loc="lower right", fontsize=8)
    figure.savefig(path, dpi=120)


def main(results: str, figure: str | None = None) -> None:
    frame = load_records(results)
    found = family(frame)
    if found is None:
        sys.exit(f"{results} holds no clouds: run sweeps=manifold_family first")
    rows = named(found.summary)
    mine, rivals = rows[rows["sampler"] != ""], rows[rows["sampler"] == ""]
    joint, rivals = (rivals[rivals["definition"].str.startswith(JOINT) == own] for own in (True, False))
    cheap = mine[mine["cost"] <= CHEAP]
    print(f"{len(mine)} definitions, {found.cells['cell'].nunique()} cells. Luck: {signed(found.luck)}\n")
    print("## Best where chosen\n\n" + table(mine.head(BEST), COLUMNS))
    print("\n## Best where chosen, at most a tenth of training\n\n" + table(cheap.head(BEST), COLUMNS))
    print("\n## Worst\n\n" + table(mine.sort_values("all").head(4), COLUMNS))
    print("\n## Rivals\n\n" + table(rivals.sort_values("all", ascending=False), COLUMNS))
    print(f"\nA choice at random loses {rows.iloc[0]['random_text']} points.")
    print("\n## Together\n\n" + table(joint.sort_values("all", ascending=False), COLUMNS))
    default = mine[(mine["sampler"] == ADVISED[0]) & (mine["definition"] == ADVISED[1])]
    print("\n## The default\n\n" + table(default, COLUMNS))
    shown = pd.concat([default, joint.sort_values("all").tail(2), mine.head(2), rivals.sort_values("all").tail(4)])
    cells = found.cells.merge(shown[["sampler", "definition", "name"]], on=["sampler", "definition"])
    wide = cells.pivot_table(index="name", columns="cell", values="equal_budget", sort=False).reset_index()
    print("\n## Cell by cell, at equal budget\n\n" + table(wide, {c: c for c in wide}))
    cells["whole"] = [f"{signed(r)} [{signed(a)}, {signed(b)}]" for r, a, b in
                      zip(cells["spearman"], cells["ci_low"], cells["ci_high"], strict=True)]  # fmt: skip
    whole = cells.pivot(index="name", columns="cell", values="whole").reset_index()
    print("\n## Cell by cell, over both budgets\n\n" + table(whole, {c: c for c in whole}))
    print("\n## Left-out cells\n\n" + table(found.increments, {c: c for c in found.increments}))
    if figure:
        draw(found, Path(figure))


if __name__ == "__main__":
    main(*sys.argv[1:3])
