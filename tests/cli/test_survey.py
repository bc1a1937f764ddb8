"""What the store says of itself: superseded runs, damage, one run, all sweeps; as text and as JSON."""

from __future__ import annotations

import json
import os
import shlex

import pytest

from mmbench.cli.clean import clean, find
from mmbench.cli.show import describe, repeating
from mmbench.cli.status import census
from mmbench.config import GROUPS, parse
from mmbench.data.digits import Digits
from mmbench.execute import execute
from mmbench.launcher.plan import plan
from mmbench.metrics.random import Random
from mmbench.paths import choices
from mmbench.records.frame import load_records
from mmbench.run import Run
from mmbench.store.store import Store
from mmbench.store.survey import check_all, stages_of, superseded
from mmbench.sweep import as_json
from tests.launcher.small import FIRST, SECOND, small, swept


@pytest.fixture
def changed(monkeypatch):
    """The data change: the fingerprint does, and hence the ids of all runs."""

    def change(text):
        original = Digits.fingerprint
        monkeypatch.setattr(Digits, "fingerprint", lambda self: {**original(self), "files": text})

    return change


def runs():
    return [small(0), small(1), small(0, metric=Random())]


def fail(store, run, error="broken image"):
    store.write_record({**run.identity(), "status": "failed", "error": error, "error_type": "DataError"})


@pytest.fixture
def mended(tmp_path, monkeypatch, changed):
    """A sweep of which one run is done and two fail, since an image is broken; then the same with the image mended."""
    monkeypatch.chdir(tmp_path)
    store = Store(tmp_path / "results")
    store.prepare()
    first = runs()
    store.write_sweep(as_json(first))
    execute(first[0], store)
    for run in first[1:]:
        fail(store, run)
    changed("mended")
    second = runs()
    swept(store.root, second)
    assert not {run.run_id for run in first} & {run.run_id for run in second}
    return store, first, second


def test_failures_of_data_that_were_mended_go_away(mended):
    store, first, second = mended
    found = census(store)
    assert {run.run_id: found.states[run.run_id][0] for run in [*first, *second]} == {
        **dict.fromkeys([run.run_id for run in [first[0], *second]], "done"),
        **dict.fromkeys([run.run_id for run in first[1:]], "superseded"),
    }
    frame = load_records(store.root)
    assert set(frame["status"]) == {"done"} and len(frame) == 4
    assert frame.attrs["superseded"] == 2
    assert frame.attrs["unfinished"] == {"missing": 0, "running": 0}


def test_a_failure_of_the_data_as_they_are_now_stays(mended):
    store, _, second = mended
    store.root.joinpath("records", f"{second[1].run_id}.json").unlink()
    fail(store, second[1], "another")
    assert census(store).states[second[1].run_id] == ("failed", "another")
    assert load_records(store.root)["error"].dropna().tolist() == ["another"]


def test_the_sweep_that_was_started_last_counts(mended, monkeypatch):
    """Data that were changed and changed back."""
    store, first, second = mended
    monkeypatch.undo()
    os.chdir(store.root.parent)
    store.write_sweep(as_json(runs()))
    states = census(store).states
    assert [states[run.run_id][0] for run in first] == ["done", "failed", "failed"]
    assert [states[run.run_id][0] for run in second] == ["done"] * 3, "what is done stays done"


def test_sweeps_of_different_folders_do_not_supersede_each_other():
    one = {"configs": {"a": {"x": 1}}, "folder": "/here"}
    other = {"configs": {"b": {"x": 1}}, "folder": "/there"}
    assert superseded([one, other]) == set()
    assert superseded([one, {**other, "folder": "/here"}]) == {"a"}


def test_clean_removes_superseded_failures_and_keeps_what_is_done(mended):
    store, first, second = mended
    assert {waste.what for waste in find(store)} == {"records"}
    clean(store.root, None, True)
    assert store.record_ids() == {run.run_id for run in [first[0], *second]}
    assert all(store.has_key(kind, key) for kind, key in stages_of(store, store.read_record(first[0].run_id)))
    again = Store(store.root)
    for run in second:
        again._record(run.run_id).unlink()
        execute(run, again)
    assert not again.computed


def test_clean_removes_a_sweep_of_which_nothing_is_left(tmp_path, monkeypatch, changed):
    monkeypatch.chdir(tmp_path)
    store = Store(tmp_path / "results")
    store.prepare()
    store.write_sweep(as_json(runs()))
    for run in runs():
        fail(store, run)
    changed("mended")
    swept(store.root, runs())
    clean(store.root, None, True)
    assert len(store.sweeps()) == 1
    assert store.record_ids() == {run.run_id for run in runs()}


