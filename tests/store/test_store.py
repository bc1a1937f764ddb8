from __future__ import annotations

import contextlib
import errno
import fcntl
import multiprocessing
import os
import shutil
import stat
import tempfile
import time
from pathlib import Path

import pytest
import torch

from mmbench.errors import BusyError, StoreError
from mmbench.store import store as module
from mmbench.store.files import read, write_json
from mmbench.store.store import VERSION, Store, key_of, look, seed_of

from .test_files import FAULTS

INPUTS = {"model": {"hidden": [5, 5]}, "seed": 0}


@pytest.fixture
def told():
    return []


@pytest.fixture
def store(tmp_path, told):
    store = Store(tmp_path / "results", told.append)
    store.prepare()
    return store


def compute(value=1.0):
    return {"value": value}, {"weights": {"w": torch.arange(6.0).view(2, 3).T}}


def test_a_result_is_computed_once_and_found_again_exactly(store):
    first = store.stage("base", INPUTS, compute)
    again = store.stage("base", INPUTS, lambda: pytest.fail("computed twice"))
    assert again.values == first.values == {"value": 1.0}
    assert torch.equal(again.tensors("weights")["w"], torch.arange(6.0).view(2, 3).T)
    assert store.computed == {"base": 1}


def test_a_key_depends_on_every_input_and_on_nothing_else():
    assert key_of("base", {"a": 1, "b": 2}) == key_of("base", {"b": 2, "a": 1})
    keys = [key_of("base", {"a": 1}), key_of("base", {"a": 2}), key_of("base", {"a": 1.5}), key_of("other", {"a": 1})]
    assert len(set(keys)) == 4
    assert seed_of("x", INPUTS) != seed_of("y", INPUTS)
    assert 0 <= seed_of("x", INPUTS) < 2**62


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", ["result.json", "weights.safetensors"])
def test_a_damaged_result_is_set_aside_told_and_computed_again(store, told, fault, name):
    stage = store.stage("base", INPUTS, compute)
    FAULTS[fault](stage.folder / name)
    again = store.stage("base", INPUTS, lambda: compute(2.0))
    assert again.values == {"value": 2.0}
    assert "damaged" in told[0]
    assert len(list((store.root / "damaged").iterdir())) == len(told) == 1


OTHER = {"model": {"hidden": [5, 5]}, "seed": 1}
IN_THE_WAY = {
    "an empty folder": lambda folder: folder.mkdir(),
    "a folder of another file": lambda folder: (folder.mkdir(), (folder / "notes.txt").touch()),
    "a file": lambda folder: folder.touch(),
    "a link to nothing": lambda folder: folder.symlink_to("nowhere"),
    "a link to itself": lambda folder: folder.symlink_to(folder),
    "the result of other inputs": lambda folder: shutil.copytree(folder.parent / key_of("base", OTHER), folder),
    "a link to the result of other inputs": lambda folder: folder.symlink_to(folder.parent / key_of("base", OTHER)),
    "the result of another stage": lambda folder: shutil.copytree(
        folder.parents[1] / "other" / key_of("other", INPUTS), folder
    ),
    "a record": lambda folder: (folder.mkdir(), write_json(folder / "result.json", {"run_id": "a", "status": "done"})),
}


@pytest.mark.parametrize("what", IN_THE_WAY)
def test_what_lies_in_a_results_place_and_is_not_it_is_set_aside(store, told, what):
    store.stage("base", OTHER, compute)
    store.stage("other", INPUTS, compute)
    IN_THE_WAY[what](store.root / "stages" / "base" / key_of("base", INPUTS))
    assert store.stage("base", INPUTS, lambda: compute(2.0)).values == {"value": 2.0}
    assert store.stage("base", OTHER, lambda: pytest.fail("gone")).values == {"value": 1.0}
    assert len(told) == 1
    assert "set aside" in told[0]


def test_a_result_of_another_version_under_the_same_name_is_set_aside(store, told, monkeypatch):
    monkeypatch.setattr(module, "VERSION", VERSION - 1)
    older = store.stage("base", INPUTS, compute).folder
    monkeypatch.undo()
    older.rename(older.with_name(key_of("base", INPUTS)))
    assert store.stage("base", INPUTS, lambda: compute(2.0)).values == {"value": 2.0}
    assert "another version" in told[0]


def test_files_that_do_not_belong_to_a_result_do_no_harm(store, told):
    folder = store.stage("base", INPUTS, compute).folder
    (folder / ".nfs0001").touch()
    (folder / "weights.safetensors.tmp").write_bytes(b"x")
    (store.root / "stages" / "base" / "half").mkdir()
    (store.root / "stages" / "notes.txt").touch()
    (store.root / "tmp" / "half").mkdir()
    assert store.stage("base", INPUTS, lambda: pytest.fail("computed again")).values == {"value": 1.0}
    assert not told


