"""The systematic twin of `kill -9`: in turn, every single call to the system that a run makes for its store fails."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from mmbench.errors import StoreError
from mmbench.execute import execute
from mmbench.store.store import Store

from .tiny import contents, finished, tiny, untimed

RUN = tiny()
CODES = [errno.ENOSPC, errno.EIO, errno.EACCES, errno.EDQUOT, errno.EROFS]


class Faults:
    """Counts the calls that concern a folder; fails the one numbered `at`, or all that write from then on."""

    def __init__(self, monkeypatch, root, at, code, lasting):
        self.root, self.at, self.code, self.lasting, self.count = str(root), at, code, lasting, 0
        for name in ("mkdir", "rename", "replace"):
            self.patch(monkeypatch, Path, name, writes=True)
        for name in ("unlink", "read_bytes"):
            self.patch(monkeypatch, Path, name, writes=False)
        make, make_low, sync = Path.open, os.open, os.fsync

        def open_low(path, flags, *arguments, **options):
            if flags & os.O_CREAT:
                self.call(path, True)
            return make_low(path, flags, *arguments, **options)

        def open_file(path, mode="r", *arguments, **options):
            if "x" not in mode:
                return make(path, mode, *arguments, **options)
            self.call(path, True)
            return HalfWritten(make(path, mode, buffering=0), self)

        def fsync(number):
            self.call(Path(f"/proc/self/fd/{number}").readlink(), True)
            sync(number)

        monkeypatch.setattr(Path, "open", open_file)
        monkeypatch.setattr(os, "open", open_low)
        monkeypatch.setattr(os, "fsync", fsync)

    def patch(self, monkeypatch, owner, name, writes):
        original = getattr(owner, name)

        def call(path, *arguments, **options):
            self.call(path, writes)
            return original(path, *arguments, **options)

        monkeypatch.setattr(owner, name, call)

    def call(self, path, writes):
        if str(path).startswith(self.root):
            self.count += 1
            if self.count == self.at or (self.lasting and writes and self.count > self.at):
                raise OSError(self.code, os.strerror(self.code))


class HalfWritten:
    """A file of which the first half is written before the disk is full."""

    def __init__(self, file, faults):
        self.file, self.faults = file, faults

    def write(self, data):
        self.file.write(data[: len(data) // 2])
        self.faults.call(self.file.name, True)
        self.file.write(data[len(data) // 2 :])

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    root = tmp_path_factory.mktemp("reference")
    store = Store(root)
    store.prepare()
    execute(RUN, store)
    return contents(root)


def attempt(root, reference, at, code, lasting):
    """Let a run meet the fault, look at what is left, and let it go on undisturbed; whether there was such a call."""
    store = Store(root)
    store.prepare()
    with pytest.MonkeyPatch.context() as monkeypatch:
        faults = Faults(monkeypatch, root, at, code, lasting)
        try:
            record = execute(RUN, store)
        except StoreError as error:
            assert os.strerror(code) in str(error)
            assert not store.record_ids() or look_done(store)
        else:
            assert untimed(record) == reference[f"record {RUN.run_id}"], "no failure of the disk is one of the run"
    left = contents(root)
    assert left.items() <= reference.items()
    before, stages = finished(root), sum(not name.startswith("record") for name in left)
    again = Store(root)
    execute(RUN, again)
    assert contents(root) == reference
    assert finished(root).items() >= before.items(), "nothing that was finished is lost"
    assert sum(again.computed.values()) == 4 - stages, "and nothing of it is computed again"
    assert not list((root / "tmp").iterdir())
    return faults.count >= at


def look_done(store):
    return store.read_record(RUN.run_id)["status"] == "done"


@pytest.mark.parametrize("lasting", [False, True], ids=["one call fails", "all that write fail from then on"])
def test_whatever_call_fails_nothing_finished_is_lost_and_nothing_wrong_is_read(tmp_path, reference, lasting):
    step = int(os.environ.get("MMBENCH_FAULT_STEP", "2"))  # 1: every call with every code
    at = 0
    while True:
        at += 1
        codes = CODES if step == 1 else [CODES[at % len(CODES)]]
        if step > 1 and lasting and at % step:
            continue
        for code in codes:
            there = attempt(tmp_path / f"{at}-{code}", reference, at, code, lasting)
        if not there:
            break
    assert at > 60
