"""Two stores on the runs that they share."""

import pandas as pd
import pytest

from mmbench.statistics.configurations import prepare
from mmbench.statistics.stores import compare_stores, different_values
from mmbench.statistics.strategies import compare
from tests.records.synthetic import make_record

pytestmark = pytest.mark.filterwarnings("error")


def store(name, shift=0.0, bases=("a", "b", "c"), metrics=("m", "n")):
    return [
        make_record(
            dataset="digits", model=base, base_configuration=base, configuration=f"{base}{expansion}", seed=seed,
            expansion=expansion, metric=metric, gain=0.1 + 0.01 * seed + shift * (1 + index), score=1.0 + shift,
            final_accuracy=0.9, run_id=f"{base}{expansion}{seed}{metric}", store=name,
        )
        for index, base in enumerate(bases)
        for expansion in ("x", "y")
        for seed in (0, 1)
        for metric in metrics
    ]  # fmt: skip


def test_equal_stores_have_no_difference():
    frame = pd.DataFrame(store("one") + store("two"))
    table = compare_stores(frame, "one", "two")
    assert set(table["difference"]) == {0.0}
    assert set(table["n_different"]) == {0}
    assert table.set_index("column").loc["gain", "n"] == 12  # trainings, each counted once
    assert different_values(frame, "one", "two") == []
    assert len(prepare(frame)) == 24


def test_differences_are_over_base_models_and_equal_ids_with_other_values_are_told():
    frame = pd.DataFrame(store("one") + store("two", shift=0.01))
    table = compare_stores(frame, "one", "two").set_index("column")
    gain = table.loc["gain"]
    assert gain["difference"] == pytest.approx(0.02)
    assert gain["ci_low"] == pytest.approx(0.02 - 4.302653 * 0.01 / 3**0.5, rel=1e-5)
    assert gain["n_different"] == 12
    (sentence,) = different_values(frame, "one", "two")
    assert sentence.startswith("24 runs of equal id differ in gain and score between one and two, such as ")


def test_copies_of_one_run_are_averaged_and_are_no_further_seeds():
    runs = prepare(pd.DataFrame(store("one") + store("two", shift=0.01)))
    assert len(runs) == 48
    assert runs.groupby("configuration")["seed"].nunique().tolist() == [2] * 6
    assert runs["number"].nunique() == 6
    rounded = prepare(pd.DataFrame(store("one") + store("two", shift=1e-13)))
    assert len(rounded) == 24
    alone, both = (
        compare(frame) for frame in (pd.DataFrame(store("one")), pd.DataFrame(store("one") + store("two", 0.01)))
    )
    assert both["n"].tolist() == alone["n"].tolist()


def test_only_shared_runs_count():
    frame = pd.DataFrame(store("one", bases=("a",)) + store("two", bases=("a", "b")))
    assert compare_stores(frame, "one", "two").set_index("column").loc["gain", "n"] == 4
    assert compare_stores(frame, "one", "three").empty