def test_inputs_that_are_no_json_data_are_not_stored_where_they_are_not_found(store):
    with pytest.raises(TypeError, match="not JSON data"):
        store.stage("base", {"sizes": {9: 1, 10: 2}}, compute)


# -- records ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", FAULTS)
def test_a_damaged_record_is_none_and_set_aside(store, told, fault):
    path = store.root / "records" / "a.json"
    store.write_record({"run_id": "a", "status": "done"})
    FAULTS[fault](path)
    assert look(path).state == "damaged"
    assert look(path).record is None
    assert store.read_record("a") is None
    assert len(told) == (0 if fault == "missing" else 1)
    assert store.write_record({"run_id": "a", "status": "done"}) == store.read_record("a")


def of_version(version):
    return lambda path: (path.unlink(), write_json(path, {"run_id": "a", "status": "done", **version}))


@pytest.mark.parametrize(
    ("change", "state"),
    [
        (lambda path: shutil.copy(path.with_name("b.json"), path), "foreign"),
        (of_version({}), "older"),
        (of_version({"store_version": VERSION - 1}), "older"),
        (of_version({"store_version": VERSION}), "ok"),
    ],
    ids=["of another run", "of no version", "of the version before", "of this version"],
)
def test_a_record_is_believed_if_it_is_this_runs_and_of_this_version(store, told, change, state):
    for run_id in ("a", "b"):
        store.write_record({"run_id": run_id, "status": "done"})
    change(store.root / "records" / "a.json")
    assert look(store.root / "records" / "a.json").state == state
    assert (store.read_record("a") is None) == (state != "ok")
    assert len(told) == (state != "ok")
    assert store.read_record("b") is not None


def test_what_a_newer_mmbench_wrote_is_neither_read_nor_moved(store, told):
    store.write_record({"run_id": "a", "status": "done"})
    record = store.root / "records" / "a.json"
    of_version({"store_version": VERSION + 1})(record)
    stage = store.stage("base", {"x": 1}, lambda: ({"y": 2}, {}))
    content = read(stage.folder / "result.json")
    (stage.folder / "result.json").unlink()
    write_json(stage.folder / "result.json", {**content, "version": VERSION + 1})
    assert look(record).state == "newer"
    for act in (
        lambda: store.read_record("a"),
        lambda: store.write_record({"run_id": "a", "status": "failed"}),
        lambda: store.forget_record("a"),
        lambda: store.load("base", stage.folder.name),
        lambda: store.stage("base", {"x": 1}, lambda: ({}, {})),
    ):
        with pytest.raises(StoreError, match=r"written by a newer mmbench .*: update mmbench to use it"):
            act()
    assert record.exists() and stage.folder.exists() and not (store.root / "damaged").exists()
    assert told == []


def test_a_run_that_is_done_stays_done(store):
    done = store.write_record({"run_id": "a", "status": "done"})
    assert store.write_record({"run_id": "a", "status": "failed"}) == done
    store.forget_record("a")
    assert store.read_record("a") == done


def test_a_failed_record_is_forgotten_or_replaced(store):
    store.write_record({"run_id": "a", "status": "failed"})
    store.write_record({"run_id": "a", "status": "skipped"})
    assert store.read_record("a")["status"] == "skipped"
    store.forget_record("a")
    assert not store.record_ids()
    store.forget_record("a")


def test_a_sweep_that_is_no_sweep_is_told_and_left_out(store, told):
    store.write_sweep({"runs": {"a": "label"}})
    store.write_record({"run_id": "a", "status": "done"})
    shutil.copy(store.root / "records" / "a.json", store.root / "sweeps" / "0.json")
    shutil.copy(next((store.root / "sweeps").glob("[!0]*.json")), store.root / "sweeps" / "1.json")
    store.write_sweep({"runs": [1]})
    assert [sweep["runs"] for sweep in store.sweeps()] == [{"a": "label"}]
    assert len(told) == 3


# -- failures ---------------------------------------------------------------------------------------------------------


def test_a_failed_computation_leaves_nothing_behind(store):
    def fail():
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        store.stage("base", INPUTS, fail)
    assert store.stage("base", INPUTS, compute).values == {"value": 1.0}
    assert not list((store.root / "tmp").iterdir())


def test_tensors_that_share_memory_are_stored_apart(store):
    vector = torch.arange(4.0)
    stage = store.stage("base", INPUTS, lambda: ({}, {"weights": {"a": vector[:2], "b": vector[1:]}}))
    assert torch.equal(stage.tensors("weights")["b"], vector[1:])


def slow_compute(root, results):
    store = Store(root)

    def work():
        time.sleep(0.5)
        return {"pid": os.getpid()}, {}

    results.put((store.stage("base", INPUTS, work).values["pid"], sum(store.computed.values())))


def test_of_two_processes_that_need_the_same_result_one_computes_it(store):
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    workers = [context.Process(target=slow_compute, args=(store.root, results)) for _ in range(3)]
    for worker in workers:
        worker.start()
    answers = [results.get(timeout=600) for _ in workers]
    for worker in workers:
        worker.join()
    assert len({pid for pid, _ in answers}) == 1
    assert sum(count for _, count in answers) == 1


