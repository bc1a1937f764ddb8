from __future__ import annotations

import random

import pytest

from mmbench.cli import clean as clean_module
from mmbench.cli.clean import clean, find
from mmbench.errors import ConfigError, StoreError
from mmbench.execute import execute
from mmbench.launcher.outcome import Outcome, still_to_run
from mmbench.store.files import read_json
from mmbench.store.processes import owner
from mmbench.store.store import Store
from mmbench.sweep import as_json
from tests.launcher.small import DIVERGES, FIRST, SECOND, copied, small, swept


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("folder"))
        return swept(tmp_path_factory.mktemp("clean") / "store", FIRST, SECOND)


@pytest.fixture
def store(original, tmp_path, monkeypatch):
    """A store of two sweeps, of which nothing is waste."""
    monkeypatch.chdir(tmp_path)
    return copied(original[0], tmp_path / "store")


@pytest.fixture
def names(original):
    return original[1]


def files(store):
    return {str(path.relative_to(store.root)) for path in store.root.rglob("*") if path.is_file()}


def computes_nothing(store, runs):
    """Whether the same sweep finds all its records and stages."""
    store, outcome = Store(store.root), Outcome()
    assert still_to_run(runs, store, outcome) == []
    for run in runs:
        (store.root / "records" / f"{run.run_id}.json").unlink()
        execute(run, store)
    return not store.computed


def test_where_sweeps_refer_to_everything_nothing_goes(store, capsys):
    before = files(store)
    clean(store.root, None, True)
    assert "Nothing to remove" in capsys.readouterr().out
    assert files(store) == before


def test_what_only_a_forgotten_sweep_refers_to_goes(store, names, capsys):
    clean(store.root, names[0], True)
    said = capsys.readouterr().out
    assert "no sweep refers to" in said and names[0] in said
    assert store.record_ids() == {run.run_id for run in SECOND}
    assert computes_nothing(store, SECOND)
    clean(store.root, names[1], True)
    assert files(store) == set()


def test_the_other_way_round(store, names):
    clean(store.root, names[1], True)
    assert store.record_ids() == {run.run_id for run in FIRST}
    assert computes_nothing(store, FIRST)


def test_results_without_any_sweep_go(store):
    execute(small(9), store)
    clean(store.root, None, True)
    assert store.record_ids() == {run.run_id for run in (*FIRST, *SECOND)}
    assert computes_nothing(store, [*FIRST, *SECOND])


@pytest.mark.parametrize("seed", range(5))
def test_whatever_is_removed_the_sweeps_that_stay_compute_nothing(tmp_path, monkeypatch, seed):
    """Random sweeps over few runs, one of them forgotten, and runs of no sweep."""
    monkeypatch.chdir(tmp_path)
    chance, pool = random.Random(seed), [*FIRST, *SECOND, DIVERGES]
    sweeps = [chance.sample(pool, chance.randint(1, 4)) for _ in range(3)]
    store, made = swept(tmp_path / "store", *sweeps)
    for run in chance.sample(pool, 3):
        execute(run, store)
    lost = chance.choice(made)
    clean(store.root, lost, True)
    kept = [run for name, sweep in zip(made, sweeps, strict=True) if name != lost for run in sweep]
    assert computes_nothing(Store(store.root), kept)
    assert store.record_ids() == {run.run_id for run in kept}


def test_it_is_shown_first_and_nothing_goes_without_a_yes(store, names, capsys):
    before = files(store)
    clean(store.root, names[0], False)
    said = capsys.readouterr().out
    assert "Nothing was removed: add yes=true to remove this." in said
    assert "base models trained" in said
    assert files(store) == before


@pytest.mark.parametrize("answer", [True, False])
def test_in_a_terminal_it_asks(store, names, monkeypatch, answer):
    before = files(store)
    monkeypatch.setattr(type(clean_module.console.out), "is_terminal", True)
    monkeypatch.setattr(clean_module.Confirm, "ask", lambda *args, **options: answer)
    clean(store.root, names[0], False)
    assert (files(store) == before) == (not answer)


def test_while_something_runs_it_refuses(store, names):
    before = files(store)
    store.write_heartbeat(FIRST[0].run_id, "base")
    with pytest.raises(StoreError, match="1 run still active"):
        clean(store.root, names[0], True)
    assert files(store) - before == {f"running/{FIRST[0].run_id}-{owner()}.json"}


