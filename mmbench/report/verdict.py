"""What the numbers say in plain sentences, and what they do not say."""

from __future__ import annotations

from typing import Any

import pandas as pd

from mmbench.report.table import Row
from mmbench.statistics.configurations import mixed
from mmbench.statistics.controls import SIZE
from mmbench.statistics.correlation import bonett_wright
from mmbench.statistics.judge import EXPANSIONS, Judgement, decided, ranked
from mmbench.statistics.remarks import ENOUGH
from mmbench.statistics.strategies import ranking
from mmbench.text import DASH, MINUS, count, interval, is_missing, listed, metric_name, percent, points, signed

SUBJECT = "manifold"
RIVALS = (SIZE, "loss_after_k_steps", "random")
"""What the manifold metric has to beat to be worth its cost."""
NOTHING = "There are no results yet: no run has both a score and a gain."
DIFFER = 0.5
"""I² from which base models are said to differ."""
RELIABLE = 0.5
"""Reliability of the gain from which it is not called noise."""
CLEAR = 0.2
"""A rho that is smaller is not said to contradict another."""
NAMED = 6
"""Metrics that one sentence names."""


def verdict(frame: pd.DataFrame, judgement: Judgement) -> list[str]:
    """What all runs together say about the gain: the manifold metric first, then its rivals, then the others."""
    rows = ranked(judgement.correlations)
    largest = int(rows["n_configurations"].max()) if len(rows) else 0
    if largest == 0:
        return [NOTHING, *_unfinished(frame)]
    if largest < ENOUGH:
        return [_too_few(largest), *_unfinished(frame), *_mixed(frame)]
    enough = rows[rows["n_configurations"] >= ENOUGH]
    subjects = [row for row in enough.to_dict("records") if _is_subject(row["metric"])]
    sentences = [sentence for row in subjects for sentence in _of_subject(row, judgement)]
    if not subjects:
        sentences.append("The manifold metric has too few runs here, so nothing can be said about it.")
    sentences += _of_others(rows)
    return [*sentences, *_unfinished(frame), *_mixed(frame)]


def best_strategy(strategies: pd.DataFrame) -> list[str]:
    """Which expansion strategy gains most, and whether it beats the controls, in two sentences at most.

    Args:
        strategies: as of `compare`.

    Returns:
        The sentences; none without two strategies to compare.
    """
    rows = ranking(strategies)
    tested, controls = rows[rows["arm"] == "expansion"], rows[rows["arm"] != "expansion"]
    if len(tested) < 2:
        return []
    best: Row = tested.iloc[0].to_dict()
    name, where = best["strategy"], count(int(best["n_base_models"]), "base model")
    numbers = f"{_points(best)} points, {count(int(best['n_cells']), 'cell')} of {where}"
    if not is_missing(best["ci_low"]) and best["ci_low"] > 0:
        first = f"{name} gains more than the mean of the expansions of the same base model and budget ({numbers})"
    else:
        first = f"No expansion is shown to gain more than the others; {name} has the largest mean ({numbers})"
    if not is_missing(best["best_probability"]):
        first += f"; it is the best in {percent(best['best_probability'])} of draws of {best['unit']}"
    apart = []
    if best["parts"] > 1:
        apart = ["Some expansions share no base model and budget: each is compared only with those that it met."]
    return [f"{first}.", *apart, *_lines_to_beat(best, controls)]


def _points(row: Row) -> str:
    text = points(row["difference"])
    plus = "" if text.startswith((MINUS, DASH)) else "+"
    ends = "" if is_missing(row["ci_low"]) else f" [{points(row['ci_low'])}, {points(row['ci_high'])}]"
    return f"{plus}{text}{ends}"


def _lines_to_beat(best: Row, controls: pd.DataFrame) -> list[str]:
    """The controls whose mean is above or below that of the best expansion."""
    name = best["strategy"]
    above = controls[controls["difference"] > best["difference"]]
    below = controls[controls["difference"] <= best["difference"]]
    sentences = []
    if len(above):
        names = [f"{row['strategy']} ({_points(row)})" for row in above.to_dict("records")]
        sentences.append(f"Lines to beat: the mean of {listed(names)} is above that of every expansion.")
    if len(below):
        names = [f"{row['strategy']} ({_points(row)})" for row in below.to_dict("records")]
        sentences.append(f"The mean of {name} is above that of the control{'s' * (len(names) > 1)} {listed(names)}.")
    return sentences


def extent(frame: pd.DataFrame, judgement: Judgement) -> str:
    """How many runs the verdict rests on, in one sentence."""
    rows = ranked(judgement.correlations)
    most = int(rows["n_configurations"].max()) if len(rows) else 0
    if most == 0:
        return ""
    done = frame[frame["status"] == "done"]
    row = rows[rows["n_configurations"] == most].iloc[0]
    parts = [
        count(done[column].nunique(), noun)
        for column, noun in (("dataset", "data set"), ("model", "model"), ("metric", "metric"), ("seed", "seed"))
    ]
    upto = "" if rows["n_configurations"].nunique() == 1 else "up to "
    runs = count(int(row["n"]), "run")
    return f"{', '.join(parts)}; {upto}{count(most, 'configuration')} ({runs}) for each metric."


