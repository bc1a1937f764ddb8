from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import mmbench as mmbench_package
from mmbench.store.store import Store

TINY = ["model.hidden=[5]", "dataset.train_size=200", "training.steps=20", "training.warmup_steps=2"]
SWEEP = [*TINY, "metric=parameters,random", "expansion=none,zero_pad,identity_block", "seed=0,1"]


def test_a_run_prints_what_it_did_and_where_it_lies(mmbench_here, tmp_path):
    done = mmbench_here("run", *TINY)
    assert done.returncode == 0, done.stderr
    record = next((tmp_path / "results" / "records").glob("*.json"))
    said = done.stdout.replace("\n", "")
    assert str(record) in said
    assert "gain" in said
    assert "1 base models trained" in said
    again = mmbench_here("run", *TINY)
    assert "computed         nothing" in again.stdout
    assert {path.name for path in tmp_path.iterdir()} == {"results"}, "nothing else is written"


def test_a_failed_run_ends_with_status_1(mmbench_here):
    done = mmbench_here("run", *TINY, "training.lr=1e30", "training.clip_norm=null")
    assert done.returncode == 1
    assert "diverged at step" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


def test_a_sweep_is_planned_run_resumed_and_analyzed(mmbench, mmbench_here, worker_server, tmp_path):
    plan = mmbench("plan", *SWEEP)
    assert plan.returncode == 0, plan.stderr
    assert "12 runs: 8 defined, 4 skipped; 0 have their record" in plan.stdout
    assert "no residual blocks" in plan.stdout
    assert not (tmp_path / "results").exists(), "a plan starts nothing"

    first = mmbench("run", "-m", *SWEEP)
    assert first.returncode == 0, first.stderr
    assert "12 runs: 8 done, 4 skipped; 0 of them were stored already." in first.stdout
    assert "Computed: 2 base models trained, 4 expansions, 8 scores, 4 expanded models trained." in first.stdout, (
        first.stdout
    )
    assert "8 have their record" in mmbench_here("plan", *SWEEP).stdout

    second = mmbench_here("run", "-m", *SWEEP)
    assert "12 of them were stored already" in second.stdout
    assert "Computed: nothing." in second.stdout

    record = next((tmp_path / "results" / "records").glob("*.json"))
    record.unlink()
    status = mmbench("status")
    assert re.search(r"missing\s+1\b", status.stdout), status.stdout
    assert re.search(r"skipped\s+[34]\b", status.stdout)

    third = mmbench_here("run", "-m", *SWEEP)
    assert "Computed: nothing." in third.stdout, "the stages of the lost record were stored"

    analysis = mmbench("analyze")
    assert analysis.returncode == 0, analysis.stderr
    written = {path.name for path in (tmp_path / "results" / "analysis").iterdir()}
    assert {"records.parquet", "records.csv", "correlations.csv", "report.html"} <= written

    shutil.copytree(tmp_path / "results", tmp_path / "copy", ignore=shutil.ignore_patterns("analysis"))
    of_another = [p for p in (tmp_path / "copy" / "records").glob("*.json") if '"metric":"random"' not in p.read_text()]
    of_another[0].unlink()
    part = mmbench_here("analyze", "results=[copy,results]", "where=metric == 'random' and status == \"done\"")
    assert part.returncode == 0, part.stderr
    assert "8 runs: 8 done" in part.stdout, part.stdout  # each of the four in both stores
    assert "15 runs are left out by where=metric == 'random'" in part.stderr
    assert (tmp_path / "copy" / "analysis" / "report.html").exists()


def test_a_sweep_is_bit_identical_with_one_worker_or_two(mmbench_here, worker_server, tmp_path):
    arguments = [*TINY, "metric=sharpness,manifold", "expansion=zero_pad", "seed=0,1"]
    for slots in (1, 2):
        done = mmbench_here("run", "-m", *arguments, f"hydra.launcher.slots={slots}", f"results=r{slots}")
        assert done.returncode == 0, done.stderr
    one, two = (
        {
            run_id: {k: v for k, v in store.read_record(run_id).items() if not k.endswith("_seconds")}
            for run_id in store.record_ids()
        }
        for store in (Store(tmp_path / "r1"), Store(tmp_path / "r2"))
    )
    assert len(one) == 4
    assert one == two