def test_clean_removes_single_moments_that_no_sweep_asks_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    asked = {moment: small(0, metric=Random(after=moment)) for moment in (2, 4)}
    store, names = swept(tmp_path / "results", [asked[2]], [asked[4]])
    (folder,) = (store.root / "moments").iterdir()
    assert {note.name for note in folder.iterdir()} == {"2", "4"}
    clean(store.root, names[1], True)
    assert {note.name for note in folder.iterdir()} == {"2"}


def test_clean_refuses_beside_a_sweep_of_a_newer_mmbench(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store, _ = swept(tmp_path / "results", FIRST)
    monkeypatch.setattr("mmbench.store.store.VERSION", 99)
    store.write_sweep(as_json(FIRST))
    with pytest.raises(Exception, match=r"written by a newer mmbench .*: update mmbench"):
        clean(store.root, None, True)


# -- damage ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("part", ["stages/*/*/result.json", "stages/*/*/*.safetensors", "records/*", "sweeps/*"])
@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_every_damage_is_found(tmp_path, monkeypatch, mmbench_here, part, damage):
    monkeypatch.chdir(tmp_path)
    store, _ = swept(tmp_path / "results", FIRST)
    assert list(check_all(store)) == []
    path = sorted(store.root.glob(part))[-1]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes({"flip": bytes(data), "cut": bytes(data[:-1]), "empty": b""}[damage])
    (found,) = check_all(store)
    assert found.path in (path, path.parent)
    done = mmbench_here("verify")
    assert done.returncode == 1
    assert str(found.path) in done.stdout and "is damaged" in done.stdout
    assert path.exists(), "looking changes nothing"
    moved = mmbench_here("verify", "move=true")
    assert (moved.returncode, path.exists()) == (1, part == "sweeps/*"), moved.stdout + moved.stderr


def test_an_intact_store_is_told_so_and_what_was_moved_is_computed_again(tmp_path, monkeypatch, mmbench_here):
    monkeypatch.chdir(tmp_path)
    store, _ = swept(tmp_path / "results", FIRST)
    assert "is as it was written" in mmbench_here("verify").stdout
    weights = next((store.root / "stages" / "base").glob("*/weights.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-1])
    mmbench_here("verify", "move=true")
    settings = parse(FIRST[0].config)[1].model_copy(update={"results": str(store.root)})
    assert plan(FIRST, settings).stages["base"].missing == 1
    for run in FIRST:
        store._record(run.run_id).unlink()
        execute(run, store)
    assert list(check_all(store)) == []


@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_plan_does_not_count_damaged_results_as_stored(tmp_path, monkeypatch, damage):
    monkeypatch.chdir(tmp_path)
    store, _ = swept(tmp_path / "results", FIRST)
    settings = parse(FIRST[0].config)[1].model_copy(update={"results": str(store.root)})
    assert plan(FIRST, settings).damaged == 0
    folder = next((store.root / "stages" / "base").iterdir())
    if damage == "cut":
        (folder / "result.json").write_bytes((folder / "result.json").read_bytes()[:-9])
    else:
        (folder / "weights.safetensors").unlink()
    planned = plan(FIRST, settings)
    assert (planned.damaged, planned.stages["base"].missing) == (1, 1)


# -- one run -----------------------------------------------------------------------------------------------------------

ODD = {
    "model": {"name": "vit", "heads": 4},
    "dataset": {"name": "timm", "source": "torch/cifar100", "root": "it's a, b", "classes": 100},
    "expansion": {"name": "net2wider", "axis": "hidden", "to": {"hidden": [200]}},
    "metric": {"name": "branch_distance", "after": "2epochs"},
    "training": {"name": "adamw", "clip_norm": None, "epochs": 2},
}


def composed_by(command):
    """The config that a printed command leads to."""
    from mmbench.cli.compose import composed

    name, verb, *arguments = shlex.split(command)
    assert (name, verb) == ("mmbench", "run")
    return composed(arguments)


def same(one, other):
    """Whether two configs mean the same run: equal components, since some options have several spellings."""
    made = [{group: registry.create(config[group]) for group, registry in GROUPS.items()} for config in (one, other)]
    return made[0] == made[1] and one["seed"] == other["seed"]


@pytest.mark.parametrize(("group", "registry"), GROUPS.items(), ids=GROUPS)
def test_the_command_repeats_every_component(group, registry):
    """With the defaults of the code, which the YAML files may change."""
    config = {**small().config, "training": GROUPS["training"]["sgd"].model_construct().options(), "seed": 7}
    for choice in choices(group):
        name = composed_by(f"mmbench run {group}={choice}")[group]["name"]
        options = registry[name].model_construct().options()
        if options.get("training") is not None and group == "metric":
            options["training"] = config["training"]
        wanted = {**config, group: json.loads(json.dumps({**options, "name": name}))}
        found = composed_by(repeating(wanted, "my results"))
        assert same(found, wanted), name
        assert found["results"] == "my results"


def test_the_command_repeats_odd_options():
    config = {**small().config, **ODD, "seed": 0}
    for group in ODD:
        config[group] = {**composed_by(f"mmbench run {group}={ODD[group]['name']}")[group], **ODD[group]}
    config["metric"]["training"] = config["training"]
    assert same(composed_by(repeating(config, "r")), config)
    assert not same(composed_by(repeating(small().config, "r")), config)


def test_a_run_is_shown_with_its_config_its_stages_and_its_command(tmp_path, monkeypatch, mmbench_here):
    monkeypatch.chdir(tmp_path)
    run = small(0, metric=Random(after=2))
    store, _ = swept(tmp_path / "results", [run])
    shown = describe(store, run.run_id)
    assert shown["config"] == json.loads(json.dumps(run.config)) == store.read_record(run.run_id)["config"]
    assert {(stage["stage"], stage["stored"]) for stage in shown["stages"]} == {(kind, True) for kind, _ in run.stages}
    assert isinstance(parse(composed_by(shown["command"]))[0], Run)
    assert parse(composed_by(shown["command"]))[0].run_id == run.run_id
    text = mmbench_here("show", run.run_id[:12])
    assert text.returncode == 0, text.stderr
    assert shown["command"] in text.stdout
    assert "name: random" in text.stdout
    assert json.loads(mmbench_here("show", run.run_id, "format=json").stdout) == shown
    assert "config" not in load_records(store.root)


def test_a_failed_run_is_shown_with_its_error(tmp_path, monkeypatch, mmbench_here):
    monkeypatch.chdir(tmp_path)
    store = Store(tmp_path / "results")
    store.prepare()
    store.write_sweep(as_json(FIRST))
    fail(store, FIRST[0], "no [space] left")
    assert "no [space] left" in mmbench_here("show", FIRST[0].run_id).stdout
    assert "status           missing" in mmbench_here("show", FIRST[1].run_id).stdout
    wrong = mmbench_here("show", "zzz")
    assert (wrong.returncode, "has an id that begins with 'zzz'" in wrong.stderr) == (2, True)
    assert "name one run" in mmbench_here("show").stderr


# -- all sweeps --------------------------------------------------------------------------------------------------------


def test_sweeps_are_listed_with_their_state(tmp_path, monkeypatch, mmbench_here):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "mine.yaml").write_text("# Does it work?\nseed: 1\n")
    store, names = swept(tmp_path / "results", FIRST)
    names.append(store.write_sweep(as_json([*SECOND, small(9)])))
    listed = json.loads(mmbench_here("list", "format=json").stdout)
    assert "quickstart" in {sweep["name"] for sweep in listed["shipped"]}
    assert listed["own"] == [{"name": "mine", "about": "Does it work?"}]
    assert [sweep["name"] for sweep in listed["started"]] == names
    assert [sweep["states"] for sweep in listed["started"]] == [{"done": 3, "skipped": 1}, {"done": 1, "missing": 3}]
    said = mmbench_here("list").stdout
    assert "mine: Does it work?" in said and names[0] in said
    assert "none" in mmbench_here("list", "results=nowhere").stdout


def test_the_status_as_json(mended, mmbench_here):
    _, first, _ = mended
    done = mmbench_here("status", "format=json")
    found = json.loads(done.stdout)
    assert found["states"] == {
        "done": 4, "failed": 0, "skipped": 0, "running": 0, "interrupted": 0, "missing": 0, "superseded": 2
    }  # fmt: skip
    assert found["runs"][first[1].run_id]["state"] == "superseded"
    assert found["results"] == "results"
    assert "format = 'xml' is not allowed: must be text or json" in mmbench_here("status", "format=xml").stderr
