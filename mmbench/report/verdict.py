"""What the numbers say, in plain sentences, and what they do not say."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from mmbench.report.figures.style import interval_text, signed
from mmbench.statistics.configurations import mixed
from mmbench.statistics.controls import SIZE, role
from mmbench.statistics.correlation import bonett_wright
from mmbench.statistics.judge import Judgement, decided, ranked
from mmbench.statistics.remarks import ENOUGH

Row = Mapping[Any, Any]

SUBJECT = "manifold"
RIVALS = (SIZE, "loss_after_k_steps", "random")
"""What the manifold metric has to beat to be worth its cost."""
NOTHING = "There is nothing to judge yet: no run has both a score and a gain."


def verdict(frame: pd.DataFrame, judgement: Judgement) -> list[str]:
    """What group `all` and target `gain` say: of the manifold metric, of its rivals, of the others."""
    rows = ranked(judgement.correlations)
    largest = int(rows["n_configurations"].max()) if len(rows) else 0
    if largest == 0:
        return [NOTHING, *_unfinished(frame)]
    if largest < ENOUGH:
        return [_too_few(largest), *_unfinished(frame), *_mixed(frame)]
    judged = rows[rows["n_configurations"] >= ENOUGH]
    subjects = [row for row in judged.to_dict("records") if _is_subject(row["metric"])]
    sentences = [sentence for row in subjects for sentence in _of_subject(row, judgement)]
    if not subjects:
        sentences.append("The manifold metric has too few runs here to be judged, so that nothing is said of it.")
    sentences += _of_others(rows)
    return [*sentences, *_unfinished(frame), *_mixed(frame)]


def extent(frame: pd.DataFrame, judgement: Judgement) -> str:
    """What the verdict rests on, in one sentence."""
    rows = ranked(judgement.correlations)
    most = int(rows["n_configurations"].max()) if len(rows) else 0
    if most == 0:
        return ""
    done = frame[frame["status"] == "done"]
    row = rows[rows["n_configurations"] == most].iloc[0]
    parts = [
        count(done["dataset"].nunique(), "data set"),
        count(done["model"].nunique(), "model"),
        count(done["metric"].nunique(), "metric"),
        count(done["seed"].nunique(), "seed"),
    ]
    upto = "" if rows["n_configurations"].nunique() == 1 else "up to "
    runs = count(int(row["n"]), "run")
    return f"{', '.join(parts)}; {upto}{count(most, 'configuration')} ({runs}) for each metric."


def caveats(judgement: Judgement) -> list[str]:
    """What to keep in mind with every number."""
    return [str(sentence) for sentence in judgement.remarks]


# -- the manifold metric -----------------------------------------------------------------------------------------------


def _is_subject(metric: Any) -> bool:
    return str(metric).split("@")[0] == SUBJECT


def _of_subject(row: Row, judgement: Judgement) -> list[str]:
    metric = str(row["metric"])
    numbers = f"ρ = {signed(row['spearman'])}, 95 % interval {interval_text(row['ci_low'], row['ci_high'])}"
    if pd.isna(row["ci_low"]):
        numbers = f"ρ = {signed(row['spearman'])}, no interval is defined"
    numbers += f", {count(int(row['n_configurations']), 'configuration')}"
    if pd.isna(row["spearman"]):
        headline = f"The rank correlation of {metric} with the gain is undefined: one of the two does not vary."
    elif not decided(row):
        headline = f"These runs do not show that {metric} predicts the gain, nor that it does not ({numbers})."
    elif pd.notna(row["sign_agrees"]) and row["sign_agrees"]:
        headline = f"A larger {metric} score goes with a larger gain ({numbers})."
    else:
        headline = f"A larger {metric} score goes with a smaller gain, against the claim ({numbers})."
    return [headline, _at_equal_budget(row), *_against_rivals(metric, judgement)]


def _at_equal_budget(row: Row) -> str:
    """What is left among networks of one size."""
    metric, value = row["metric"], row["equal_budget_spearman"]
    if pd.isna(value):
        return f"Whether {metric} ranks expansions of equal budget cannot be said: no such group is large enough."
    low, high = row.get("equal_budget_low", math.nan), row.get("equal_budget_high", math.nan)
    cells, signs = row.get("equal_budget_cells"), row.get("equal_budget_signs")
    numbers = f"ρ = {signed(value)}"
    if not pd.isna(low):
        numbers += f", 95 % interval {interval_text(low, high)}"
    if cells is not None and not pd.isna(cells):
        numbers += f", {count(int(cells), 'group')}"
    if signs is not None and not pd.isna(signs) and str(signs):
        numbers += f", expected sign in {signs}"
    start = "Among expansions of equal budget, where size cannot help,"
    if pd.isna(low):
        return f"{start} it has no interval, so that nothing is shown ({numbers})."
    if low <= 0 <= high:
        return f"{start} nothing is shown ({numbers})."
    agrees = value * (row["expected_sign"] if not pd.isna(row["expected_sign"]) else 1) > 0
    return f"{start} it {'keeps the sign that theory gives it' if agrees else 'has the opposite sign'} ({numbers})."


def _against_rivals(metric: str, judgement: Judgement) -> list[str]:
    """Whether it beats the trivial ones, by the paired difference on the same configurations."""
    table = judgement.differences
    table = table[(table["metric"] == metric) & (table["target"] == "gain") & (table["group"] == "all")]
    table = table[(table["statistic"] == "spearman") & table["rival"].isin(RIVALS)]
    found = {row["rival"]: row for row in table.to_dict("records")}
    texts: dict[str, list[str]] = {}
    for rival in RIVALS:
        if rival in found:
            outcome, numbers = _compared(found[rival])
            texts.setdefault(outcome, []).append(f"{rival} ({numbers})")
    sentences = []
    for outcome, rivals in texts.items():
        sentences.append(f"{metric} {outcome} {listed(rivals)}.")
    return [sentence[0].upper() + sentence[1:] for sentence in sentences]


def _compared(row: Row) -> tuple[str, str]:
    """What a paired difference shows, and its numbers."""
    low, high = row["ci_low"], row["ci_high"]
    if row["n_configurations"] < ENOUGH or pd.isna(row["difference"]) or (pd.isna(low) and pd.isna(row["p_value"])):
        return "cannot be compared with", f"{count(int(row['n_configurations']), 'configuration')} in common"
    numbers = f"difference in ρ {signed(row['difference'])} {interval_text(low, high)}"
    if pd.isna(low):
        numbers = f"difference in ρ {signed(row['difference'])}, p = {row['p_value']:.2g}"
    shown = not low <= 0 <= high if not pd.isna(low) else row["p_value"] < 0.05
    if not shown:
        return "is not shown to rank the gain better or worse than", numbers
    if row["difference"] < 0:
        return "ranks the gain worse than", numbers
    if row["rho"] <= 0:
        return "ranks the gain better, though it is no predictor of it itself, than", numbers
    return "ranks the gain better than", numbers


# -- the others --------------------------------------------------------------------------------------------------------


def _of_others(rows: pd.DataFrame) -> list[str]:
    few = [str(metric) for metric in rows.loc[rows["n_configurations"] < ENOUGH, "metric"]]
    judged = rows[rows["n_configurations"] >= ENOUGH]
    q_value = judged.get("q_value", pd.Series(math.nan, judged.index)).astype(float)
    roles = [role(row["metric"], row["expected_sign"]) for row in judged.to_dict("records")]
    rivals = [not _is_subject(name) and kind in ("", "baseline", "lookup")
              for name, kind in zip(judged["metric"], roles, strict=True)]  # fmt: skip
    others = judged[rivals]
    tested = [kind == "" for kind in roles]
    clear = others[others.apply(decided, axis=1).astype(bool)] if len(others) else others
    agrees = clear["sign_agrees"].astype("boolean")
    sentences = [
        *_named("As theory expects", clear[agrees.fillna(False).to_numpy(bool)]),
        *_named("Against what theory expects", clear[(~agrees).fillna(False).to_numpy(bool)]),
    ] or ["No other metric has an interval that excludes 0."]
    kept = int((q_value[tested] < 0.05).sum())
    if sum(tested) > 1 and q_value[tested].notna().any():
        left = "none is" if kept == 0 else "1 is" if kept == 1 else f"{kept} are"
        sentences.append(
            f"Of {sum(tested)} metrics under test, {left} still correlated with the gain when the rate of false "
            "discoveries is held at 5 %."
        )
    chance = [row for row in judged.to_dict("records") if row["metric"] == "random" and decided(row)]
    again = [row for row, kind in zip(judged.to_dict("records"), roles, strict=True) if kind == "positive control"]
    sentences += [_second_training(row) for row in again if not pd.isna(row["spearman"])]
    if chance:
        sentences.append(
            "Caution: the interval of random, a random number, excludes 0 too "
            f"({_value(chance[0])}); read all correlations with that in mind."
        )
    if few:
        sentences.append(f"Too few configurations (under {ENOUGH}) to say anything of {listed(few)}.")
    return sentences


def _second_training(row: Row) -> str:
    """What the gain of another training says of how much there is to predict."""
    if decided(row) and row["spearman"] > 0:
        return f"A second, independent training ranks the gains at {_value(row)}: what a perfect predictor might reach."
    return (
        f"Not even a second, independent training is shown to rank the gains ({_value(row)}): with so few "
        "seeds they are mostly noise, and no metric can be judged well by them."
    )


def _named(how: str, rows: pd.DataFrame) -> list[str]:
    """One sentence on the metrics whose interval excludes 0; at most six of them by name."""
    entries = [f"{row['metric']} ({_value(row)})" for row in rows.to_dict("records")]
    if not entries:
        return []
    more = [f"{len(entries) - 6} more"] if len(entries) > 6 else []
    return [f"{how}, with an interval that excludes 0: {listed([*entries[:6], *more])}."]


def _value(row: Row) -> str:
    if pd.isna(row["ci_low"]):
        return f"{signed(row['spearman'])}, a perfect order"
    return f"{signed(row['spearman'])} {interval_text(row['ci_low'], row['ci_high'])}"


def _too_few(n: int) -> str:
    text = f"Too few to say: only {count(n, 'configuration')} entered, and rank correlations need at least {ENOUGH}."
    if n < 4:
        return f"{text} With fewer than 4, not even an interval is defined."
    low, high = bonett_wright(0.8, n)
    return (
        f"{text} With {n}, the 95 % interval of an observed correlation of 0.80 reaches from {signed(low)} "
        f"to {signed(high)}. The numbers below describe these runs and support no conclusion."
    )


def _unfinished(frame: pd.DataFrame) -> list[str]:
    state = frame.attrs.get("unfinished") or {}
    running, missing = int(state.get("running", 0)), int(state.get("missing", 0))
    if not running + missing:
        return []
    return [f"The sweep is not finished: {running} running, {missing} missing. These numbers will change."]


def _mixed(frame: pd.DataFrame) -> list[str]:
    return [
        f"Caution: {metric} was measured more than once for the same configuration and seed, perhaps with different "
        "options; what is judged here is the average."
        for metric in mixed(frame)
    ]


def count(number: int, noun: str) -> str:
    """A number and its noun: `1 run`, `2 runs`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def listed(texts: Iterable[str]) -> str:
    """`a, b and c`."""
    *first, last = texts
    return f"{', '.join(first)} and {last}" if first else last
