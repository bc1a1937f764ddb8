"""Granulated Kendall and robust sign error, against mbe-eval on the same numbers and by hand."""

import itertools
import math

import numpy as np
import pandas as pd
import pytest
from mbe_eval import comparators
from mbe_eval import robust_sign_error as robust

from mmbench.statistics.one_choice import FIXED, MIN_PAIRS, compare_pairs, pairs_of, sign_errors

pytestmark = pytest.mark.filterwarnings("error")


def factorial(**levels):
    """All combinations of the choices, one configuration each."""
    given = {
        "dataset": ["d"],
        "training": ["t"],
        "model": ["m"],
        "expansion": ["e"],
        "axis": ["a"],
        "budget": [2.0],
        **levels,
    }
    frame = pd.DataFrame(list(itertools.product(*given.values())), columns=list(given))
    return frame.assign(number=np.arange(len(frame)), base=frame["model"] + frame["dataset"] + frame["training"])


def statistics(frame, score, target, variance=None, n=None, sign=1):
    size = len(score)
    variance = np.full(size, np.nan) if variance is None else variance
    n = np.ones(size, dtype=int) if n is None else n
    return compare_pairs(pairs_of(frame), frame["number"].to_numpy(), score, target, variance, n, sign)


def test_granulated_kendall_is_that_of_mbe_eval():
    frame = factorial(
        dataset=["a", "b", "c"], model=["m", "n"], expansion=["x", "y", "z"], axis=["w", "d"], budget=[2.0, 4.0]
    )
    draw = np.random.default_rng(0)
    score, target = np.round(draw.normal(size=(2, len(frame))), 1)  # with ties
    psi, table = comparators.granulated_kendall(
        frame.assign(score=score, target=target), "score", "target", ["dataset", "model", "expansion", "axis", "budget"]
    )
    found = statistics(frame, score, target)
    assert found.granulated == pytest.approx(psi)
    theirs = table.set_index("hyperparameter")["granulated_kendall"]
    assert {axis: value for axis, (value, _) in found.psi.items()} == pytest.approx(theirs.to_dict())
    assert {axis: cells for axis, (_, cells) in found.psi.items()} == table.set_index("hyperparameter")[
        "finite_cells"
    ].to_dict()


def test_a_score_that_is_size_alone_has_one_psi():
    frame = factorial(expansion=["x", "y", "z"], budget=[1.5, 2.0, 4.0])
    target = frame["budget"] + frame["expansion"].map({"x": 0.1, "y": 0.0, "z": 0.2})
    found = statistics(frame, frame["budget"].to_numpy(), target.to_numpy())
    assert {axis: value for axis, (value, _) in found.psi.items()} == {"budget": 1.0}


def test_sign_errors_are_those_of_mbe_eval_for_the_same_weights():
    draw = np.random.default_rng(1)
    gap_one, gap_other, score_one, score_other = draw.normal(scale=0.05, size=(4, 6))
    losses, _, effective = robust.weighted_environment_loss(gap_one, gap_other, score_one, score_other, test_size=2000)
    gain = gap_one[:, None] - gap_other
    weight = np.maximum(robust.hoeffding_weight(gain, 2000) - 0.5, 0).ravel()
    wrong = (1 - np.sign(gain) * np.sign(score_one[:, None] - score_other)) / 2
    (found,) = sign_errors(["all"], np.zeros(36, dtype=int), weight, wrong.ravel())
    assert found == ("all", pytest.approx(losses[0]), 36, pytest.approx(effective))


def test_sign_errors_by_hand():
    frame = factorial(dataset=list("abcdef"), expansion=["x", "y"])
    better = np.where(frame["expansion"] == "y", 1.0, 0.0)
    score = better.copy()
    score[0], score[1] = 1, 0  # on one of six data sets the score points the wrong way
    found = statistics(frame, score, better)
    assert found.environments == [("expansion: x / y", pytest.approx(1 / 6), 6, pytest.approx(6))]
    assert found.errors == (pytest.approx(1 / 6),) * 3
    assert statistics(frame, score, better, sign=-1).errors[0] == pytest.approx(5 / 6)
    assert statistics(frame, np.zeros(12), better).errors[0] == 0.5  # a tie is half an error


def test_pairs_within_the_noise_do_not_count():
    frame = factorial(dataset=list("abcdefgh"), expansion=["x", "y"])
    target = np.where(frame["expansion"] == "y", 1.0, 0.0)
    target[:2] = 0, 0.001  # within the noise
    score = target.copy()
    score[:2] = 1, 0  # and wrong there
    quiet = statistics(frame, score, target, np.full(16, 0.01), np.full(16, 2))
    assert quiet.errors == (0, 0, 0)
    assert quiet.environments[0][3] == pytest.approx(7)
    assert statistics(frame, score, target, np.full(16, 100.0), np.full(16, 2)).environments == []


def test_few_pairs_are_no_environment():
    frame = factorial(dataset=list("abcd"), expansion=["x", "y"])
    assert len(frame) // 2 < MIN_PAIRS
    found = statistics(frame, np.arange(8) + 0.0, np.arange(8) + 0.0)
    assert all(math.isnan(error) for error in found.errors)


def test_only_one_choice_differs_in_a_pair():
    frame = factorial(dataset=["a", "b"], expansion=["x", "y"], axis=["w", "d"], budget=[2.0, None])
    pairs = pairs_of(frame)
    choices = ["dataset", "training", "model", "expansion", "axis", "budget"]
    rows = frame[choices].fillna({"budget": -1}).to_numpy()
    assert {int((rows[i] != rows[j]).sum()) for i, j in zip(pairs.first, pairs.second, strict=True)} == {1}
    assert len(pairs.first) == 4 * 16 // 2
    assert set(pairs.choice) == {list(FIXED).index(axis) for axis in ("dataset", "expansion", "axis", "budget")}


def test_metrics_that_lack_configurations_are_compared_on_theirs():
    frame = factorial(dataset=list("abcdef"), expansion=["x", "y", "z"])
    draw = np.random.default_rng(2)
    score, target = draw.normal(size=(2, 18))
    some = np.array([0, 1, 3, 4, 6, 7, 9, 10, 12, 13, 15, 16])
    whole = pairs_of(frame)
    nan, ones = np.full(12, np.nan), np.ones(12)
    found = compare_pairs(whole, some, score[some], target[some], nan, ones, 1)
    alone = compare_pairs(pairs_of(frame.iloc[some]), some, score[some], target[some], nan, ones, 1)
    assert found == alone
    assert found.environments[-1][0] == "expansion: x / y"


@pytest.mark.parametrize("n", [0, 1])
def test_no_pair(n):
    found = statistics(factorial().iloc[:n], np.zeros(n), np.zeros(n))
    assert math.isnan(found.granulated)
    assert found.environments == []
