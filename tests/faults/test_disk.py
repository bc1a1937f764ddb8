"""A disk that is really full and a mount that is really read-only; needs the right to mount."""

from __future__ import annotations

import subprocess

import pytest

from mmbench.cli.status import print_status
from mmbench.errors import StoreError
from mmbench.execute import execute
from mmbench.records.frame import load_records
from mmbench.store.store import Store

from .kill import completed, sweep
from .tiny import contents, finished, several, tiny, untimed


@pytest.fixture
def disk(tmp_path):
    """A disk of half a megabyte."""
    (tmp_path / "disk").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(tmp_path / "disk")]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"cannot mount here: {getattr(error, 'stderr', error)}")
    yield tmp_path / "disk"
    subprocess.run(["umount", "-l", str(tmp_path / "disk")], check=True)


def fill(disk, spare):
    """Fill the disk up to so many bytes."""
    import shutil

    (disk / "ballast").write_bytes(b"x" * (shutil.disk_usage(disk).free - spare))


def test_wherever_the_disk_gets_full_the_same_run_goes_on_when_there_is_space(disk, tmp_path):
    plenty = Store(tmp_path / "plenty")
    plenty.prepare()
    execute(tiny(), plenty)
    reference, stopped = contents(plenty.root), 0
    for pages in range(0, 16, 2):
        store = Store(disk / f"store{pages}")
        store.prepare()
        fill(disk, pages * 4096)
        try:
            record = execute(tiny(), store)
        except StoreError as error:
            assert "No space left on device; free some space, and the same command goes on" in str(error)
            stopped += 1
            assert not store.record_ids()
        else:
            assert untimed(record) == reference[f"record {record['run_id']}"]
        before = finished(store.root)
        (disk / "ballast").unlink()
        assert contents(store.root).items() <= reference.items()
        execute(tiny(), store)
        assert contents(store.root) == reference
        assert finished(store.root).items() >= before.items()
        subprocess.run(["rm", "-r", str(store.root)], check=True)
    assert 1 < stopped < 8, "some ran into it, some did not"


@pytest.mark.slow
def test_a_sweep_on_a_full_disk_stops_with_one_message_and_goes_on_later(disk, tmp_path):
    Store(disk / "results").prepare()
    fill(disk, 30 * 4096)
    process = sweep(tmp_path, str(disk / "results"))
    said = process.communicate(timeout=200)[0]
    assert process.returncode == 2, said
    assert said.count("No space left on device; free some space") == 1, said
    assert "Traceback" not in said
    store = Store(disk / "results")
    assert all(store.read_record(run_id)["status"] == "done" for run_id in store.record_ids())
    before = finished(disk / "results")
    (disk / "ballast").unlink()
    assert "8 runs: 8 done" in completed(tmp_path, str(disk / "results"))
    assert finished(disk / "results").items() >= before.items()
    assert len(contents(disk / "results")) == 8 + 2 + 4 + 8 + 4


def test_a_read_only_store_can_be_read_and_says_what_it_is(disk, capsys):
    runs = several(1)
    store = Store(disk / "results")
    store.prepare()
    records = [execute(run, store) for run in runs]
    store.write_sweep({"runs": {run.run_id: run.label for run in runs}})
    store.write_heartbeat("x", "base")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    with pytest.raises(StoreError, match="cannot be written to: Read-only file system; choose another folder"):
        store.prepare()
    with pytest.raises(StoreError, match="Read-only file system"):
        execute(tiny(seed=9), store)
    assert [execute(run, store) for run in runs] == records, "what is done is found"
    assert len(load_records(disk / "results")) == len(runs)
    print_status(disk / "results")
    assert f"done        {len(runs)}" in capsys.readouterr().out
    assert store.running() == {"x": "base"}
