import json

import pandas as pd
import pytest

from mmbench.errors import ConfigError, StoreError
from mmbench.records import frame as module
from mmbench.records.frame import load_records, write_records
from mmbench.store.files import read_json, replacing, write_json
from mmbench.store.store import VERSION, Store

CONTRACT = [
    *("run_id", "status", "error", "model", "dataset", "expansion", "axis", "factor", "budget", "training", "seed"),
    *("metric", "expected_sign", "score", "score_stderr", "metric_seconds", "parameters", "base_parameters"),
    *("base_accuracy", "final_accuracy", "gain", "best_validation_gain", "base_loss", "final_loss", "train_seconds"),
]
TEXT = {"run_id", "status", "error", "model", "dataset", "expansion", "axis", "training", "metric"}


@pytest.mark.parametrize("records", [[], [{"run_id": "a", "status": "failed"}]], ids=["no record", "one nearly empty"])
def test_all_contract_columns_are_there_in_order_and_typed(stored, records):
    frame = load_records(stored(records))
    assert list(frame.columns) == CONTRACT
    assert len(frame) == len(records)
    assert {name for name in CONTRACT if not pd.api.types.is_numeric_dtype(frame[name])} == TEXT
    assert frame.attrs["damaged"] == []


def test_a_folder_without_records_is_an_empty_store(tmp_path):
    assert load_records(tmp_path).empty


def test_values_come_back_and_missing_ones_are_null(stored, record):
    given = record(seed=2**61 + 1, score=None, budget=None)
    row = load_records(stored([given])).iloc[0]
    assert {k: row[k] for k in CONTRACT if pd.notna(row[k])} == {k: v for k, v in given.items() if v is not None}


def test_other_columns_follow_sorted_and_lists_become_text(stored, record):
    rows = [record(zeta=1, beta=[1, "a"], flag=True, mix=1), record(seed=1, alpha=0.5, mix="x")]
    frame = load_records(stored(rows))
    assert list(frame.columns[len(CONTRACT) :]) == ["alpha", "beta", "flag", "mix", "zeta"]
    assert json.loads(frame["beta"].dropna().item()) == [1, "a"]
    assert [str(frame[name].dtype) for name in ("alpha", "flag", "zeta")] == ["float64", "boolean", "Int64"]
    assert set(frame["mix"]) == {"1", "x"}


def test_damaged_files_are_left_out_and_named(stored, record):
    folder = stored([record(seed=seed) for seed in range(5)])
    files = sorted((folder / "records").glob("*.json"))
    files[0].write_text(files[0].read_text()[:-20])
    files[1].write_text(files[1].read_text().replace('"gain":0.1', '"gain":0.7'))
    files[2].write_text("[]")
    files[3].write_bytes(b"\xff\x00")
    frame = load_records(folder)
    assert list(frame["run_id"]) == [files[4].stem]
    assert frame.attrs["damaged"] == [str(path) for path in files[:4]]


def test_records_of_other_versions_and_other_runs_are_left_out_and_named(stored, record):
    folder = stored([record(seed=seed) for seed in range(3)])
    files = sorted((folder / "records").glob("*.json"))
    older = {**read_json(files[0]), "store_version": VERSION - 1}
    files[0].unlink()
    write_json(files[0], older)
    files[1].write_bytes(files[2].read_bytes())
    frame = load_records(folder)
    assert list(frame["run_id"]) == [files[2].stem]
    assert frame.attrs["other_versions"] == [{"path": str(files[0]), "version": str(VERSION - 1)}]
    assert frame.attrs["damaged"] == [str(files[1])]
    assert "store_version" not in frame


def test_a_damaged_record_heals(stored, record):
    rows = [record(seed=seed) for seed in range(3)]
    folder = stored(rows)
    path = folder / "records" / f"{rows[0]['run_id']}.json"
    good = path.read_bytes()
    path.write_bytes(good[:-9])
    assert load_records(folder).attrs["damaged"] == [str(path)]
    path.write_bytes(good)
    frame = load_records(folder)
    assert (len(frame), frame.attrs["damaged"]) == (3, [])


def test_new_changed_and_removed_records_are_seen(stored, sweep):
    changed, gone = ({**row, "status": "failed", "error": "at first"} for row in sweep[:2])
    folder = stored([changed, gone, *sweep[2:]])
    before = load_records(folder)
    store = Store(folder)
    store.write_record({**changed, "error": "now it fails", "brand_new": 1.5})
    store.forget_record(gone["run_id"])
    store.write_record({**sweep[2], "run_id": "0" * 16})
    frame = load_records(folder).set_index("run_id")
    assert frame.loc[changed["run_id"], ["error", "brand_new"]].tolist() == ["now it fails", 1.5]
    assert set(frame.index) == {*before["run_id"], "0" * 16} - {gone["run_id"]}


