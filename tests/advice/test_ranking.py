"""The order of candidates, its errors, and when it is decided."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mmbench.advice.candidates import Candidate
from mmbench.advice.ranking import behind, mean_scores, ranking, ranking_values, undecided
from mmbench.expansions.base import EXPANSIONS
from mmbench.metrics.base import METRICS, Estimate


def estimates(*values: float, stderr: float | None = 0.0) -> list[Estimate]:
    return [Estimate(value, stderr) for value in values]


def measured(estimates: dict[str, list[Estimate]]) -> Candidate:
    return Candidate(NET2WIDER, axis="width", factor=1.0, parameters=1, estimates=estimates)


def candidate(*values: float, stderr: float | None = 0.0, metric: str = "margin") -> Candidate:
    return measured({metric: estimates(*values, stderr=stderr)})


NET2WIDER = EXPANSIONS.create({"name": "net2wider"})
MARGIN, LOSS = METRICS.create({"name": "margin"}), METRICS.create({"name": "training_loss"})


def test_after_one_round_the_better_half_is_measured_again() -> None:
    some = [candidate(value) for value in (1.0, 5.0, 3.0, 4.0, 2.0)]
    assert undecided(some, [MARGIN]) == [some[1], some[3], some[2]]
    losses = [candidate(value, metric="training_loss") for value in (1.0, 5.0, 3.0)]
    assert undecided(losses, [LOSS]) == [losses[0], losses[2]]


def test_what_is_clearly_behind_is_not_measured_again() -> None:
    some = [candidate(5.0, 5.2), candidate(5.1, 4.9), candidate(1.0, 1.1), candidate(0.5)]
    assert undecided(some, [MARGIN]) == some[:2]
    assert undecided([candidate(5.0, 5.1), candidate(1.0, 1.1)], [MARGIN]) != []  # the first alone is no choice
    assert len(undecided([candidate(5.0, 5.1), candidate(1.0, 1.1)], [MARGIN])) == 1


def test_exact_scores_are_decided_after_two_rounds() -> None:
    assert undecided([candidate(2.0, 2.0), candidate(2.0, 2.0), candidate(1.0)], [MARGIN]) == []


def test_behind_is_only_what_is_shown_to_be() -> None:
    """After one round nothing is, whatever error the metric states; then the error's own error counts, and how many
    are compared: Student's t with one repetition has its 97.5 % point at 12.7, with ten at 2.23."""
    once = [candidate(9.0, stderr=0.001), candidate(1.0, stderr=0.001)]
    assert not ranking(once, [MARGIN])["decided"].any()
    assert behind([9.0, 1.0], [0.0, 0.0], 0) == [False, False]
    assert behind([9.0, 1.0], [0.0, 0.0], 1) == [False, True]
    assert behind([1.0, 9.0], [0.0, math.inf], 9) == [False, False]
    assert behind([12.0, 0.0], [1.0, 0.0], 1) == behind([2.2, 0.0], [1.0, 0.0], 10) == [False, False]
    assert behind([12.8, 0.0], [1.0, 0.0], 1) == behind([2.3, 0.0], [1.0, 0.0], 10) == [False, True]
    assert behind([2.3, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0], 10) == [False] * 4
    again = [candidate(9.0, 9.1), candidate(1.0, 1.1)]
    assert ranking(again, [MARGIN])["decided"].tolist() == [False, True]


def test_of_equal_candidates_few_are_called_behind() -> None:
    """Of 20 candidates with equal means the first is the largest by chance; one at 5 % may yet be called behind it."""
    draw = np.random.default_rng(0)
    wrong = 0
    for _ in range(300):
        some = [candidate(*draw.normal(size=2).tolist()) for _ in range(20)]
        wrong += bool(ranking(some, [MARGIN])["decided"].any())
    assert wrong / 300 < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 300)  # 0.88 with a limit of 1.96 for each pair


def test_errors_are_pooled_over_rounds_and_never_below_the_metrics_own() -> None:
    mean, error = mean_scores([estimates(1.0, 3.0), estimates(2.0, 2.0), estimates(7.0)])
    assert mean.tolist() == [2.0, 2.0, 7.0]
    pooled = math.sqrt((2.0 + 0.0) / 2)
    assert error == pytest.approx([pooled / math.sqrt(2), pooled / math.sqrt(2), pooled])
    _, error = mean_scores([estimates(1.0, 3.0, stderr=9.0)])
    assert error == pytest.approx([9 / math.sqrt(2)])
    _, error = mean_scores([estimates(1.0, stderr=None)])
    assert math.isinf(error[0])


def test_several_metrics_count_alike_whatever_their_scale() -> None:
    some = [
        measured(estimates={"margin": estimates(margin), "training_loss": estimates(loss)})
        for margin, loss in ((1000.0, 0.3), (2000.0, 0.1), (3000.0, 0.2))
    ]
    value, error = ranking_values(some, [MARGIN, LOSS])
    assert value == pytest.approx([(1 + 1) / 6, (2 + 3) / 6, (3 + 2) / 6])
    assert error == pytest.approx([0, 0, 0], abs=1e-12)


def test_the_error_of_a_mean_rank_is_its_spread_under_the_errors_of_the_scores() -> None:
    """Two scores less than an error apart change places, the third stays where it is; of one draw nobody knows."""
    losses = {"training_loss": estimates(0.0)}
    some = [measured(estimates={"margin": estimates(m, stderr=1.0), **losses}) for m in (0.0, 0.1, 99.0)]
    value, error = ranking_values(some, [MARGIN, LOSS])
    assert value == pytest.approx([(1 + 2) / 6, (2 + 2) / 6, (3 + 2) / 6])
    assert error == pytest.approx([1 / 12, 1 / 12, 0], rel=0.01)  # a share of 1/3 or 2/3, halved
    some[0].estimates["margin"] = estimates(0.0, stderr=None)
    assert math.isinf(ranking_values(some, [MARGIN, LOSS])[1][0])