def test_a_folder_that_cannot_be_written_to_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"results = .*file.* cannot be written to"):
        Store(tmp_path / "file").prepare()


def test_who_does_not_wait_is_told_that_another_process_is_at_it(store):
    context = multiprocessing.get_context("fork")
    started, go_on = context.Event(), context.Event()

    def slow():
        started.set()
        go_on.wait(600)
        return compute()

    worker = context.Process(target=store.stage, args=("base", INPUTS, slow))
    worker.start()
    assert started.wait(600)
    with pytest.raises(BusyError):
        store.stage("base", INPUTS, compute, wait=False)
    assert store.stage("base", OTHER, compute, wait=False).values == {"value": 1.0}
    go_on.set()
    worker.join()
    assert store.stage("base", INPUTS, lambda: pytest.fail("computed twice"), wait=False).values == {"value": 1.0}


def test_without_locks_the_first_result_is_kept_and_both_get_it(store, monkeypatch, told):
    def refuse(file, operation):
        raise OSError(errno.ENOLCK, "no locks here")

    monkeypatch.setattr(fcntl, "flock", refuse)
    context = multiprocessing.get_context("fork")
    results, together = context.Queue(), context.Barrier(3)

    def work():
        mine = Store(store.root)

        def result():
            together.wait(600)  # all of them compute
            return compute(os.getpid())

        results.put((mine.stage("base", INPUTS, result).values["value"], mine.computed["base"]))

    workers = [context.Process(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    answers = [results.get(timeout=600) for _ in workers]
    for worker in workers:
        worker.join()
    assert [computed for _, computed in answers] == [1, 1, 1], "nobody was kept from computing"
    assert len({value for value, _ in answers}) == 1
    assert store.load("base", key_of("base", INPUTS)).values["value"] == answers[0][0]
    assert not list((store.root / "tmp").iterdir())
    for seed in (1, 2):
        store.stage("base", {"seed": seed}, compute)
    assert len(told) == 1, "told once"
    assert "no file locks" in told[0]


def test_lock_files_do_not_pile_up(store):
    for seed in range(5):
        store.stage("base", {"seed": seed}, compute)
    assert not list((store.root / "locks").iterdir())


# -- who may read it --------------------------------------------------------------------------------------------------


def test_a_group_can_read_and_go_on_with_what_the_umask_lets_it(tmp_path):
    before = os.umask(0o002)
    try:
        store = Store(tmp_path / "shared")
        store.prepare()
        store.stage("base", INPUTS, compute)
        store.write_record({"run_id": "a", "status": "done"})
        store.write_heartbeat("a", "base")
    finally:
        os.umask(before)
    for path in [store.root, *store.root.rglob("*")]:
        wanted = 0o775 if path.is_dir() else 0o664
        assert stat.S_IMODE(path.stat().st_mode) == wanted, path


@contextlib.contextmanager
def without_privileges():
    """Root may read everything; nobody may not."""
    if os.geteuid() == 0:
        os.seteuid(65534)
        try:
            yield
        finally:
            os.seteuid(0)
    else:
        yield


@pytest.fixture
def open_store(told):
    """A store that every user may use."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        before = os.umask(0)
        store = Store(Path(folder) / "results", told.append)
        store.prepare()
        yield store
        os.umask(before)


@pytest.mark.parametrize("name", ["", "result.json", "weights.safetensors"])
def test_a_result_that_may_not_be_read_is_told_and_left_alone(open_store, name):
    path = open_store.stage("base", INPUTS, compute).folder / name
    path.chmod(0)
    with without_privileges(), pytest.raises(StoreError, match="cannot be read: Permission denied"):
        open_store.stage("base", INPUTS, compute)
    path.chmod(0o755)
    assert open_store.stage("base", INPUTS, lambda: pytest.fail("gone")).values == {"value": 1.0}


def test_a_record_that_may_not_be_read_is_told_and_left_alone(open_store):
    open_store.write_record({"run_id": "a", "status": "done"})
    path = open_store.root / "records" / "a.json"
    path.chmod(0)
    with without_privileges():
        assert look(path).state == "damaged"
        assert "Permission denied" in look(path).reason
        with pytest.raises(StoreError, match="cannot be read: Permission denied"):
            open_store.read_record("a")
    path.chmod(0o644)
    assert read(path)["run_id"] == "a"


@pytest.mark.parametrize("name", ["tmp", "records", "stages"])
def test_a_folder_that_may_not_be_written_to_is_told(open_store, name):
    (open_store.root / name).chmod(0o555)
    with without_privileges(), pytest.raises(StoreError, match=r"could not write to results = .*Permission denied"):
        open_store.stage("base", INPUTS, compute)
        open_store.write_record({"run_id": "a", "status": "done"})
