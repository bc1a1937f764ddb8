from __future__ import annotations

import errno
import fcntl
import multiprocessing
import time

import pytest

from mmbench.store import locks
from mmbench.store.locks import HeldError, lock

FORK = multiprocessing.get_context("fork")


def hold(path, ready, release):
    with lock(path):
        ready.set()
        release.wait(600)


@pytest.fixture
def held(tmp_path):
    """A lock that another process holds, and the event that makes it let go."""
    ready, release = FORK.Event(), FORK.Event()
    process = FORK.Process(target=hold, args=(tmp_path / "x", ready, release))
    process.start()
    assert ready.wait(600)
    yield tmp_path / "x", release
    release.set()
    process.join()


def test_a_held_lock_is_told_to_those_who_do_not_wait(held):
    path, release = held
    with pytest.raises(HeldError), lock(path, wait=False):
        pytest.fail("taken twice")
    release.set()
    with lock(path) as there:
        assert there


def test_lock_files_do_not_pile_up(tmp_path):
    with lock(tmp_path / "x"):
        assert (tmp_path / "x").exists()
    with pytest.raises(KeyError), lock(tmp_path / "x"):
        raise KeyError
    assert not list(tmp_path.iterdir())


def count_up(path, number, times):
    for _ in range(times):
        with lock(path):
            value = int(number.read_text())
            time.sleep(0.0005)
            number.write_text(str(value + 1))


def test_removing_the_file_lets_no_two_in(tmp_path):
    number = tmp_path / "number"
    number.write_text("0")
    counters = [FORK.Process(target=count_up, args=(tmp_path / "x", number, 100)) for _ in range(4)]
    for counter in counters:
        counter.start()
    for counter in counters:
        counter.join()
    assert number.read_text() == "400"


@pytest.mark.parametrize("code", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EIO], ids=errno.errorcode.get)
def test_where_there_are_no_locks_work_goes_on_without(tmp_path, monkeypatch, code):
    def refuse(file, operation):
        raise OSError(code, "no locks here")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with lock(tmp_path / "x") as there, lock(tmp_path / "x", wait=False):
        assert not there


def test_a_system_without_flock_has_no_locks(tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "fcntl", None)
    with lock(tmp_path / "x") as there:
        assert not there


def test_a_file_that_was_removed_on_another_machine_is_taken_anew(tmp_path, monkeypatch):
    calls, flock = [], fcntl.flock

    def stale_once(file, operation):
        calls.append(file)
        if len(calls) == 1:
            raise OSError(errno.ESTALE, "stale file handle")
        flock(file, operation)

    monkeypatch.setattr(fcntl, "flock", stale_once)
    with lock(tmp_path / "x") as there:
        assert there
    assert len(calls) == 2


def test_a_full_disk_is_no_missing_lock(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(locks.os, "open", full)
    with pytest.raises(OSError, match="no space"), lock(tmp_path / "x"):
        pass
