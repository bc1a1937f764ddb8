"""Metrics along the training: names, what the main tables hold, and the table of moments."""

import numpy as np
import pandas as pd
import pytest

from mmbench.statistics.configurations import at_start, configurations, mixed, prepare
from mmbench.statistics.judge import correlate, judge
from mmbench.statistics.moments import averaged, moments_table, tau_of, within_bases
from tests.statistics.planted import row

pytestmark = pytest.mark.filterwarnings("error")

EPOCHS = (0, 1, 5)


def along(make, moments=EPOCHS, seeds=4, candidates=6, **changes):
    """The score is noise right after the expansion, half of the truth after one epoch, the truth after five."""
    draw, rows = np.random.default_rng(1), []
    for seed in range(seeds):
        gains = 0.01 * np.arange(candidates) + 0.001 * draw.normal(size=candidates)
        for epoch in moments:
            share = {0: 0.0, 1: 0.5, 5: 1.0}[epoch]
            scores = share * 100 * gains + (1 - share) * 3 * draw.normal(size=candidates)
            rows += make(
                scores.tolist(), gains.tolist(), seed=seed, after=79 * epoch, after_epochs=float(epoch),
                after_seconds=2.0 * epoch, base_configuration="base", best_validation_gain=(gains + 0.02).tolist(),
                metric_id=f"{epoch}0000000", definition="manifold" + (f"(after={epoch}epochs)" if epoch else "()"),
                **changes,
            )  # fmt: skip
    return rows


def test_a_later_moment_is_another_score_and_the_tables_are_of_the_first(points):
    frame = pd.DataFrame(along(points))
    prepared = prepare(frame)
    assert set(prepared["metric"]) == {"manifold", "manifold after 1 epoch", "manifold after 5 epochs"}
    assert set(prepared["measured"]) == {"manifold"}
    table = correlate(frame)
    assert set(table["metric"]) == {"manifold", "lookup_table", "second_training"}
    alone = correlate(frame[frame["after"] == 0])
    pd.testing.assert_frame_equal(table, alone)
    assert mixed(frame) == []


def test_a_metric_without_a_score_at_the_start_counts_at_its_first(points):
    undefined = points([1, 2, 3], [0.1, 0.2, 0.3], metric="sotl_e", status="skipped", after=0)
    later = along(points, (1, 5), metric="sotl_e")
    frame = pd.DataFrame([*undefined, *later])
    assert set(configurations(frame, "gain")["metric"]) == {"sotl_e after 1 epoch"}
    assert set(at_start(prepare(frame))["moment"]) == {"after 1 epoch"}
    # Without any score, the runs that say why stay.
    assert len(at_start(prepare(pd.DataFrame(undefined)))) == 3


def test_moments_in_steps_are_named_by_steps(points):
    rows = points([1, 2, 3], [0.1, 0.2, 0.3], after=10, after_epochs=10 / 79)
    rows += points([1, 2, 3], [0.1, 0.2, 0.3], after=1)
    assert set(prepare(pd.DataFrame(rows))["metric"]) == {"manifold after 10 steps", "manifold after 1 step"}


def test_sets_of_options_keep_their_name_along_the_training(points):
    rows = []
    for epoch in (0, 1):
        for nodes in (50, 250):
            moment = f", after={epoch}epochs" if epoch else ""
            rows += points(
                [1, 2, 3], [0.1, 0.2, 0.3], after=79 * epoch, after_epochs=float(epoch),
                metric_id=f"{nodes}-{epoch}-rest", definition=f"manifold(nodes={nodes}{moment})",
            )  # fmt: skip
    names = {"manifold nodes=50", "manifold nodes=250"}
    assert set(prepare(pd.DataFrame(rows))["metric"]) == names | {f"{name} after 1 epoch" for name in names}


def test_the_table_finds_where_the_truth_is_known(points):
    table = judge(pd.DataFrame(along(points))).moments
    rows = table[table["target"] == "best_validation_gain"].set_index("after_epochs")
    assert list(rows.index) == list(EPOCHS)
    assert rows["after"].tolist() == [0, 79, 395]
    assert rows["kendall"].is_monotonic_increasing
    assert rows["kendall"][5] == rows["kendall_within"][5] == 1
    assert rows["kendall_within"][0] < 0.5
    assert (rows["n"] == 24).all()
    assert (rows["n_configurations"] == 6).all()
    assert (rows["n_base_models"] == 4).all()
    # Metric 2 s, training 10 s, and 2 s for each epoch up to the moment.
    assert rows["seconds"].tolist() == pytest.approx([2, 4, 12])
    assert rows["cost_fraction"].tolist() == pytest.approx([0.2, 0.4, 1.2])


def test_without_a_later_moment_there_is_no_table(sweep_frame):
    assert len(moments_table(prepare(sweep_frame))) == 0


def test_tau_inside_base_models_ignores_what_sets_them_apart(points):
    """Pooled, the base models' own level decides; inside each of them the order is perfect."""
    rows = []
    for seed, shift in enumerate((0.0, -50.0, -100.0)):
        gains = [0.1 * seed + 0.001 * place for place in range(4)]
        rows += points([shift + place for place in range(4)], gains, seed=seed, base_configuration="base")
    frame = prepare(pd.DataFrame(rows))
    found = within_bases(frame, "gain")
    assert (found.tau, found.bases) == (1.0, 3)
    assert np.isnan([found.low, found.high]).all()  # equal taus say nothing about their spread
    assert tau_of(np.array([1.0, 1.0, 1.0]), np.array([1.0, 2.0, 3.0])) == 0  # it orders none of them
    assert np.isnan(tau_of(np.array([1.0, 2.0, 3.0]), np.array([1.0, 1.0, 1.0])))


def test_the_interval_over_base_models_covers_the_mean():
    draw, covered = np.random.default_rng(0), 0
    for _ in range(400):
        found = averaged(draw.normal(0.3, 0.2, size=10))
        covered += found.low <= 0.3 <= found.high
    assert 0.92 <= covered / 400 <= 0.98


def test_choosing_on_validation_flatters_by_what_was_planted(points):
    rows = []
    for metric in ("manifold", "random"):  # one training, two metrics
        rows += along(points, (0,), metric=metric)
    table = judge(pd.DataFrame(rows)).validation
    assert len(table) == 1
    found = table.iloc[0]
    assert (found["n"], found["n_base_models"]) == (24, 4)
    assert found["flattery"] == pytest.approx(0.02)
    assert found["flattery_low"] <= found["flattery"] + 1e-12 <= found["flattery_high"] + 2e-12
    assert found["spearman"] == found["kendall"] == 1
    assert row(correlate(pd.DataFrame(rows)), target="best_validation_gain")["n"] == 24


def test_older_records_have_no_best_validation_gain(sweep_frame):
    assert len(judge(sweep_frame).validation) == 0
