"""The grid over (q, n), read off stored barriers, and the selection effect of its best entry."""

import math

import numpy as np
import pandas as pd
import pytest

from mmbench.statistics.configurations import at_start, prepare
from mmbench.statistics.correlation import kendall
from mmbench.statistics.manifold_grid import NODES, QUANTILES, Barriers, _shuffled, _taus, grid_of

pytestmark = pytest.mark.filterwarnings("error")


def fabricated(points, effect, draw, seeds=6, candidates=5, shape=(4, 250)):
    """Runs and barriers; with effect 0 the barriers know nothing of the gains."""
    rows, barriers = [], {}
    for seed in range(seeds):
        base = np.exp(draw.normal(size=shape))
        gains = draw.permutation(candidates) + 0.0
        made = points([0.0] * candidates, (0.01 * gains).tolist(), seed=seed, base_configuration="base",
                      best_validation_gain=(0.01 * gains + 0.001).tolist())  # fmt: skip
        for gain, record in zip(gains, made, strict=True):
            barriers[record["run_id"]] = Barriers(np.exp(draw.normal(size=shape) - effect * gain), base)
        rows += made
    return at_start(prepare(pd.DataFrame(rows))), barriers


def test_the_grid_finds_a_planted_order_at_every_setting(points):
    runs, barriers = fabricated(points, 0.3, np.random.default_rng(0))
    table = grid_of(runs, barriers).table
    table = table[table["target"] == "gain"]
    assert sorted(zip(table["q"], table["n"], strict=True)) == sorted((q, n) for q in QUANTILES for n in NODES)
    assert (table["kendall_within"] > 0.5).all()
    # More nodes, less noise.
    large = table.groupby("n")["kendall_within"].mean()
    assert large[1000] > large[50]
    assert (table["n_runs"] == 30).all()
    assert (table["n_base_models"] == 6).all()


def test_a_setting_is_computed_as_the_paper_says():
    """By hand: of the first four nodes, chains in turn, the base model's median is 2; three of the candidate's are."""
    pair = Barriers(np.array([[0.0, 9.0, 9.0], [1.0, 2.0, 9.0]]), np.array([[1.0, 3.0, 0.0], [2.0, 4.0, 0.0]]))
    candidate, base = pair.flat(4)
    assert candidate.tolist() == [0.0, 1.0, 9.0, 2.0]
    assert base.tolist() == [1.0, 2.0, 3.0, 4.0]
    assert pair.threshold(0.5, 4) == 2.0


def test_only_settings_with_enough_nodes_are_there(points):
    runs, barriers = fabricated(points, 0.3, np.random.default_rng(0), shape=(4, 63))
    grid = grid_of(runs, barriers)
    assert sorted(set(grid.table["n"])) == [50, 100, 250]
    fixed = grid.choices[grid.choices["choice"] == "fixed"]
    assert (fixed["q"] == 0.4).all()
    assert (fixed["n"] == 250).all()  # the largest that is stored
    assert len(grid_of(runs, {}).table) == len(grid_of(runs, {}).choices) == 0


def test_the_best_of_the_grid_is_no_discovery_where_there_is_none(points):
    """Over 60 samples without an effect: p is below 0.1 about as often as 0.1, and the best tau is as chance tells."""
    found = []
    for seed in range(60):
        runs, barriers = fabricated(points, 0.0, np.random.default_rng(seed), seeds=4, shape=(1, 100))
        choices = grid_of(runs, barriers).choices
        found.append(choices[(choices["target"] == "gain") & (choices["choice"] == "best")].iloc[0])
    table = pd.DataFrame(found)
    assert table["kendall_within"].mean() > 0.15  # the best of a grid is high without any effect
    assert table["kendall_within"].mean() == pytest.approx(table["by_chance"].mean(), abs=0.06)
    assert (table["p_value"] < 0.1).mean() <= 0.2
    assert 0.35 < table["p_value"].mean() < 0.65


def test_a_true_effect_survives_the_selection(points):
    runs, barriers = fabricated(points, 0.5, np.random.default_rng(1))
    choices = grid_of(runs, barriers).choices.set_index(["target", "choice"])
    assert (choices["p_value"] < 0.01).all()
    assert choices.loc[("gain", "best"), "settings"] == 20
    assert choices.loc[("gain", "fixed"), ["q", "n"]].tolist() == [0.4, 1000]
    assert choices.loc[("gain", "best"), "kendall_within"] >= choices.loc[("gain", "fixed"), "kendall_within"]


def test_p_values_are_exact_where_all_orders_can_be_counted(points):
    """One base model of three expansions, two of which gain alike: a third of the orders gives the largest tau."""
    draw = np.random.default_rng(0)
    base = np.exp(draw.normal(size=(4, 25)))
    rows = points([0.0] * 3, [0.1, 0.1, 0.2])
    barriers = {row["run_id"]: Barriers(base * scale, base) for row, scale in zip(rows, (1.0, 0.5, 0.1), strict=True)}
    choices = grid_of(at_start(prepare(pd.DataFrame(rows))), barriers).choices
    assert (choices["kendall_within"] > 0.8).all()
    assert choices["p_value"].to_numpy() == pytest.approx(1 / 3, abs=0.05)


def test_gains_are_shuffled_inside_base_models_alone(points):
    """Two base models of unlike level: between them, the gains never change places."""
    rows = points([1.0, 2.0], [0.1, 0.2], seed=0, base_configuration="b")
    rows += points([1.0, 2.0], [0.8, 0.9], seed=1, base_configuration="b")
    runs = prepare(pd.DataFrame(rows))
    null = _shuffled(np.array([runs["score"]]), runs, "gain")[0]
    assert set(null) == {-1.0, 0.0, 1.0}
    assert (null == 0).mean() == pytest.approx(0.5, abs=0.06)


def test_fast_taus_are_kendalls():
    draw = np.random.default_rng(0)
    scores, gains = draw.integers(0, 4, size=(5, 8)).astype(float), draw.integers(0, 6, size=(7, 8)).astype(float)
    scores[0] = 1.0
    fast = _taus(scores, gains)
    for i, score in enumerate(scores):
        for j, gain in enumerate(gains):
            expected = kendall(score, gain)
            assert fast[i, j] == pytest.approx(0.0 if math.isnan(expected) else expected, abs=1e-12)