# -- the manifold metric -----------------------------------------------------------------------------------------------


def _is_subject(metric: Any) -> bool:
    return metric_name(str(metric)) == SUBJECT


def _of_subject(row: Row, judgement: Judgement) -> list[str]:
    metric, rho = str(row["metric"]), row["within_base_spearman"]
    known = "no interval is defined" if is_missing(row["within_base_low"]) else f"95 % interval {_interval(row)}"
    bases = count(int(row["within_base_cells"]), "base model")
    numbers = f"ρ = {signed(rho)}, {known}, {count(int(row['within_base_n']), 'configuration')} of {bases}"
    start = "Among the expansions of a base model,"
    if is_missing(rho):
        headline = (
            f"The rank correlation of {metric} with the gain is undefined: no base model has three expansions that "
            "differ in both."
        )
    elif not decided(row):
        headline = f"{start} these runs show neither that {metric} predicts the gain nor that it does not ({numbers})."
    else:
        size = "larger" if rho > 0 else "smaller"
        claim = "" if agrees(row) else ", contrary to theory" if row["expected_sign"] in (-1, 1) else ""
        headline = f"{start} a larger {metric} score goes with a {size} gain{claim} ({numbers})."
    return [
        headline,
        *_differ(row, judgement),
        *_mixing(row),
        _at_equal_budget(row),
        *_against_rivals(metric, judgement),
    ]


def agrees(row: Row) -> bool:
    """Whether the correlation within base models has the sign that theory expects."""
    return not is_missing(row["expected_sign"]) and bool(row["within_base_spearman"] * row["expected_sign"] > 0)


def _differ(row: Row, judgement: Judgement) -> list[str]:
    """That base models differ by more than chance: then their mean says little about any one of them."""
    if is_missing(row["within_base_i2"]) or row["within_base_i2"] < DIFFER:
        return []
    cells = judgement.cells
    cells = cells[(cells["metric"] == row["metric"]) & (cells["target"] == "gain") & (cells["kind"] == "within_base")]
    if cells["spearman"].min() >= 0 or cells["spearman"].max() <= 0:
        return []
    each = [f"{signed(cell.spearman)} on {cell.label}" for cell in cells.sort_values("spearman").itertuples()]
    return [
        f"The base models contradict each other (I² = {percent(row['within_base_i2'])}): ρ is {listed(each, NAMED)}."
    ]


def _mixing(row: Row) -> list[str]:
    """That the correlation over all configurations at once has the other sign."""
    within, overall = row["within_base_spearman"], row["spearman"]
    if is_missing(within) or is_missing(overall) or within * overall >= 0 or min(abs(within), abs(overall)) < CLEAR:
        return []
    return [
        f"Over all base models at once ρ = {signed(overall)}, of the opposite sign: it compares base models, not "
        "expansions that one can choose between."
    ]


def _at_equal_budget(row: Row) -> str:
    """The correlation among networks of equal size."""
    metric, value = row["metric"], row["equal_budget_spearman"]
    if is_missing(value):
        return f"Whether {metric} ranks expansions of equal budget is unknown: no such group is large enough."
    low, high = row.get("equal_budget_low"), row.get("equal_budget_high")
    groups, signs = row.get("equal_budget_cells"), row.get("equal_budget_signs")
    numbers = f"ρ = {signed(value)}"
    if not is_missing(low):
        numbers += f", 95 % interval {interval(low, high)}"
    if groups is not None and not is_missing(groups):
        numbers += f", {count(int(groups), 'group')}"
    if not is_missing(signs) and str(signs):
        numbers += f", expected sign in {signs}"
    start = "Among expansions of equal budget, where size cannot help,"
    if low is None or high is None or is_missing(low):
        return f"{start} no interval is defined, so no correlation is shown ({numbers})."
    if low <= 0 <= high:
        return f"{start} no correlation is shown ({numbers})."
    expected = value * (1 if is_missing(row["expected_sign"]) else row["expected_sign"]) > 0
    return f"{start} ρ {'has the sign that theory expects' if expected else 'has the opposite sign'} ({numbers})."


def _against_rivals(metric: str, judgement: Judgement) -> list[str]:
    """Whether it beats the trivial metrics, by the paired difference on the same configurations."""
    table = judgement.differences
    table = table[(table["metric"] == metric) & (table["target"] == "gain") & (table["group"] == EXPANSIONS)]
    table = table[(table["statistic"] == "within_base_spearman") & table["rival"].isin(RIVALS)]
    by_rival = {row["rival"]: row for row in table.to_dict("records")}
    rivals: dict[str, list[str]] = {}
    for rival in RIVALS:
        if rival in by_rival:
            outcome, numbers = _compared(by_rival[rival])
            rivals.setdefault(outcome, []).append(f"{rival} ({numbers})")
    sentences = [f"{metric} {outcome} {listed(names)}." for outcome, names in rivals.items()]
    return [sentence[0].upper() + sentence[1:] for sentence in sentences]


