"""The real client offline: its files, read back with its own reader and uploaded with its own `wandb sync`."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from mmbench.cli.track import track
from mmbench.execute import execute
from mmbench.metrics.sharpness import Sharpness
from mmbench.report.analyze import analyze
from mmbench.store.store import Store
from mmbench.tracking.analysis import content_of, log_analysis, tables_of
from mmbench.tracking.content import Models, key_of_model
from mmbench.tracking.follow import following
from mmbench.tracking.ledger import Ledger
from mmbench.tracking.worker import Worker
from tests.launcher.small import DIVERGES, small
from tests.tracking.conftest import KEY, RUNS, offline, own, read, wandb
from tests.tracking.server import Server

TRACKER = offline(tags=["mine"])
OPTIONS = ["tracker.mode=offline", "tracker.entity=me", "tracker.tags=[mine]"]
"""The same for the command line."""


@pytest.fixture(scope="module")
def tracked(finished, tmp_path_factory):
    """A store whose sweep was followed to its end and then analyzed, its ledger, and the analysis."""
    root = Path(shutil.copytree(finished[0], tmp_path_factory.mktemp("tracked") / "results"))
    with following(Store(root), [*RUNS, DIVERGES], TRACKER, finished[1]) as follower:
        pass
    assert follower.counts == {"offline": 5}
    analysis = analyze(root)
    worker = Worker(root, TRACKER, pytest.fail)
    assert worker.do(log_analysis, content_of(analysis, []), tables_of(analysis)).where == "offline"
    worker.stop()
    return root, Ledger(root, TRACKER), analysis


@pytest.fixture(scope="module")
def uploaded(tracked):
    """A server to which `wandb sync` has uploaded the folder that users are told of."""
    _, ledger, _ = tracked
    copy = Path(shutil.copytree(ledger.files, ledger.files.parents[3] / "copy", symlinks=True))
    with Server() as server:
        wandb("sync", copy, WANDB_BASE_URL=server.url, WANDB_API_KEY=KEY)
        yield server


def folders(ledger):
    return sorted(path for path in ledger.files.glob("*run-*") if path.is_dir() and not path.is_symlink())


def content(root, run, tags=("mine",)):
    models = Models(root)
    models.look()
    return models.content(key_of_model(run.identity()), tags)


@pytest.mark.parametrize("run", [RUNS[0], DIVERGES], ids=["done", "diverged"])
def test_the_files_hold_what_the_store_holds(tracked, finished, run):
    root, ledger, _ = tracked
    wanted = content(root, run)
    found = read(ledger.files / ledger.read(wanted.id)["folder"])
    assert own(found["config"]) == wanted.config
    assert own(found["summary"]) == wanted.summary
    assert [own(row) for row in found["history"]] == wanted.history
    assert found["exit_code"] == int(run is DIVERGES)
    meta = found["run"]
    assert (meta["run_id"], meta["project"], meta["entity"]) == (wanted.id, "mmbench", "me")
    assert (meta["run_group"], meta["job_type"]) == (finished[1], "train")
    assert meta["tags"] == ["mlp", "digits", "zero_pad", "mine"]


def test_everything_is_logged_once_whatever_is_repeated(tracked):
    root, ledger, _ = tracked
    before = folders(ledger)
    assert len(before) == 6, "five models and an analysis"
    assert track(root, TRACKER) == {"stored": 5}
    assert folders(ledger) == before


def test_what_is_uploaded_is_what_the_frame_holds(tracked, uploaded):
    _, _, analysis = tracked
    frame = analysis.frame[analysis.frame["status"] == "done"]
    runs = {path: run for path, run in uploaded.runs.items() if path.startswith("me/mmbench/")}
    models = {path: run for path, run in runs.items() if run.upserts[0]["jobType"] == "train"}
    assert len(models) == 5
    rows = 0
    for run in models.values():
        config = run.config
        same = frame[(frame["configuration"] == config["configuration"]) & (frame["seed"] == config["seed"])]
        for row in same.to_dict("records"):
            rows += 1
            assert run.summary[f"score/{row['metric']}"] == row["score"]
            assert run.summary["gain"] == row["gain"]
            assert [line["step"] for line in run.history] == [1, 2, 3, 4, 5]
    assert rows == len(frame) == 8


def test_tables_and_artifact_are_those_of_the_analysis(tracked, uploaded):
    _, _, analysis = tracked
    (run,) = [run for run in uploaded.runs.values() if run.upserts and run.upserts[0]["jobType"] == "analysis"]
    files = {
        name.rpartition("_")[0].rpartition("_")[0]: json.loads(data)
        for name, data in run.files.items()
        if "table" in name
    }
    for name, wanted in (("records", analysis.frame), ("correlations", analysis.correlations)):
        found = files[f"media/table/{name}"]
        shown = pd.DataFrame(found["data"], columns=found["columns"])
        assert list(shown.columns) == list(wanted.columns)
        assert len(shown) == len(wanted)
        for column in ("metric", "score", "gain", "spearman", "ci_low"):
            if column in wanted:
                pairs = zip(shown[column], wanted[column], strict=True)
                assert all((pd.isna(a) and pd.isna(b)) or a == b for a, b in pairs), column
    rho = analysis.correlations.query("target == 'gain' and group == 'all'").set_index("metric")["spearman"]
    bars = files["media/table/spearman_table"]
    assert {row[0]: row[1] for row in bars["data"]} == {k: None if pd.isna(v) else v for k, v in rho.items()}
    for metric, rows in analysis.frame.dropna(subset=["score", "gain"]).groupby("metric"):
        points = files[f"media/table/score_against_gain/{metric}_table"]
        assert [row[:2] for row in points["data"]] == rows[["score", "gain"]].to_numpy().tolist()
    assert any(name.startswith("media/images/correlations_with_intervals") for name in run.files)
    number = next(i for i, made in enumerate(uploaded.artifacts, 1) if made["artifactTypeName"] == "report")
    report = uploaded.runs[f"-/-/artifact{number}"].files
    assert report["report.html"] == analysis.report.read_bytes()
    assert report["records.parquet"] == (analysis.folder / "records.parquet").read_bytes()
    assert f"artifact{number}" in uploaded.committed


def test_a_model_that_has_grown_replaces_its_files(tracked, tmp_path):
    root = Path(shutil.copytree(tracked[0], tmp_path / "results", symlinks=True))
    ledger = Ledger(root, TRACKER)
    before = content(root, RUNS[0])
    execute(small(0, RUNS[0].expansion, Sharpness(images=64)), Store(root))
    after = content(root, RUNS[0])
    assert (after.id, "score/sharpness" in after.summary) == (before.id, True)
    assert track(root, TRACKER) == {"offline": 1, "stored": 4}
    (folder,) = ledger.files.glob(f"offline-run-*-{after.id}")
    assert own(read(folder)["summary"]) == after.summary


def test_a_killed_process_loses_nothing_and_its_model_is_logged_next_time(results):
    ledger = Ledger(results, TRACKER)
    one = content(results, RUNS[0])
    half = ledger.files / f"offline-run-20200101_000000-{one.id}"
    half.mkdir(parents=True)
    (half / f"run-{one.id}.wandb").write_bytes(b":W&B")
    assert ledger.read(one.id) is None
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "mmbench", "track", f"results={results}", "tracker=wandb", *OPTIONS],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(3)
    ]
    said = [process.communicate(timeout=600)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], said
    assert not half.exists(), "what the killed process had left"
    assert len(folders(ledger)) == 5, "of three commands at once, one logs each model"
    assert sum(int(line.split()[1]) for text in said for line in text.splitlines() if " offline" in line) == 5, said
