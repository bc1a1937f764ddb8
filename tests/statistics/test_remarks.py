"""What is said where numbers are too few or these runs have no answer."""

import pandas as pd
import pytest

from mmbench.records.frame import load_records
from mmbench.statistics.configurations import prepare
from mmbench.statistics.judge import judge
from mmbench.statistics.remarks import on_row, on_sweep
from mmbench.store.store import Store
from tests.statistics.planted import TRUE, planted, row, summary_of

pytestmark = pytest.mark.filterwarnings("error")

NOISELESS = pd.DataFrame({"target": ["gain"], "seeds": [1.0], "mean": [float("nan")], "ceiling": [float("nan")]})


def remark_on(records, metric="manifold"):
    return on_row({"metric": metric, **summary_of(records, metric)})


@pytest.mark.parametrize(
    ("control", "said"), [("lookup_table", "another data set"), ("second_training", "a second seed")]
)
def test_a_control_that_cannot_be_made_says_why(control, said):
    records = planted(TRUE, datasets=("one",), budgets=(2.0,))
    assert summary_of(records, control)["n_configurations"] == 0
    assert said in remark_on(records, control)


def test_nothing_but_failures(record):
    failed = [record(status="failed", error="out of luck", score=None, gain=None, seed=seed) for seed in (0, 1)]
    judgement = judge(pd.DataFrame(failed))
    assert judgement.remarks == ["No run is done: there is nothing to judge."]
    assert row(judgement)["remark"].startswith("Nothing to judge")


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_configurations_are_called_few(points, n):
    records = points(list(range(n)), [0.1, 0.3, 0.2][:n])
    assert f"only {n} configuration" in remark_on(records)
    remarks = on_sweep(prepare(pd.DataFrame(records)), NOISELESS, {})
    assert any(f"Only {n} configuration" in sentence for sentence in remarks)


def test_a_constant_score_is_called_constant(points):
    assert "the same everywhere" in remark_on(points([5.0] * 6, [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]))


def test_one_budget_one_base_model_one_seed_are_named():
    judgement = judge(planted(TRUE, datasets=("one",), budgets=(2.0,)))
    remarks = " ".join(judgement.remarks)
    assert "Only 1 base model" in remarks
    assert "One data set" in remarks
    assert "One seed" in remarks
    assert row(judgement)["interval"] == "configurations"


def test_a_running_sweep_is_called_unfinished(record, stored):
    rows = [record(seed=seed) for seed in range(3)]
    folder = stored(rows)
    store = Store(folder)
    store.write_sweep({"runs": {entry["run_id"]: "label" for entry in rows} | {"later": "label", "now": "label"}})
    store.write_heartbeat("now", "base")
    frame = load_records(folder)
    assert frame.attrs["unfinished"] == {"missing": 2, "running": 1}
    remarks = on_sweep(prepare(frame), NOISELESS, frame.attrs["unfinished"])
    assert any("2 runs missing, 1 of them running" in sentence for sentence in remarks)