def test_records_that_are_removed_while_reading_are_not_damaged(stored, sweep, monkeypatch):
    folder = stored(sweep[:9])

    def vanishing(path):
        path.unlink()
        return read_json(path)

    monkeypatch.setattr(module, "read_json", vanishing)
    frame = load_records(folder)
    assert frame.empty
    assert frame.attrs["damaged"] == []


def test_rows_are_sorted_by_what_they_are_not_by_their_files(stored, sweep):
    one, other = load_records(stored(sweep, "one")), load_records(stored(sweep[::-1], "other"))
    pd.testing.assert_frame_equal(one, other)
    assert not one["run_id"].is_monotonic_increasing
    assert one["model"].is_monotonic_increasing


@pytest.mark.parametrize("name", ["absent", "file"])
def test_a_path_that_is_no_folder_is_a_sentence(tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=name):
        load_records(tmp_path / name)


def test_written_records_hold_every_run_whatever_became_of_it(stored, sweep, tmp_path):
    frame = load_records(stored(sweep))
    write_records(frame, tmp_path)
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "records.parquet"), frame)
    table = pd.read_csv(tmp_path / "records.csv")
    assert list(table.columns[: len(CONTRACT)]) == CONTRACT
    assert table["status"].value_counts().to_dict() == {"done": 108, "skipped": 10, "failed": 2}
    assert table["gain"].dropna().tolist() == frame["gain"].dropna().tolist()


def test_a_write_that_fails_leaves_the_old_file_and_no_rest(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


# -- several stores, versions, filters ---------------------------------------------------------------------------------


def test_several_stores_are_told_apart(stored, record):
    one, two = stored([record(), record(seed=1)], "one"), stored([record(), record(seed=2, extra="x")], "two")
    frame = load_records([one, two])
    assert frame["store"].value_counts().to_dict() == {str(one): 2, str(two): 2}
    assert frame.attrs["stores"] == [str(one), str(two)]
    assert list(frame.columns[: len(CONTRACT)]) == CONTRACT
    assert "store" not in load_records([one, one]).columns, "one store, named twice"


def test_columns_of_different_kinds_in_two_stores_become_text(stored, record):
    frame = load_records([stored([record(extra=1)], "one"), stored([record(extra="x")], "two")])
    assert set(frame["extra"]) == {"1", "x"}


@pytest.mark.parametrize(
    ("where", "seeds"),
    [
        ("seed > 1", {2, 3}),
        ("metric == 'manifold' and seed in [0, 3]", {0, 3}),
        ("budget > 2", set()),
        ("error.isna()", {0, 1, 2, 3}),
        ("score_stderr > 0 or seed == 0", {0, 1, 2, 3}),
    ],
)
def test_a_filter_keeps_what_it_says_and_counts_the_rest(stored, record, where, seeds):
    frame = load_records(stored([record(seed=seed) for seed in range(4)]), where)
    assert set(frame["seed"]) == seeds
    assert frame.attrs["filtered"] == 4 - len(seeds)
    assert frame.attrs["where"] == where


def test_a_filter_on_a_column_with_nulls_leaves_these_out(stored, record):
    frame = load_records(stored([record(axis=None), record(axis="width")]), "axis == 'width'")
    assert len(frame) == 1


@pytest.mark.parametrize("where", ["sede > 1", "seed >", "seed", "seed + 1", "1", "", "model = 'mlp'"])
def test_a_filter_that_is_no_condition_is_a_sentence(stored, record, where):
    with pytest.raises(ConfigError, match=r"where = .* cannot be understood.*the columns are run_id, status"):
        load_records(stored([record()]), where)


def test_the_csv_opens_as_it_should(stored, record, tmp_path):
    error = 'first, "quoted"\nsecond; third\r\nλ'
    frame = load_records(stored([record(status="failed", error=error, gain=1234567.25, score=None)]))
    write_records(frame, tmp_path)
    raw = (tmp_path / "records.csv").read_bytes()
    assert not raw.startswith(b"\xef\xbb\xbf")
    assert raw.count(b"\n") == 2, "a row is a line"
    assert b"1234567.25" in raw
    row = pd.read_csv(tmp_path / "records.csv").iloc[0]
    assert row["error"] == 'first, "quoted"\\nsecond; third\\nλ'
    assert row["gain"] == 1234567.25
    assert pd.isna(row["score"])
