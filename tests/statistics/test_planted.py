"""Planted truths: a confounder, a true predictor, nothing at all."""

import pandas as pd
import pytest

from mmbench.statistics.configurations import prepare
from mmbench.statistics.correlation import false_discovery_rate
from mmbench.statistics.judge import judge
from mmbench.statistics.sample import Samples
from mmbench.statistics.summary import summarise
from tests.statistics.planted import SIZE, TRUE, planted, row, summary_of

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(scope="module")
def confounded():
    return judge(planted(SIZE))


def test_a_confounder_is_seen_through_by_every_way_of_asking(confounded):
    judgement = confounded
    found = row(judgement)
    assert found["spearman"] > 0.95
    assert abs(found["equal_budget_spearman"]) < 0.15
    assert found["equal_budget_low"] < 0 < found["equal_budget_high"]
    assert found["equal_budget_p"] > 0.05
    assert abs(found["partial_spearman"]) < 0.2
    psi = judgement.granulated.set_index(["metric", "target", "axis"])["psi"]["manifold"]["gain"]
    assert psi["budget"] > 0.95
    assert abs(psi["expansion"]) < 0.2
    assert found["sign_error_max"] > 0.3
    assert found["equal_budget_regret_at_1"] > 0.005


def test_a_true_predictor_is_not_taken_for_a_confounder(true):
    judgement = true
    found = row(judgement)
    assert found["spearman"] < 0.5  # size hides it
    assert found["equal_budget_low"] > 0.7
    assert found["equal_budget_p"] < 0.005  # four base models are the unit: Student's t with three degrees of freedom
    assert found["partial_low"] > 0.6
    assert found["equal_budget_signs"] == "32 of 32"
    cells = judgement.cells[(judgement.cells["metric"] == "manifold") & (judgement.cells["target"] == "gain")]
    assert cells.loc[cells["kind"] == "equal_budget", "sign_agrees"].all()
    assert len(cells[cells["kind"] == "equal_budget"]) == 32


@pytest.mark.parametrize("seed", range(3))
def test_the_confounder_over_draws(seed):
    found = summary_of(planted(SIZE, seed=seed + 10))
    assert found["spearman"] > 0.95
    assert abs(found["equal_budget_spearman"]) < 0.25


def test_a_sign_that_turns_from_data_to_data_shows_in_heterogeneity_and_cells():
    frame = planted(TRUE)
    turned = frame["dataset"].isin(["one", "two"])
    frame.loc[turned, "score"] *= -1
    found = summary_of(frame)
    assert abs(found["equal_budget_spearman"]) < 0.2
    assert found["equal_budget_i2"] > 0.8
    assert found["equal_budget_signs"] == "16 of 32"
    assert found["equal_budget_low"] < 0 < found["equal_budget_high"]


def test_of_many_null_metrics_next_to_none_is_a_discovery():
    nulls = {f"null{place}": (1, lambda size, quality, noise: noise) for place in range(20)}
    discoveries = 0
    for seed in range(4):
        frame = planted(nulls, seed=seed, datasets=("one", "two", "three"), budgets=(2.0, 4.0))
        samples = Samples(prepare(frame), "gain")
        rows = pd.DataFrame([summarise(samples, samples.sample(metric)) for metric in nulls])
        for p_value in ("p_value", "equal_budget_p"):
            discoveries += int((false_discovery_rate(rows[p_value]) < 0.05).any())
    assert discoveries <= 2  # of 8 families, each with at most 5 % of them false