def _compared(row: Row) -> tuple[str, str]:
    """What a paired difference shows, and its numbers."""
    low, high, n = row["ci_low"], row["ci_high"], int(row["n_configurations"])
    if n < ENOUGH or is_missing(row["difference"]) or (is_missing(low) and is_missing(row["p_value"])):
        return "cannot be compared with", f"{count(n, 'configuration')} in common"
    gap = f"difference in ρ {signed(row['difference'])}"
    if is_missing(low):
        numbers, shown = f"{gap}, p = {row['p_value']:.2g}", row["p_value"] < 0.05
    else:
        numbers, shown = f"{gap} {interval(low, high)}", not low <= 0 <= high
    if not shown:
        return "is not shown to rank the gain better or worse than", numbers
    if row["difference"] < 0:
        return "ranks the gain worse than", numbers
    if row["rho"] <= 0:
        return "does not predict the gain itself, but ranks it better than", numbers
    return "ranks the gain better than", numbers


# -- the others --------------------------------------------------------------------------------------------------------


def _of_others(rows: pd.DataFrame) -> list[str]:
    few = [str(metric) for metric in rows.loc[rows["n_configurations"] < ENOUGH, "metric"]]
    enough = rows[rows["n_configurations"] >= ENOUGH]
    sentences = [*_with_direction(enough), *_discoveries(enough)]
    records = enough.to_dict("records")
    repeats = [
        row for row in records if row["role"] == "positive control" and not is_missing(row["within_base_spearman"])
    ]
    lucky = [row for row in records if row["metric"] == "random" and decided(row)]
    sentences += [_second_training(row) for row in repeats]
    sentences += [
        f"Caution: the interval of random, a random number, excludes 0 too ({_value(row)}). Read all correlations with "
        "that in mind."
        for row in lucky
    ]
    if few:
        sentences.append(f"Too few configurations (under {ENOUGH}) to say anything about {listed(few)}.")
    return sentences


def _with_direction(rows: pd.DataFrame) -> list[str]:
    """The other metrics whose interval excludes 0; `rows` is not empty."""
    rivals = ~rows["metric"].map(_is_subject).astype(bool) & rows["role"].isin(["", "baseline", "lookup"])
    clear = rows[rivals & rows.apply(decided, axis=1).astype(bool)]
    expected = (clear["within_base_spearman"] * clear["expected_sign"].astype(float)).to_numpy(float)
    return [
        *_named("As theory expects", clear[expected > 0]),
        *_named("Contrary to theory", clear[expected < 0]),
    ] or ["No other metric has an interval that excludes 0."]


def _discoveries(rows: pd.DataFrame) -> list[str]:
    """How many metrics under test remain at a false discovery rate of 5 %."""
    q_values = rows.loc[rows["role"] == "", "within_base_q"].astype(float)
    if len(q_values) < 2 or q_values.isna().all():
        return []
    kept = int((q_values < 0.05).sum())
    left = "none is" if kept == 0 else "1 is" if kept == 1 else f"{kept} are"
    return [
        f"At a false discovery rate of 5 %, {left} correlated with the gain, of {len(q_values)} metrics under test."
    ]


def _second_training(row: Row) -> str:
    """How much of the gain can be predicted at all, by the gain of another training."""
    if decided(row) and row["within_base_spearman"] > 0:
        return (
            f"A second, independent training ranks the gains at {_value(row)}: about what a perfect predictor reaches."
        )
    start = f"Not even a second, independent training is shown to rank the gains ({_value(row)})"
    if not is_missing(row["target_reliability"]) and row["target_reliability"] >= RELIABLE:
        return f"{start}: they repeat from seed to seed, but there are too few base models to show it."
    return f"{start}: with so few seeds they are mostly noise, and no metric can be tested well against them."


def _named(how: str, rows: pd.DataFrame) -> list[str]:
    """One sentence on the metrics whose interval excludes 0."""
    if rows.empty:
        return []
    metrics = [f"{row['metric']} ({_value(row)})" for row in rows.to_dict("records")]
    return [f"{how}, with an interval that excludes 0: {listed(metrics, NAMED)}."]


def _interval(row: Row) -> str:
    return interval(row["within_base_low"], row["within_base_high"])


def _value(row: Row) -> str:
    return f"{signed(row['within_base_spearman'])} {_interval(row)}"


def _too_few(n: int) -> str:
    text = f"Too few to say: only {count(n, 'configuration')}, and rank correlations need at least {ENOUGH}."
    if n < 4:
        return f"{text} With fewer than 4, not even an interval is defined."
    low, high = bonett_wright(0.8, n)
    return (
        f"{text} With {n}, the 95 % interval of an observed correlation of 0.80 reaches from {signed(low)} to "
        f"{signed(high)}. The numbers below describe these runs; they do not support a conclusion."
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
        "options. The mean is reported here."
        for metric in mixed(frame)
    ]
