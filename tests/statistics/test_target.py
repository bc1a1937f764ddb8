"""The targets that are computed, and their directions."""

import pandas as pd
import pytest

from mmbench.statistics.configurations import runs
from mmbench.statistics.target import DIRECTIONS, TARGETS
from tests.statistics.planted import summary_of

pytestmark = pytest.mark.filterwarnings("error")


def target_of(records, target, **which):
    found = runs(pd.DataFrame(records), target)
    for name, value in which.items():
        found = found[found[name] == value]
    return found[target].tolist()


def test_losses_make_two_targets(record):
    rows = [record(base_loss=0.9, final_loss=0.4, final_train_loss=0.1), record(seed=1, base_loss=0.9, final_loss=0.4)]
    assert target_of(rows, "test_loss_gain") == pytest.approx([0.5, 0.5])
    assert target_of(rows, "generalisation_gap") == pytest.approx([0.3])


def matched(record, **changes):
    return record(expansion="scratch_matched", arm="control", **changes)


def test_scratch_is_that_of_the_same_data_base_budget_and_seed(record):
    rows = [
        record(final_accuracy=0.9, seed=0),
        record(final_accuracy=0.9, seed=1),
        record(final_accuracy=0.9, seed=2),
        record(final_accuracy=0.9, seed=0, budget=4.0),
        record(final_accuracy=0.9, seed=0, dataset="other"),
        record(final_accuracy=0.9, seed=0, base_configuration="other"),
        matched(record, final_accuracy=0.8, seed=0),
        matched(record, final_accuracy=0.7, seed=1),
        matched(record, final_accuracy=0.1, seed=2, status="failed"),
    ]
    assert sorted(target_of(rows, "gain_over_scratch")) == pytest.approx([0.1, 0.2])
    excluded = runs(pd.DataFrame(rows), "gain")
    assert len(excluded) == 8


def test_scratch_of_several_axes_is_averaged_however_many_metrics_saw_each(record):
    rows = [
        record(final_accuracy=0.9),
        *(
            matched(record, final_accuracy=0.8, axis="width", metric=metric)
            for metric in ("manifold", "random", "flops")
        ),
        matched(record, final_accuracy=0.6, axis="depth"),
    ]
    assert target_of(rows, "gain_over_scratch") == pytest.approx([0.9 - (0.8 + 0.6) / 2])


def test_a_smaller_gap_is_better(points):
    gaps = [0.1, 0.2, 0.3, 0.4]
    rows = points([4, 3, 2, 1], [0.1, 0.3, 0.2, 0.4], final_loss=0.5, final_train_loss=[0.5 - gap for gap in gaps])
    row = summary_of(rows, target="generalisation_gap")
    assert row["spearman"] == -1
    assert row["expected_sign"] == -1  # the metric's +1 times -1: a larger score should mean a smaller gap
    assert row["sign_agrees"]
    assert row["regret_at_1"] == 0
    assert {target for target in TARGETS if DIRECTIONS[target] < 0} == {"generalisation_gap"}
