"""What candidates are ranked by, with its error, and which of them may still be the first."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.stats import rankdata

from mmbench.advice.candidates import Candidate
from mmbench.metrics.base import Estimate, Metric

CLEAR = 1.96
"""Standard errors of a difference from which on it is no noise."""
DRAWS = 1000
"""Of all scores, for the error of a mean rank."""


def undecided(candidates: list[Candidate], metrics: list[Metric]) -> list[Candidate]:
    """The candidates that may be the best, the better half of all that were measured in the last round at most."""
    scored = [one for one in candidates if not one.reason]
    if len(scored) < 2:
        return []
    merit, error = merits(scored, metrics)
    order = sorted(range(len(scored)), key=lambda i: -merit[i])
    first = order[0]
    rounds = [len(next(iter(one.estimates.values()))) for one in scored]
    # One round does not tell what other images or draws would have said, whatever error it states.
    once = max(rounds) == 1
    near = [i for i in order if once or merit[first] - merit[i] <= CLEAR * math.hypot(error[first], error[i])]
    if not once and not any(error[i] > 0 for i in near):
        return []
    last = rounds.count(max(rounds))
    return [scored[i] for i in near[: max(2, -(-last // 2))]]


def merits(scored: list[Candidate], metrics: list[Metric]) -> tuple[list[float], list[float]]:
    """What the ranking is by, and its standard error, larger being better.

    Of one metric the mean score, turned by its expected sign. Of several the mean over metrics of the share of the
    candidates that do not beat it, which no single far score can decide; its error is its spread under Gaussian draws
    of the scores within their errors.
    """
    turned, errors = [], []
    for metric in metrics:
        mean, error = means([one.estimates[metric.name] for one in scored])
        turned.append(mean * (-1 if metric.expected_sign < 0 else 1))
        errors.append(error)
    if len(metrics) == 1:
        return turned[0].tolist(), errors[0].tolist()
    scores, widths = np.array(turned), np.array(errors)
    unknown = np.isinf(widths)
    noise = np.random.default_rng(0).standard_normal((DRAWS, *scores.shape)) * np.where(unknown, 0.0, widths)
    shares = (rankdata(np.concatenate([scores[None], scores + noise]), axis=2) / len(scored)).mean(1)
    spread = shares[1:].std(0).round(12)  # of draws that are all alike, no more than rounding
    return shares[0].tolist(), np.where(unknown.any(0), np.inf, spread).tolist()


def means(estimates: list[list[Estimate]]) -> tuple[Any, Any]:
    """Mean over rounds and its standard error; that of one round is the metric's own.

    With several rounds the spread over rounds, pooled over the candidates, tells also what the metric cannot know of.
    Where nothing tells, it is infinite.
    """
    mean = np.array([np.mean([one.value for one in rounds]) for rounds in estimates])
    own = np.array([
        np.sqrt(np.mean([np.inf if one.stderr is None else one.stderr**2 for one in rounds])) for rounds in estimates
    ])  # fmt: skip
    spread = [np.var([one.value for one in rounds], ddof=1) for rounds in estimates if len(rounds) > 1]
    if spread:
        pooled = float(np.sqrt(np.mean(spread)))
        own = np.where(np.isinf(own), pooled, np.maximum(own, pooled))
    return mean, own / np.sqrt([len(rounds) for rounds in estimates])
