from __future__ import annotations

import multiprocessing

from mmbench.status import print_status
from mmbench.store import Store


def test_status_tells_what_runs_what_was_interrupted_and_what_is_no_record(tmp_path, capsys):
    store = Store(tmp_path)
    store.prepare()
    store.write_sweep({"runs": {name: f"run {name}" for name in "abcde"}})
    store.mark("a", "base")
    for name in ("b", "c"):
        dead = multiprocessing.get_context("fork").Process(target=store.mark, args=(name, "score"))
        dead.start()
        dead.join()
    for name in ("c", "d"):
        store.write_record({"run_id": name, "status": "done"})
    store._record("d").rename(store._record("e"))
    print_status(tmp_path)
    said, warned = capsys.readouterr()
    assert "running: run a (base)" in said
    assert "interrupted: run b at stage score on " in said
    assert "run c" not in said, "it has its record from elsewhere"
    assert "done     1" in said
    assert "missing  3" in said
    assert "is the record of another run" in warned.replace("\n", " ")
