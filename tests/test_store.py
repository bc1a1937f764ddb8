from __future__ import annotations

import json
import multiprocessing
import os
import time

import pytest
import torch

from mmbench.errors import StoreError
from mmbench.store import Store, canonical, digest, key_of, plain, read_json, seed_of

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


def test_numbers_that_json_cannot_hold_become_null():
    assert plain({"a": float("nan"), "b": [float("inf"), 1.0]}) == {"a": None, "b": [None, 1.0]}
    with pytest.raises(ValueError, match="JSON"):
        canonical(float("nan"))


def bit_flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


FAULTS = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
    "bit flipped": bit_flip,
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "foreign": lambda path: path.write_text('{"content": 1, "sha256": "x"}'),
    "not an object": lambda path: path.write_text("[]"),
    "a pickle": lambda path: path.write_bytes(b"\x80\x04\x95\x0b\x00\x00\x00"),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", ["result.json", "weights.safetensors"])
def test_a_damaged_result_is_set_aside_told_and_computed_again(store, told, fault, name):
    stage = store.stage("base", INPUTS, compute)
    FAULTS[fault](stage.folder / name)
    again = store.stage("base", INPUTS, lambda: compute(2.0))
    assert again.values == {"value": 2.0}
    assert "damaged" in told[0]
    assert list((store.root / "damaged").iterdir())


@pytest.mark.parametrize("fault", FAULTS)
def test_a_damaged_record_reads_as_none(store, fault):
    store.write_record({"run_id": "a", "status": "done"})
    FAULTS[fault](store.root / "records" / "a.json")
    assert store.read_record("a") is None


def test_values_with_a_matching_checksum_only_are_believed(store):
    store.write_record({"run_id": "a", "score": 1.0})
    path = store.root / "records" / "a.json"
    envelope = json.loads(path.read_text())
    assert envelope["sha256"] == digest(envelope["content"])
    envelope["content"]["score"] = 2.0
    path.write_text(json.dumps(envelope))
    assert read_json(path) is None


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
    answers = [results.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
    assert len({pid for pid, _ in answers}) == 1
    assert sum(count for _, count in answers) == 1


def test_a_folder_that_cannot_be_written_to_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"results = .*file.* cannot be written to"):
        Store(tmp_path / "file").prepare()


def test_marks_tell_what_runs_now(store):
    store.mark("a", "base")
    store.mark("b", "score")
    assert store.running() == {"a": "base", "b": "score"}
    assert store.clear_mark("a")
    assert not store.clear_mark("a")
    dead = multiprocessing.get_context("fork").Process(target=store.mark, args=("c", "base"))
    dead.start()
    dead.join()
    assert store.running() == {"b": "score"}
