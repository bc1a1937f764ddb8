"""The order of the candidates: the value that they are ranked by, its error, and which may still be the best."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata, t

from mmbench.advice.candidates import Candidate
from mmbench.metrics.base import Estimate, Metric

Array = NDArray[np.float64]

LEVEL = 0.05
"""How often at most, of all candidates that are no worse than the first, one may be called clearly behind."""
DRAWS = 1000
"""Random draws of all scores, for the error of a mean rank."""


def undecided(candidates: list[Candidate], metrics: list[Metric]) -> list[Candidate]:
    """The candidates that may be the best: at most the better half of those that the last round measured."""
    scored = [candidate for candidate in candidates if not candidate.reason]
    if len(scored) < 2:
        return []
    value, error = ranking_values(scored, metrics)
    order = sorted(range(len(scored)), key=lambda i: -value[i])
    clearly = behind(value, error, _repetitions(scored))
    near = [i for i in order if not clearly[i]]
    rounds = [candidate.rounds for candidate in scored]
    if max(rounds) > 1 and not any(error[i] > 0 for i in near):
        return []
    last = rounds.count(max(rounds))
    return [scored[i] for i in near[: max(2, -(-last // 2))]]


def behind(value: Sequence[float], error: Sequence[float], repetitions: int) -> list[bool]:
    """Whether each candidate is shown to be behind the first.

    Its difference to the first is compared with its standard error. The error is known from few repetitions, so the
    limit is a quantile of Student's t. Which candidate is the first was not known beforehand, so that any two may have
    been compared, and the level is divided by the number of pairs (Bonferroni). Without a repetition nothing is shown:
    one round says nothing about other images or draws, whatever error the metric states.

    Args:
        value: of each candidate, larger being better.
        error: the standard errors; infinite where unknown.
        repetitions: degrees of freedom of the errors.

    Returns:
        One truth value per candidate; false for the first.
    """
    if repetitions < 1 or len(value) < 2:
        return [False] * len(value)
    first = max(range(len(value)), key=value.__getitem__)
    limit = float(t.isf(LEVEL / (len(value) * (len(value) - 1)), repetitions))
    return [value[first] - v > limit * math.hypot(error[first], e) for v, e in zip(value, error, strict=True)]


def _repetitions(scored: list[Candidate]) -> int:
    """How many measurements repeat another one of the same candidate."""
    return sum(candidate.rounds - 1 for candidate in scored)


def ranking_values(scored: list[Candidate], metrics: list[Metric]) -> tuple[list[float], list[float]]:
    """The value that each candidate is ranked by, larger being better, and its standard error.

    With one metric the value is the mean score, multiplied by its expected sign. With several it is the mean over the
    metrics of the share of candidates that score no better, so that no single extreme score decides; its error is its
    standard deviation when all scores are drawn from normal distributions around their means.

    Args:
        scored: candidates with at least one estimate of every metric.
        metrics: the metrics that rank them.

    Returns:
        The values and their errors, in the order of `scored`; an unknown error is infinite.
    """
    signed, errors = [], []
    for metric in metrics:
        mean, error = mean_scores([candidate.estimates[metric.name] for candidate in scored])
        signed.append(mean * (-1 if metric.expected_sign < 0 else 1))
        errors.append(error)
    if len(metrics) == 1:
        return signed[0].tolist(), errors[0].tolist()
    scores, widths = np.array(signed), np.array(errors)
    unknown = np.isinf(widths)
    noise = np.random.default_rng(0).standard_normal((DRAWS, *scores.shape)) * np.where(unknown, 0.0, widths)
    shares = (rankdata(np.concatenate([scores[None], scores + noise]), axis=2) / len(scored)).mean(1)
    spread = shares[1:].std(0).round(12)  # draws that are all equal differ by rounding alone
    return shares[0].tolist(), np.where(unknown.any(0), np.inf, spread).tolist()


def mean_scores(estimates: list[list[Estimate]]) -> tuple[Array, Array]:
    """Mean score of each candidate over its rounds, and the standard error of the mean.

    The error of one round is the metric's own. With several rounds it is at least their standard deviation, averaged
    over the candidates, which includes the choice of images and of the expansion's random draws.

    Args:
        estimates: for each candidate one estimate per round.

    Returns:
        Means and errors, one per candidate; an unknown error is infinite.
    """
    mean = np.array([np.mean([estimate.value for estimate in rounds]) for rounds in estimates])
    own = np.array([
        np.sqrt(np.mean([np.inf if estimate.stderr is None else estimate.stderr**2 for estimate in rounds]))
        for rounds in estimates
    ])  # fmt: skip
    spread = [np.var([estimate.value for estimate in rounds], ddof=1) for rounds in estimates if len(rounds) > 1]
    if spread:
        pooled = float(np.sqrt(np.mean(spread)))
        own = np.where(np.isinf(own), pooled, np.maximum(own, pooled))
    return mean, own / np.sqrt([len(rounds) for rounds in estimates])


def ranking(candidates: list[Candidate], metrics: list[Metric]) -> pd.DataFrame:
    """The candidates as a table, best first, those without a score last; the columns are those of `mmbench.advise`."""
    scored = [candidate for candidate in candidates if not candidate.reason]
    value, error = ranking_values(scored, metrics) if scored else ([], [])
    order = sorted(range(len(scored)), key=lambda i: (-value[i], scored[i].parameters, scored[i].operator.name))
    clearly = behind(value, error, _repetitions(scored))
    several = len(metrics) > 1
    rows = []
    for rank, i in enumerate(order, 1):
        means = {
            f"score/{metric.name}": float(np.mean([e.value for e in scored[i].estimates[metric.name]]))
            for metric in metrics
        }
        rows.append({
            **_described(scored[i]), "rank": rank, "score": value[i] if several else means[f"score/{metrics[0].name}"],
            "score_stderr": error[i] if math.isfinite(error[i]) else math.nan,
            "decided": clearly[i],
            "rounds": scored[i].rounds, **(means if several else {}),
        })  # fmt: skip
    rows += [{**_described(failed), "rounds": 0, "decided": False} for failed in candidates if failed.reason]
    columns = ["rank", "expansion", "axis", "factor", "parameters", "score", "score_stderr", "decided", "rounds"]
    columns += [f"score/{metric.name}" for metric in metrics] if several else []
    columns += ["seconds", "train_seconds", "reason"]
    table = pd.DataFrame(rows).reindex(columns=columns)
    return table.astype({"rank": "Int64", "score": "float64", "score_stderr": "float64"})


def _described(candidate: Candidate) -> dict[str, Any]:
    return {
        "expansion": candidate.operator.name, "axis": candidate.axis, "factor": candidate.factor,
        "parameters": candidate.parameters, "seconds": candidate.seconds, "train_seconds": candidate.train_seconds,
        "reason": candidate.reason,
    }  # fmt: skip
