"""The command line: a sweep with a tracker, and what users are told."""

from __future__ import annotations

import pytest

from mmbench.config import Settings, parse
from mmbench.errors import ConfigError
from mmbench.paths import choices
from mmbench.store.store import Store
from mmbench.tracking.options import TRACKERS, NoTracker, Wandb, logging
from tests.launcher.small import small
from tests.tracking.conftest import read

TINY = ["model.hidden=[5]", "dataset.train_size=200", "training.steps=20", "training.warmup_steps=2"]
TINY += ["metric=parameters,random", "hydra.launcher.slots=1"]
OFFLINE = ["tracker=wandb", "tracker.mode=offline"]


def test_the_tracker_is_no_input_of_anything():
    config = {**small().config, "results": "r", "device": "cpu"}
    found = [
        parse({**config, "tracker": TRACKERS.create(options).options()})
        for options in ({"name": "none"}, {"name": "wandb"})
    ]
    (plain, _), (tracked, settings) = found
    assert settings.tracker == Wandb()
    assert plain.run_id == tracked.run_id
    assert plain.stages == tracked.stages
    assert "wandb" not in str(tracked.config)
    assert parse(config)[1].tracker == NoTracker()


def test_there_is_a_file_for_each_tracker_with_its_options():
    assert choices("tracker") == TRACKERS.names() == ["none", "wandb"]
    assert logging(Settings().tracker) is None
    assert logging(Wandb(mode="disabled")) is None
    with pytest.raises(ConfigError, match=r"tracker\.time_limit = 0 is not allowed: must be a number >= 1 and <= 3600"):
        TRACKERS.create({"name": "wandb", "time_limit": 0})


def test_a_sweep_is_logged_while_it_runs_and_once(mmbench, mmbench_here, worker_server, tmp_path):
    sweep = ["run", "-m", *TINY, *OFFLINE, "tracker.group=mine", "expansion=none,zero_pad"]
    done = mmbench(*sweep)
    assert done.returncode == 0, done.stderr
    assert "W&B: 2 offline." in done.stdout
    assert "wandb sync" in done.stdout
    folders = sorted((tmp_path / "results" / "tracking").glob("*/wandb/offline-run-*"))
    assert len(folders) == 2
    found = read(folders[0])
    assert found["run"]["run_group"] == "mine"
    assert {"score/parameters", "score/random", "gain"} <= found["summary"].keys()
    again = mmbench_here(*sweep)
    assert "W&B: nothing new (2 before)." in again.stdout
    assert sorted((tmp_path / "results" / "tracking").glob("*/wandb/offline-run-*")) == folders
    assert {path.name for path in tmp_path.iterdir()} == {"results"}, "nothing else is written"


def test_a_single_run_is_logged(mmbench_here):
    done = mmbench_here("run", *TINY[:4], "metric=parameters", *OFFLINE)
    assert done.returncode == 0, done.stderr
    assert "W&B: 1 offline." in done.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["track"], ["tracker = 'none' logs nothing", "tracker=wandb"]),
        (["track", "tracker=wandb", "tracker.mode=disabled"], ["tracker.mode = 'disabled' logs nothing"]),
        (["dashboard", "tracker=wnadb"], ["tracker = 'wnadb' is unknown; did you mean 'wandb'?"]),
        (["run", "tracker=wandb", "tracker.mode=on"], ["tracker.mode = 'on'", "online, offline, disabled"]),
        (["run", "-m", "tracker=wandb", "tracker.projct=a"], ["tracker.projct", "did you mean 'project'?"]),
        (["run", "-m", "tracker=none,wandb"], ["tracker cannot be swept"]),
        (["run", "-m", "tracker=wandb", "tracker.mode=online,offline"], ["tracker.mode cannot be swept"]),
        (["analyze", "tracker=wandb", "tracker.project=a/b"], ["tracker.project = 'a/b'", "tracker.entity"]),
        (["track", "results=nowhere", "tracker=wandb"], ["results = 'nowhere' is not a folder"]),
    ],
    ids=lambda value: " ".join(value) if value[0] in ("run", "track", "dashboard", "analyze") else "",
)
def test_a_mistake_is_told_before_anything_starts(mmbench_here, tmp_path, arguments, said):
    Store(tmp_path / "results").prepare()
    done = mmbench_here(*arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    assert all(words in done.stderr for words in said), done.stderr
    assert "Traceback" not in done.stderr


def test_an_empty_store_has_nothing_to_log_and_a_dashboard_of_all_metrics(mmbench_here, tmp_path):
    Store(tmp_path / "results").prepare()
    assert "nothing new" in mmbench_here("track", *OFFLINE).stdout
    said = mmbench_here("dashboard", *OFFLINE).stdout
    assert "Nothing was sent" in said
    (path,) = (tmp_path / "results").glob("tracking/*/dashboard.json")
    assert "score/hessian_trace" in path.read_text()