@pytest.mark.parametrize("started", ["as the command", "with python -m"])
def test_nothing_is_imported_from_the_current_folder(tmp_path, started):
    """Neither by the command nor by its workers, their server, or the modules that these load first."""
    here, script = tmp_path / "here", tmp_path / "bin" / "mmbench"
    names = {"random.py", "queue.py", "statistics.py", "torch/__init__.py", "timm/__init__.py", "hydra_plugins/x.py"}
    names |= {"mmbench/__init__.py"} if started == "as the command" else set()
    for name in names:
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        (here / name).write_text(f"open({str(tmp_path / 'imported')!r}, 'a').write({name!r})\nraise SystemExit(3)\n")
    script.parent.mkdir()
    script.write_text("from mmbench.cli.main import main\n\nif __name__ == '__main__':\n    main()\n")
    command = [str(script)] if started == "as the command" else ["-m", "mmbench"]
    arguments = ["run", "-m", *TINY, "metric=parameters", "hydra.launcher.slots=1"]
    paths = os.pathsep.join([str(Path(mmbench_package.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, *command, *arguments],
        cwd=here,
        env={**os.environ, "PYTHONPATH": paths.rstrip(os.pathsep)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    assert "1 runs: 1 done" in done.stdout
    assert not (tmp_path / "imported").exists()


def test_hydra_flags_work(mmbench_here):
    shown = mmbench_here("run", "expansion=zero_pad", "--cfg", "job", "--package", "expansion")
    assert "name: zero_pad" in shown.stdout, shown.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["run", "-m", "seed=4,5", "metric=glob(*)", "--cfg", "job"], "seed: 4"),
        (["plan", "seed=4,5", "--cfg", "job"], "seed: 4"),
        (["retry", "--cfg", "job"], "seed: 0"),
        (["run", "-m", "sweeps=quickstart", "--info", "defaults"], "sweeps/quickstart"),
        (["plan", "--info", "searchpath"], "conf"),
        (["run", "-m", "--hydra-help"], "Hydra"),
        (["run", "--info", "--cfg", "job"], "--info and --cfg exclude each other"),
        (["run", "--resolve"], "--resolve belongs to --cfg"),
        (["run", "--experimental-rerun", "x.pickle"], "--experimental-rerun is not supported"),
    ],
)
def test_hydras_flags_show_or_are_refused_in_a_line(mmbench_here, tmp_path, arguments, said):
    done = mmbench_here(*arguments)
    assert done.returncode == (0 if said in done.stdout else 2)
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir()), "nothing is run"


def test_hydras_own_launcher_works(mmbench_here):
    done = mmbench_here("run", "-m", *TINY, "metric=parameters", "seed=0,1", "hydra/launcher=basic")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("after training") == 2


def test_what_a_sweep_file_sets_counts(mmbench_here, worker_server, tmp_path):
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "mine.yaml").write_text(
        "# @package _global_\nseed: 7\nresults: elsewhere\nhydra:\n  sweeper:\n    params:\n      metric: parameters\n"
    )
    done = mmbench_here("run", *TINY, "sweeps=mine", "-m", "-cd", ".", "expansion.factor=3")  # flags may stand anywhere
    assert done.returncode == 0, done.stderr
    store = Store(tmp_path / "elsewhere")
    (record,) = map(store.read_record, store.record_ids())
    assert (record["seed"], record["factor"]) == (7, 3.0)


def test_with_another_launcher_a_failed_run_does_not_end_the_sweep(mmbench_here):
    arguments = [*TINY, "metric=parameters", "training.lr=1e30,0.05", "training.clip_norm=null"]
    done = mmbench_here("run", "-m", *arguments, "hydra/launcher=basic")
    assert done.returncode == 1
    assert "diverged at step" in done.stdout
    assert "after training" in done.stdout


def test_hydras_job_callbacks_are_called_for_each_run_that_is_computed(mmbench_here, worker_server, tmp_path):
    callback = ["+hydra.callbacks.diary._target_=tests.launcher.callbacks.Diary", "+hydra.callbacks.diary.file=diary"]
    arguments = ["run", "-m", *TINY, "metric=parameters", "training.clip_norm=null", "hydra.launcher.slots=1"]
    done = mmbench_here(*arguments, "seed=0,1", *callback)
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "diary").read_text().splitlines()
    assert lines == ["multirun", "start 0 0", "end 0 COMPLETED", "start 1 1", "end 1 COMPLETED"]

    done = mmbench_here(*arguments, "seed=0", "training.lr=0.05,1e30", *callback)
    assert done.returncode == 1
    assert (tmp_path / "diary").read_text().splitlines()[len(lines) :] == ["multirun", "start 0 0", "end 0 FAILED"]


def test_hydras_basic_sweeper_gives_each_run_once(mmbench_here, worker_server):
    done = mmbench_here("run", "-m", *TINY, "metric=parameters", "seed=0,1", "hydra/sweeper=basic")
    assert done.returncode == 0, done.stderr
    assert "2 runs: 2 done; 0 of them were stored already." in done.stdout
