"""Nothing in a store can execute code when it is read, whatever its files hold."""

from __future__ import annotations

import hashlib
import pickle
import shutil
from pathlib import Path

import pytest

from mmbench.cli.status import print_status
from mmbench.execute import execute
from mmbench.records.frame import load_records
from mmbench.store.files import read, write_json
from mmbench.store.store import Store, key_of

from .tiny import opened, tiny


class Bomb:
    """Makes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_pickles_named_as_a_stores_files_are_not_loaded(tmp_path):
    exploded, run = tmp_path / "exploded", tiny()
    bomb = pickle.dumps(Bomb(exploded))
    store = opened(tmp_path / "results")
    record = execute(run, store)
    store.write_sweep({"runs": {run.run_id: run.label}})
    store.write_heartbeat(run.run_id, "base")
    files = [path for path in store.root.rglob("*") if path.is_file()]
    assert {path.parent.name for path in files} >= {"records", "sweeps", "running"}
    assert {path.suffix for path in files} == {".json", ".safetensors"}
    for path in files:
        path.write_bytes(bomb)
    told = []
    store = Store(store.root, told.append)
    assert load_records(store.root).empty
    print_status(store.root)
    assert not store.sweeps()
    assert not store.running()
    assert execute(run, store)["score"] == record["score"]
    assert len(told) == 1 + 1 + 4, "the sweep, the record and four stages"
    assert not exploded.exists()
    pickle.loads(bomb)  # noqa: S301
    assert exploded.exists(), "the bomb is a bomb"


def test_a_pickle_with_the_checksum_of_weights_is_refused(tmp_path):
    exploded, run = tmp_path / "exploded", tiny()
    store = opened(tmp_path / "results")
    execute(run, store)
    folder = store.root / "stages" / "base" / key_of("base", run.base_inputs)
    bomb = pickle.dumps(Bomb(exploded))
    (folder / "weights.safetensors").write_bytes(bomb)
    content = read(folder / "result.json")
    content["files"]["weights.safetensors"] = hashlib.sha256(bomb).hexdigest()
    (folder / "result.json").unlink()
    write_json(folder / "result.json", content)
    stage = store.load("base", folder.name)
    with pytest.raises(Exception, match=r"(?i)header|safetensor"):
        stage.tensors("weights")
    shutil.rmtree(store.root / "stages" / "expanded")
    store.forget_record(run.run_id)
    (store.root / "records" / f"{run.run_id}.json").unlink()
    assert execute(run, store)["status"] == "failed"
    assert not exploded.exists()
