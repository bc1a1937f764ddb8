from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import time

import pytest

from mmbench.store import running
from mmbench.store.files import read, unfinished, write_json
from mmbench.store.processes import is_left_behind, machine, owner, started
from mmbench.store.store import Store


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path)
    store.prepare()
    return store


def rewrite(store, run_id, age=0.0, **changes):
    """Change a heartbeat, and when it was last touched."""
    (path,) = (store.root / "running").glob(f"{run_id}-*.json")
    content = {**read(path), **changes}
    path.unlink()
    write_json(path, content)
    os.utime(path, (time.time() - age,) * 2)


def test_heartbeats_tell_what_runs_now_and_what_was_interrupted(store):
    store.write_heartbeat("a", "base")
    store.write_heartbeat("b", "score")
    assert store.running() == {"a": "base", "b": "score"}
    assert store.remove_heartbeat("a")
    assert not store.remove_heartbeat("a")
    dead = multiprocessing.get_context("fork").Process(target=store.write_heartbeat, args=("c", "base"))
    dead.start()
    dead.join()
    assert store.running() == {"b": "score"}
    (beat,) = store.interrupted()
    assert (beat.run_id, beat.stage, beat.host, beat.pid) == ("c", "base", os.uname().nodename, dead.pid)


def in_another_process(task, *arguments):
    """A process that has done a task, and lives until it is killed."""
    done = multiprocessing.get_context("fork").Event()

    def act():
        task(*arguments)
        done.set()
        time.sleep(600)

    process = multiprocessing.get_context("fork").Process(target=act)
    process.start()
    assert done.wait(600)
    return process


def test_a_process_that_is_done_with_a_run_leaves_the_marks_of_others_that_are_at_it(store):
    other = in_another_process(store.write_heartbeat, "a", "base")
    try:
        store.write_heartbeat("a", "score")
        assert {beat.pid for beat in store.active()} == {os.getpid(), other.pid}
        assert store.remove_heartbeat("a")
        assert store.running() == {"a": "base"}
        assert not store.remove_heartbeat("a"), "it is the other's"
        assert store.running() == {"a": "base"}
    finally:
        other.kill()
        other.join()
    assert [beat.run_id for beat in store.interrupted()] == ["a"]
    assert store.remove_heartbeat("a"), "the other is dead"
    assert store.interrupted() == []


def test_a_process_that_got_the_number_of_a_dead_one_is_not_taken_for_it(store):
    store.write_heartbeat("a", "base")
    rewrite(store, "a", started=started(os.getpid()) - 1)
    assert not store.running()
    assert [beat.run_id for beat in store.interrupted()] == ["a"]


def test_a_process_that_the_system_hides_shows_that_it_lives_as_those_elsewhere_do(store, monkeypatch):
    def hidden(pid, signal):
        raise PermissionError

    monkeypatch.setattr(os, "kill", hidden)
    for run_id, age in (("a", 10), ("b", 100)):
        store.write_heartbeat(run_id, "base")
        rewrite(store, run_id, age, pid=2**22 + 1)
    assert store.running().keys() == {"a"}
    assert not is_left_behind(f"{machine()}-{2**22 + 1}-7-x")
    monkeypatch.undo()
    assert not store.running()
    assert is_left_behind(f"{machine()}-{2**22 + 1}-7-x")


def test_a_killed_process_is_dead_before_its_parent_has_buried_it():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert started(process.pid) is not None
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert started(process.pid) is None
    process.wait()
    assert started(process.pid) is None


@pytest.mark.parametrize(
    ("age", "alive"),
    [(0, True), (50, True), (100, False), (-1e8, False), (1e8, False)],
    ids=["touched now", "a beat missed", "beats no more", "from before the clock was set back", "years ago"],
)
@pytest.mark.parametrize(
    "pid", [os.getpid(), 2**22 + 1], ids=["with a number that is in use here", "with one that is not"]
)
def test_on_another_machine_signs_of_life_count_and_not_process_numbers(store, age, alive, pid):
    store.write_heartbeat("a", "base")
    rewrite(store, "a", age, machine="elsewhere", host="node7", pid=pid)
    assert ("a" in store.running()) == alive
    assert [beat.host for beat in store.interrupted()] == ([] if alive else ["node7"])


def test_only_the_clock_of_the_file_system_counts(store, monkeypatch):
    store.write_heartbeat("a", "base")
    rewrite(store, "a", 10, machine="elsewhere")
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert "a" in store.running()


def test_where_nothing_can_be_written_the_newest_sign_of_life_is_the_time(store):
    for run_id, age in (("a", 1000), ("b", 1010), ("c", 2000)):
        store.write_heartbeat(run_id, "base")
        rewrite(store, run_id, age, machine="elsewhere")
    (store.root / "tmp").rmdir()
    assert store.running().keys() == {"a", "b"}


def test_a_process_at_work_gives_signs_of_life_until_it_is_done(store, monkeypatch):
    monkeypatch.setattr(running, "BEAT", 0.02)
    store.write_heartbeat("a", "base")
    (path,) = (store.root / "running").iterdir()
    for _ in range(2):  # the heart stops with the last heartbeat, and starts again
        store.write_heartbeat("a", "base")
        os.utime(path, (0, 0))
        deadline = time.monotonic() + 120
        while path.stat().st_mtime == 0:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        store.remove_heartbeat("a")
        while store._heartbeats._heart is not None:
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.mark.parametrize(
    "content", [{}, {"pid": 1}, {"stage": "base", "pid": 1}], ids=["empty", "of an older version", "half"]
)
def test_a_file_that_is_not_a_heartbeat_is_left_out(store, content):
    write_json(store.root / "running" / "a.json", content)
    (store.root / "running" / "b.json").write_text("{")
    assert not store.running()
    assert not store.interrupted()


def test_what_killed_processes_left_in_tmp_is_swept_up_and_nothing_else(store):
    def leave():
        with unfinished(store.root / "tmp") as folder:
            folder.mkdir()
            os._exit(1)

    process = multiprocessing.get_context("fork").Process(target=leave)
    process.start()
    process.join()
    assert len(list((store.root / "tmp").iterdir())) == 1
    kept = {store.root / "tmp" / name for name in (f".{owner()}-x", ".elsewhere-1-1-x", "something")}
    for path in kept:
        path.touch()
    store.prepare()
    assert set((store.root / "tmp").iterdir()) == kept
