import pandas as pd
import pytest

from mmbench.report.verdict import extent, listed, verdict
from mmbench.statistics.judge import judge

pytestmark = pytest.mark.filterwarnings("error")


def sentences(records):
    frame = pd.DataFrame(records)
    return " ".join(verdict(frame, judge(frame)))


def two_metrics(points, manifold, rival, n=20, name="parameters", sign=1):
    gains = [0.01 * place for place in range(n)]
    return [*points(manifold, gains), *points(rival, gains, metric=name, expected_sign=sign)]


def nearly(n=20):
    """A good order of n points: neighbours swapped."""
    return [place + (1 if place % 2 == 0 else -1) for place in range(n)]


def useless(n=20):
    """rho near 0."""
    return [abs(place - (n - 1) / 2) + 0.01 * place for place in range(n)]


def gains(n=20):
    return [0.01 * place for place in range(n)]


def test_nothing_to_judge(record):
    assert "nothing to judge" in sentences([record(status="failed")])
    assert "nothing to judge" in " ".join(verdict(pd.DataFrame(), judge(pd.DataFrame())))
    assert extent(pd.DataFrame(), judge(pd.DataFrame())) == ""


@pytest.mark.parametrize("n", [1, 3, 4, 9])
def test_few_configurations_are_too_few_to_say_anything(points, n):
    said = sentences(points(list(range(n)), gains(n)))
    assert said.startswith(f"Too few to say: only {n} configuration")
    assert "better" not in said
    assert "goes with" not in said


def test_with_six_configurations_the_width_of_an_interval_is_told(points):
    assert "from −0.20 to 0.98" in sentences(points([1, 2, 3, 5, 4, 6], [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]))


def test_what_is_shown_of_the_manifold_metric_comes_first(points):
    assert sentences(points(nearly(), gains())).startswith(
        "A larger manifold score goes with a larger gain (ρ = 0.98, "
    )
    against = sentences(points([-score for score in nearly()], gains()))
    assert against.startswith("A larger manifold score goes with a smaller gain, against the claim (ρ = −0.98, ")
    assert sentences(points(useless(), gains())).startswith("These runs do not show that manifold predicts the gain")
    assert "is undefined" in sentences(points([1.0] * 20, gains()))


def test_runs_without_the_manifold_metric_say_so(points):
    said = sentences(points(nearly(), gains(), metric="sharpness"))
    assert said.startswith("The manifold metric has too few runs here")
    assert "As theory expects, with an interval that excludes 0: sharpness (0.98 [" in said


def test_manifold_beats_a_useless_baseline(points):
    said = sentences(two_metrics(points, nearly(), useless()))
    assert "Manifold ranks the gain better than parameters (difference in ρ " in said


def test_manifold_is_beaten_by_a_baseline_of_negative_sign(points):
    said = sentences(two_metrics(points, useless(), [-x for x in nearly()], name="loss_after_k_steps", sign=-1))
    assert "Manifold ranks the gain worse than loss_after_k_steps" in said
    assert "As theory expects, with an interval that excludes 0: loss_after_k_steps (−0.9" in said


def test_better_than_something_worse_is_not_called_a_predictor(points):
    said = sentences(two_metrics(points, [-x for x in useless()], [-x for x in nearly()]))
    assert "Manifold ranks the gain better, though it is no predictor of it itself, than parameters" in said
    assert "Against what theory expects, with an interval that excludes 0: parameters" in said


def test_no_difference_is_not_called_one(points):
    rival = nearly()
    rival[0], rival[2] = rival[2], rival[0]
    said = sentences(two_metrics(points, nearly(), rival))
    assert "is not shown to rank the gain better or worse than parameters" in said


def test_the_equal_budget_value_is_told_or_said_to_be_missing(points):
    known = sentences(points(nearly(), gains()))
    assert (
        "Among expansions of equal budget, where size cannot help, it keeps the sign that theory gives it (ρ =" in known
    )
    assert "cannot be said" in sentences(points(nearly(), gains(), budget=None))
    assert "where size cannot help, nothing is shown (ρ =" in sentences(points(useless(), gains()))


def test_a_negative_control_that_correlates_is_a_caution(points):
    said = sentences(two_metrics(points, nearly(), nearly(), name="random", sign=0))
    assert "Caution: the interval of random, a random number, excludes 0 too (0.98 [" in said
    assert "excludes 0: random" not in said


@pytest.mark.parametrize(("again", "words"), [(nearly, "ranks the gains at 0.98"), (useless, "Not even a second")])
def test_a_second_training_says_how_much_there_is_to_predict(points, again, words):
    second = points(nearly(), [0.01 * gain for gain in again()], seed=1)
    assert words in sentences(points(nearly(), gains(), seed=0) + second)


def test_metrics_with_few_configurations_are_named(points):
    said = sentences(points(nearly(), gains()) + points(nearly()[:6], gains()[:6], metric="scarce"))
    assert "Too few configurations (under 10) to say anything of " in said
    assert "scarce" in said.split("to say anything of ")[1]


def test_many_names_are_cut(points):
    records = [row for place in range(9) for row in points(nearly(), gains(), metric=f"m{place}")]
    said = sentences(points(nearly(), gains()) + records)
    assert "m0 (0.98" in said
    assert "and 3 more." in said
    assert "Of 10 metrics under test, 10 are still correlated" in said


def test_an_unfinished_sweep_is_told(points):
    frame = pd.DataFrame(points(nearly(), gains()))
    frame.attrs["unfinished"] = {"running": 2, "missing": 30}
    assert "The sweep is not finished: 2 running, 30 missing. These numbers will change." in verdict(
        frame, judge(frame)
    )


def test_the_extent_counts_what_is_there(points):
    frame = pd.DataFrame(two_metrics(points, nearly(), nearly()))
    said = extent(frame, judge(frame))
    assert said.startswith("1 data set, 1 model, 2 metrics, 1 seed; ")
    assert "20 configurations (20 runs) for each metric." in said


def test_lists_read_as_sentences():
    assert [listed(["a"]), listed(["a", "b"]), listed(["a", "b", "c"])] == ["a", "a and b", "a, b and c"]