def test_what_starts_while_it_asks_stops_it(store, names, monkeypatch):
    before = files(store)

    def slow(*args, **options):
        store.write_heartbeat(FIRST[0].run_id, "base")
        return True

    monkeypatch.setattr(type(clean_module.console.out), "is_terminal", True)
    monkeypatch.setattr(clean_module.Confirm, "ask", slow)
    with pytest.raises(StoreError, match="1 run still active"):
        clean(store.root, names[0], False)
    assert before < files(store)


def test_a_sweep_that_is_not_there_cannot_be_forgotten(store, names):
    with pytest.raises(ConfigError, match=f"forget = 'x' is not a sweep of this store .allowed: .*{names[0]}"):
        clean(store.root, "x", True)
    with pytest.raises(ConfigError, match="is not a sweep"):
        clean(store.root, "../records/x", True)


def test_with_a_damaged_sweep_nothing_goes_until_it_is_forgotten(store, names, capsys):
    path = store.root / "sweeps" / f"{names[0]}.json"
    path.write_text(path.read_text()[:-30])
    before = files(store)
    with pytest.raises(StoreError, match=f"{names[0]} is damaged.*forget={names[0]}"):
        clean(store.root, None, True)
    assert files(store) == before
    clean(store.root, names[0], True)
    assert computes_nothing(store, SECOND)


def test_a_sweep_whose_folder_is_gone_keeps_everything(store, tmp_path):
    sweep = as_json([small(5)])
    name = store.write_sweep({**sweep, "folder": str(tmp_path / "gone")})
    before = files(store)
    with pytest.raises(StoreError, match=f"what the sweep {name} refers to is unknown.*gone(?s:.*)forget={name}"):
        clean(store.root, None, True)
    assert files(store) == before


def test_a_sweep_whose_data_are_gone_keeps_everything(store, tmp_path):
    sweep = as_json([small(5)])
    (run_id,) = sweep["configs"]
    sweep["configs"][run_id]["dataset"] = {"name": "parquet", "path": str(tmp_path / "lost")}
    name = store.write_sweep(sweep)
    before = files(store)
    with pytest.raises(StoreError, match=f"what the sweep {name} refers to is unknown(?s:.*)lost"):
        clean(store.root, None, True)
    assert files(store) == before


def test_what_the_dead_and_damage_left_behind_goes(store):
    import subprocess
    import sys

    code = (
        "from pathlib import Path; from mmbench.store.store import Store\n"
        f"store = Store(Path({str(store.root)!r})); store.write_heartbeat('x', 'base')\n"
        "import os; from mmbench.store.files import unfinished\n"
        "with unfinished(store.root / 'tmp') as folder: folder.mkdir(); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    ours = store.root / "tmp" / f".{owner()}-x"  # of this process, which is alive
    ours.mkdir()
    (store.root / "damaged").mkdir()
    (store.root / "damaged" / "old").write_text("x")
    assert {thing.what for thing in find(store)} == {
        "heartbeats of dead processes",
        "damaged files",
        "unfinished files of dead processes",
    }
    clean(store.root, None, True)
    assert [*(store.root / "running").iterdir(), *(store.root / "tmp").iterdir()] == [ours]
    assert not list((store.root / "damaged").iterdir())
    assert computes_nothing(store, [*FIRST, *SECOND])


def test_a_link_goes_and_what_it_leads_to_stays(store, tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("x")
    (store.root / "stages" / "base" / "link").symlink_to(tmp_path / "precious")
    clean(store.root, None, True)
    assert not (store.root / "stages" / "base" / "link").is_symlink()
    assert (tmp_path / "precious" / "file").exists()


def test_sweeps_of_an_older_store_keep_their_records_only(store, names, monkeypatch):
    path = store.root / "sweeps" / f"{names[0]}.json"
    old = read_json(path)
    monkeypatch.setattr("mmbench.store.store.VERSION", 99)
    monkeypatch.setattr(clean_module, "VERSION", 99)
    assert {thing.what for thing in find(store)} >= {"scores"}, "stages of another version cannot be used"
    assert old["store_version"] != 99
    assert "records" not in {thing.what for thing in find(store)}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["yes=perhaps"], "yes = 'perhaps' is not allowed: must be true or false"),
        (["forget=x"], "forget = 'x' is not a sweep"),
        (["results=nowhere"], "is not a folder"),
    ],
)
def test_wrong_values_are_told(mmbench_here, tmp_path, arguments, said):
    Store(tmp_path / "results").prepare()
    done = mmbench_here("clean", *arguments)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
