"""The cache changes how fast records are read, never what is read."""

import os
import time

import pandas as pd
import pytest

from mmbench.records import cache
from mmbench.records.columns import COLUMNS, MixedError, joined, typed
from mmbench.records.frame import load_records
from mmbench.store.store import Store

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Small stores are cached too, and what was just written is old at once, unless a test wants it otherwise."""
    monkeypatch.setattr(cache, "WORTH", 1)
    monkeypatch.setattr(cache, "FRESH", -(10**12))


@pytest.fixture
def read(monkeypatch):
    """Count the files that are read."""
    seen = []
    monkeypatch.setattr(cache, "read_json", lambda path, real=cache.read_json: seen.append(path.name) or real(path))

    def load(folder, **options):
        seen.clear()
        return load_records(folder, **options), len(seen)

    return load


def same(one, other):
    pd.testing.assert_frame_equal(one, other)
    assert one.attrs == other.attrs


def test_what_was_read_is_not_read_again(stored, sweep, read):
    folder = stored(sweep)
    first, count = read(folder)
    assert count == len(sweep)
    again, count = read(folder)
    assert count == 0
    same(first, again)


def test_new_changed_and_removed_records_are_seen(stored, sweep, read, tmp_path):
    changed, gone = ({**row, "status": "failed", "error": "at first"} for row in sweep[:2])
    folder = stored([changed, gone, *sweep[2:]])
    read(folder)
    store = Store(folder)
    store.write_record({**changed, "error": "now it fails", "brand_new": 1.5})
    store.forget_record(gone["run_id"])
    store.write_record({**sweep[2], "run_id": "0" * 16})
    frame, count = read(folder)
    assert count == 2
    assert frame.set_index("run_id").loc[changed["run_id"], "error"] == "now it fails"
    assert gone["run_id"] not in set(frame["run_id"])
    (folder / "cache" / "records.parquet").unlink()
    same(frame, read(folder)[0])


def test_a_record_replaced_by_one_of_equal_size_and_time_is_seen(stored, record, read):
    entry = record(error="old", status="failed")
    folder = stored([entry, record(seed=1)])
    read(folder)
    path = folder / "records" / f"{entry['run_id']}.json"
    before = path.stat()
    Store(folder).write_record({**entry, "error": "new"})
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    frame, count = read(folder)
    assert count == 1
    assert set(frame["error"].dropna()) == {"new"}


def test_files_written_just_now_are_read_again(stored, record, read, monkeypatch):
    monkeypatch.setattr(cache, "FRESH", 10**10)
    folder = stored([record(seed=seed) for seed in range(4)])
    old = folder / "records" / min(path.name for path in (folder / "records").iterdir())
    os.utime(old, (time.time() - 3600,) * 2)
    read(folder)
    assert read(folder)[1] == 3


@pytest.mark.parametrize("damage", ["cut", "flipped", "text", "folder", "other version"])
def test_a_damaged_cache_is_made_anew(stored, sweep, read, damage, monkeypatch):
    folder = stored(sweep)
    frame, _ = read(folder)
    path = folder / "cache" / "records.parquet"
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        middle = len(content) // 3
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :])
    elif damage == "text":
        path.write_text("not a parquet file")
    elif damage == "folder":
        path.unlink()
        path.mkdir()
    else:
        monkeypatch.setattr(cache, "VERSION", cache.VERSION + 1)
    again, count = read(folder)
    assert count == len(sweep)
    same(frame, again)
    if damage != "folder":
        assert read(folder)[1] == 0


def test_a_store_that_cannot_be_written_to_is_read_all_the_same(stored, sweep, read, monkeypatch):
    folder = stored(sweep)
    expected, _ = read(folder)
    (folder / "cache" / "records.parquet").unlink()
    (folder / "cache").rmdir()
    (folder / "cache").touch()  # also for root, who may write anywhere
    frame, count = read(folder)
    assert count == len(sweep)
    same(frame, expected)


def test_small_stores_are_left_without(stored, record, monkeypatch):
    monkeypatch.setattr(cache, "WORTH", 1000)
    folder = stored([record()])
    load_records(folder)
    assert not (folder / "cache").exists()


def test_a_few_new_records_do_not_rewrite_the_cache(stored, record, read):
    folder = stored([record(seed=seed) for seed in range(200)])
    read(folder)
    before = (folder / "cache" / "records.parquet").stat().st_ino
    Store(folder).write_record(record(seed=200))
    assert read(folder)[1] == 1
    assert (folder / "cache" / "records.parquet").stat().st_ino == before
    for seed in range(201, 210):
        Store(folder).write_record(record(seed=seed))
    assert read(folder)[1] == 10
    assert read(folder)[1] == 0


def test_damaged_records_are_named_each_time_and_heal(stored, record, read):
    rows = [record(seed=seed) for seed in range(3)]
    folder = stored(rows)
    path = folder / "records" / f"{rows[0]['run_id']}.json"
    good = path.read_bytes()
    path.write_bytes(good[:-9])
    for _ in range(2):
        frame, _ = read(folder)
        assert frame.attrs["damaged"] == [str(path)]
    path.write_bytes(good)
    frame, _ = read(folder)
    assert (len(frame), frame.attrs["damaged"]) == (3, [])


def test_a_record_under_another_runs_name_is_left_out(stored, record, read):
    folder = stored([record()])
    path = next((folder / "records").glob("*.json"))
    copy = path.with_name("copied.json")
    copy.write_bytes(path.read_bytes())
    frame, _ = read(folder)
    assert len(frame) == 1
    assert frame.attrs["damaged"] == [str(copy)]


def test_records_that_come_and_go_while_reading(stored, sweep, monkeypatch):
    folder = stored(sweep)

    def vanishing(path, real=cache.read_json):
        path.unlink(missing_ok=True)
        return real(path)

    monkeypatch.setattr(cache, "read_json", vanishing)
    frame = load_records(folder)
    assert frame.empty
    assert frame.attrs["damaged"] == []


# -- parts -------------------------------------------------------------------------------------------------------------

CASES = {
    "equal": [{"x": 1}, {"x": 2}],
    "new column": [{"x": 1}, {"y": "a"}],
    "null first": [{"x": None}, {"x": "a"}],
    "null last": [{"x": True}, {"x": None}],
    "whole and not": [{"x": 1}, {"x": 1.5}],
    "beyond 64 bits": [{"x": 2**70}, {"x": 1}],
    "a contract's count that is none": [{"seed": 1}, {"seed": 1.5}],
}


@pytest.mark.parametrize("records", CASES.values(), ids=CASES)
def test_parts_join_to_what_all_at_once_would_be(records):
    whole = typed(records)
    pd.testing.assert_frame_equal(joined([typed([record]) for record in records]), whole)
    pd.testing.assert_frame_equal(joined([typed([]), whole]), whole)
    assert list(whole.columns[: len(COLUMNS)]) == list(COLUMNS)


@pytest.mark.parametrize("records", [[{"x": 1}, {"x": "a"}], [{"x": True}, {"x": 0}], [{"x": [1]}, {"x": 2.5}]])
def test_parts_that_only_the_records_can_unite_are_read_at_once(records, stored, record, read, monkeypatch):
    with pytest.raises(MixedError):
        joined([typed([entry]) for entry in records])
    rows = [record(seed=seed, **entry) for seed, entry in enumerate(records)]
    monkeypatch.setattr(cache, "_CHUNK", 1)
    folder = stored(rows[:1])
    read(folder)
    Store(folder).write_record(rows[1])
    frame, _ = read(folder)
    expected = typed(sorted(rows, key=lambda row: row["seed"]))
    pd.testing.assert_series_equal(frame["x"], expected["x"])
