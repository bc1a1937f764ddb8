import pandas as pd
import pytest

from mmbench.report.verdict import extent, verdict

from .helpers import judge_gain

pytestmark = pytest.mark.filterwarnings("error")


def sentences(records):
    frame = pd.DataFrame(records)
    return " ".join(verdict(frame, judge_gain(frame)))


def two_metrics(points, manifold, rival, n=20, name="parameters", sign=1):
    return [*points(manifold, gains(n)), *points(rival, gains(n), metric=name, expected_sign=sign)]


def nearly(n=20):
    """A good order of n points: neighbours swapped."""
    return [place + (1 if place % 2 == 0 else -1) for place in range(n)]


def useless(n=20):
    """rho near 0."""
    return [abs(place - (n - 1) / 2) + 0.01 * place for place in range(n)]


def gains(n=20):
    return [0.01 * place for place in range(n)]


def test_without_a_score_there_are_no_results(record):
    assert "There are no results yet" in sentences([record(status="failed")])
    nothing = pd.DataFrame()
    assert "There are no results yet" in " ".join(verdict(nothing, judge_gain(nothing)))
    assert extent(nothing, judge_gain(nothing)) == ""


@pytest.mark.parametrize("n", [1, 3, 4, 9])
def test_few_configurations_are_too_few_to_say_anything(points, n):
    text = sentences(points(list(range(n)), gains(n)))
    assert text.startswith(f"Too few to say: only {n} configuration")
    assert "better" not in text
    assert "goes with" not in text
    assert ("not even an interval is defined" in text) == (n < 4)


def test_with_six_configurations_the_width_of_an_interval_is_mentioned(points):
    assert "from −0.20 to 0.98" in sentences(points([1, 2, 3, 5, 4, 6], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]))


@pytest.fixture(scope="module")
def four_claims(points):
    """What is said of four manifold metrics of different options: a good, an opposite, a useless, a constant one."""
    scores = {
        "good": nearly(),
        "opposite": [-score for score in nearly()],
        "useless": useless(),
        "constant": [1.0] * 20,
    }
    return sentences(
        [row for name, score in scores.items() for row in points(score, gains(), metric=f"manifold@{name}")]
    )


def test_what_is_shown_of_the_manifold_metric_comes_first(points, four_claims):
    assert "a larger manifold@good score goes with a larger gain (ρ = 0.98, " in four_claims
    assert "a larger manifold@opposite score goes with a smaller gain, contrary to theory (ρ = −0.98, " in four_claims
    assert "these runs show neither that manifold@useless predicts the gain nor that it does not" in four_claims
    assert "of manifold@constant with the gain is undefined" in four_claims
    assert four_claims.startswith("Among the expansions of a base model, a larger manifold@good score")


def test_the_equal_budget_value_is_given_or_said_to_be_missing(points, four_claims):
    start = "Among expansions of equal budget, where size cannot help,"
    assert f"{start} ρ has the sign that theory expects (ρ = 0.98" in four_claims
    assert f"{start} ρ has the opposite sign (ρ = −0.98" in four_claims
    assert f"{start} no correlation is shown (ρ =" in four_claims
    assert "Whether manifold@constant ranks expansions of equal budget is unknown" in four_claims


def test_runs_without_the_manifold_metric_say_so(points):
    text = sentences(points(nearly(), gains(), metric="sharpness", budget=None))
    assert text.startswith("The manifold metric has too few runs here")
    assert "As theory expects, with an interval that excludes 0: sharpness (0.98 [" in text


def test_manifold_beats_a_useless_baseline(points):
    text = sentences(two_metrics(points, nearly(), useless()))
    assert "Manifold ranks the gain better than parameters (difference in ρ " in text


def test_manifold_is_beaten_by_a_baseline_of_negative_sign(points):
    text = sentences(two_metrics(points, useless(), [-x for x in nearly()], name="loss_after_k_steps", sign=-1))
    assert "Manifold ranks the gain worse than loss_after_k_steps" in text
    assert "As theory expects, with an interval that excludes 0: loss_after_k_steps (−0.9" in text


def test_better_than_something_worse_is_not_called_a_predictor(points):
    text = sentences(two_metrics(points, [-x for x in useless()], [-x for x in nearly()]))
    assert "Manifold does not predict the gain itself, but ranks it better than parameters" in text
    assert "Contrary to theory, with an interval that excludes 0: parameters" in text


def test_no_difference_is_not_called_one(points):
    rival = nearly()
    rival[0], rival[2] = rival[2], rival[0]
    text = sentences(two_metrics(points, nearly(), rival))
    assert "is not shown to rank the gain better or worse than parameters" in text


def test_a_negative_control_that_correlates_is_a_caution_and_a_scarce_metric_is_named(points):
    text = sentences(
        two_metrics(points, nearly(), nearly(), name="random", sign=0)
        + points(nearly()[:6], gains()[:6], metric="scarce")
    )
    assert "Caution: the interval of random, a random number, excludes 0 too (0.98 [" in text
    assert "excludes 0: random" not in text
    assert "Too few configurations (under 10) to say anything about " in text
    assert "scarce" in text.split("to say anything about ")[1]


@pytest.mark.parametrize(("again", "words"), [(nearly, "ranks the gains at 0.98"), (useless, "Not even a second")])
def test_a_second_training_says_how_much_there_is_to_predict(points, again, words):
    second = points(nearly(), [0.01 * gain for gain in again()], seed=1)
    assert words in sentences(points(nearly(), gains(), seed=0) + second)


def test_many_names_are_cut(points):
    records = [row for place in range(9) for row in points(nearly(), gains(), metric=f"m{place}")]
    text = sentences(points(nearly(), gains()) + records)
    assert "m0 (0.98" in text
    assert "and 3 more." in text
    assert "At a false discovery rate of 5 %, 10 are correlated with the gain, of 10 metrics under test." in text


def test_an_unfinished_sweep_is_mentioned_and_the_extent_counts_what_is_there(points):
    frame = pd.DataFrame(two_metrics(points, nearly(), nearly()))
    frame.attrs["unfinished"] = {"running": 2, "missing": 30}
    judgement = judge_gain(frame)
    sentence = "The sweep is not finished: 2 running, 30 missing. These numbers will change."
    assert sentence in verdict(frame, judgement)
    text = extent(frame, judgement)
    assert text.startswith("1 data set, 1 model, 2 metrics, 1 seed; ")
    assert "20 configurations (20 runs) for each metric." in text
