from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmbench.cli.main import COMMANDS, HELP
from mmbench.store.store import Store

TINY = ["model.hidden=[5]", "dataset.train_size=200", "training.steps=20", "training.warmup_steps=2"]
SWEEP = [*TINY, "metric=parameters,random", "expansion=none,zero_pad,identity_block", "seed=0,1"]


@pytest.mark.parametrize("arguments", [(), ("--help",), *((command, "--help") for command in COMMANDS)], ids=" ".join)
def test_help_answers_without_anything_heavy(in_fresh_python, arguments):
    code = f"""
import sys
from mmbench.cli.main import main
try:
    main({list(arguments)!r})
except SystemExit as end:
    assert not end.code
print(sorted({{"torch", "hydra", "pandas", "timm", "omegaconf", "pydantic"}} & set(sys.modules)))
"""
    shown = in_fresh_python(code)
    assert "usage: mmbench" in shown
    assert shown.rstrip().splitlines()[-1] == "[]"


def test_help_of_run_lists_every_choice(mmbench_here):
    shown = mmbench_here("run", "--help").stdout
    assert all(name in shown for name in ("net2wider", "hessian_trace", "digits", "resnet", "adamw", "quickstart"))
    assert set(HELP) == set(COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["rnu"], ["command = 'rnu' is unknown", "did you mean 'run'?"]),
        (["run", "model=mpl"], ["model = 'mpl' is unknown; did you mean 'mlp'?", "resnet"]),
        (["run", "-m", "metric=manifold,sharpnes"], ["'sharpnes' is unknown; did you mean 'sharpness'?"]),
        (["run", "modle=mlp"], ["'modle' is unknown; did you mean 'model'?"]),
        (["run", "metric=sharpness", "metric.roh=1"], ["metric.roh", "did you mean 'rho'?", "batch_size"]),
        (["run", "-m", "seed=0,1", "metric=sharpness", "metric.roh=1"], ["metric.roh", "did you mean 'rho'?"]),
        (["run", "training.lr=-1"], ["training.lr = -1 is not allowed: must be a number > 0"]),
        (["run", "training.lr=fast"], ["training.lr = 'fast'"]),
        (["run", "model=vit", "model.heads=3"], ["model.embed_dim = 32 must be a multiple of model.heads = 3"]),
        (["run", "device=cuda:77"], ["device = 'cuda:77' is not available"]),
        (["run", "dataset=parquet"], ["dataset.path is needed"]),
        (["run", "dataset=parquet", "dataset.path=nowhere"], ["dataset.path = 'nowhere'"]),
        (["run", "-m", "sweeps=quickstrat"], ["'quickstrat' is unknown; did you mean 'quickstart'?"]),
        (["run", "results="], ["results = ''"]),
        (["run", "seed=[1"], ["seed=[1"]),
        (["run", "sweeps=quickstart"], ["add -m"]),
        (["run", "-m", "metric=glob(zzz*)"], ["matches nothing", "manifold"]),
        (["run", "-m", "results=a,b"], ["results cannot be swept"]),
        (["run", "-m", "sweeps=quickstart,vit"], ["sweeps"]),
        (["run", "training.batch_size=2000"], ["training.batch_size = 2000", "dataset.train_size = 1000"]),
        (["run", "expansion=scratch", "expansion.match=none"], ["expansion.match = 'none' is unknown", "net2wider"]),
        (["run", "expansion=scratch", "expansion.match=stack", "expansion.budget=2"], ["give one"]),
        (["run", "expansion=stack", "expansion.axis=width"], ["expansion.axis = 'width'", "must be one of depth"]),
        (["run", "-m", "expansion=stack,scratch", "expansion.axis=widht"], ["expansion.axis = 'widht'"]),
        (
            ["run", "-m", "expansion=stack", "expansion.axis=width,hidden"],
            ["no operator here has it (stack has depth)"],
        ),
        (["run", "expansion=none", "expansion.budget=2"], ["expansion.budget", "there is nothing to set here"]),
        (["run", "results=r [1"], ["needs quotes"]),
        (["status", "--foo"], ["--foo is no flag"]),
        (["status", "results=nowhere"], ["results = 'nowhere' is no folder"]),
        (["analyze", "resluts=nowhere"], ["did you mean 'results'?"]),
        (["analyze", "results=[.,nowhere]"], ["results = 'nowhere' is no folder"]),
        (["analyze", "results=[]"], ["results is an empty list"]),
        (["analyze", "results=.", "where=budgte > 2"], ["where = 'budgte > 2' cannot be understood", "budget"]),
        (["status", "results=[.,.]"], ["results names 2 folders; this command takes one"]),
    ],
    ids=lambda value: " ".join(value) if value[0] in ("run", "status", "analyze", "rnu") else "",
)
def test_a_mistake_gets_a_message_and_no_stack_trace(mmbench_here, tmp_path, arguments, said):
    done = mmbench_here(*arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    assert all(words in done.stderr for words in said), done.stderr
    assert "Traceback" not in done.stderr
    assert "Error executing job" not in done.stderr
    assert not (tmp_path / "results" / "records").exists(), "nothing is started"


def test_in_a_sweep_all_jobs_are_checked_before_the_first_starts(mmbench_here, tmp_path):
    done = mmbench_here("run", "-m", *TINY, "training.lr=0.1,-1", "seed=0,-5")
    assert done.returncode == 2
    assert "training.lr = -1" in done.stderr
    assert "seed = -5" in done.stderr
    assert not list(tmp_path.rglob("*.json"))


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


def test_a_sweep_is_planned_run_resumed_and_analyzed(mmbench, tmp_path):
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
    assert "8 have their record" in mmbench("plan", *SWEEP).stdout

    second = mmbench("run", "-m", *SWEEP)
    assert "12 of them were stored already" in second.stdout
    assert "Computed: nothing." in second.stdout

    record = next((tmp_path / "results" / "records").glob("*.json"))
    record.unlink()
    status = mmbench("status")
    assert re.search(r"missing\s+1\b", status.stdout), status.stdout
    assert re.search(r"skipped\s+[34]\b", status.stdout)

    third = mmbench("run", "-m", *SWEEP)
    assert "Computed: nothing." in third.stdout, "the stages of the lost record were stored"

    analysis = mmbench("analyze")
    assert analysis.returncode == 0, analysis.stderr
    written = {path.name for path in (tmp_path / "results" / "analysis").iterdir()}
    assert {"records.parquet", "records.csv", "correlations.csv", "report.html"} <= written

    shutil.copytree(tmp_path / "results", tmp_path / "copy", ignore=shutil.ignore_patterns("analysis"))
    next((tmp_path / "copy" / "records").glob("*.json")).unlink()
    part = mmbench("analyze", "results=[copy,results]", "where=metric == 'random' and status == \"done\"")
    assert part.returncode == 0, part.stderr
    assert "8 runs: 8 done" in part.stdout, part.stdout  # each of the four in both stores
    assert "15 runs are left out by where=metric == 'random'" in part.stderr
    assert (tmp_path / "copy" / "analysis" / "report.html").exists()


def test_a_sweep_is_bit_identical_with_one_worker_or_two(mmbench, tmp_path):
    arguments = [*TINY, "metric=sharpness,manifold", "expansion=zero_pad", "seed=0,1"]
    for slots in (1, 2):
        done = mmbench("run", "-m", *arguments, f"hydra.launcher.slots={slots}", f"results=r{slots}")
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


def test_an_option_that_some_choices_lack_applies_to_the_others(mmbench_here):
    plan = mmbench_here("plan", "expansion=none,zero_pad", "expansion.factor=2,3", "metric=parameters")
    assert "3 runs: 3 defined" in plan.stdout, plan.stdout + plan.stderr
    plan = mmbench_here(
        "plan", "model=vit,resnet", "model.channels=[3,4,6]", "training.clip_norm=null", "metric=parameters"
    )
    assert "2 runs: 2 defined" in plan.stdout, plan.stdout + plan.stderr
    wrong = mmbench_here("plan", "model=vit,resnet", "model.chanels=[3,4,6]")
    assert "model.chanels = 'chanels' is unknown; did you mean 'channels'?" in wrong.stderr


def test_hydra_flags_work(mmbench_here):
    shown = mmbench_here("run", "expansion=zero_pad", "--cfg", "job", "--package", "expansion")
    assert "name: zero_pad" in shown.stdout, shown.stderr


def test_hydras_own_launcher_works(mmbench_here):
    done = mmbench_here("run", "-m", *TINY, "metric=parameters", "seed=0,1", "hydra/launcher=basic")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("trained on") == 2


def test_a_sweep_of_ones_own_folder_is_found(mmbench_here, tmp_path):
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "mine.yaml").write_text(
        "# @package _global_\nhydra:\n  sweeper:\n    params:\n      seed: 0,1,2\n"
    )
    plan = mmbench_here("plan", "-cd", ".", "sweeps=mine", "metric=parameters")
    assert "3 runs" in plan.stdout, plan.stdout + plan.stderr


def test_an_axis_counts_for_the_operators_that_have_it(mmbench_here):
    plan = mmbench_here(
        "plan", "expansion=none,scratch,net2wider,net2deeper", "expansion.axis=width,depth", "model=mlp"
    )
    assert "5 runs: 5 defined" in plan.stdout, plan.stdout + plan.stderr


def test_what_a_sweep_file_sets_counts(mmbench, tmp_path):
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "mine.yaml").write_text(
        "# @package _global_\nseed: 7\nresults: elsewhere\nhydra:\n  sweeper:\n    params:\n      metric: parameters\n"
    )
    done = mmbench("run", *TINY, "sweeps=mine", "-m", "-cd", ".", "expansion.factor=3")  # flags may stand anywhere
    assert done.returncode == 0, done.stderr
    store = Store(tmp_path / "elsewhere")
    (record,) = map(store.read_record, store.record_ids())
    assert (record["seed"], record["factor"]) == (7, 3.0)


def test_with_another_launcher_a_failed_run_does_not_end_the_sweep(mmbench_here):
    arguments = [*TINY, "metric=parameters", "training.lr=1e30,0.05", "training.clip_norm=null"]
    done = mmbench_here("run", "-m", *arguments, "hydra/launcher=basic")
    assert done.returncode == 1
    assert "diverged at step" in done.stdout
    assert "trained on" in done.stdout


def start(tmp_path, *arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "mmbench", "run", "-m", *arguments],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # a process group of its own, which Ctrl-C reaches as a whole
    )


@pytest.mark.parametrize(
    "blow",
    [pytest.param(signal.SIGKILL, id="kill -9", marks=pytest.mark.slow), pytest.param(signal.SIGINT, id="Ctrl-C")],
)
def test_an_interrupted_sweep_goes_on_where_it_was(mmbench, tmp_path, blow):
    arguments = ["model.hidden=[5]", "training.steps=600", "expansion=zero_pad", "metric=parameters", "seed=range(5)"]
    sweep = start(tmp_path, *arguments)
    deadline = time.monotonic() + 120
    while len(list(tmp_path.glob("results/records/*.json"))) < 2:
        assert time.monotonic() < deadline and sweep.poll() is None, sweep.stdout.read()
        time.sleep(0.02)
    os.killpg(sweep.pid, blow) if blow == signal.SIGINT else sweep.send_signal(blow)
    said, _ = sweep.communicate(timeout=60)
    if blow == signal.SIGINT:
        assert sweep.returncode == 130
        assert "the same command goes on" in said.replace("\n", " ")
        assert "Traceback" not in said
    finished = {path: path.read_bytes() for path in tmp_path.glob("results/records/*.json")}
    again = mmbench("run", "-m", *arguments)
    assert again.returncode == 0, again.stderr
    assert "5 runs: 5 done" in again.stdout
    assert f"{len(finished)} of them were stored already" in again.stdout
    assert all(path.read_bytes() == content for path, content in finished.items())


def test_ctrl_c_while_the_workers_load_shows_no_stack_trace(tmp_path):
    import psutil

    sweep = start(tmp_path, "model=resnet", "seed=0,1")
    deadline = time.monotonic() + 60
    while not any("forkserver" in " ".join(child.cmdline()) for child in psutil.Process(sweep.pid).children()):
        assert time.monotonic() < deadline and sweep.poll() is None, sweep.stdout.read()
        time.sleep(0.05)
    time.sleep(1.5)  # torch and timm take longer to load
    os.killpg(sweep.pid, signal.SIGINT)
    said, _ = sweep.communicate(timeout=60)
    assert sweep.returncode == 130
    assert "stopped: 0 of 2 runs" in said.replace("\n", " ")
    assert "Traceback" not in said, said
    assert "KeyboardInterrupt" not in said, said


@pytest.mark.slow
def test_a_worker_that_is_killed_fails_its_own_run_only(mmbench, tmp_path):
    import psutil

    arguments = ["model.hidden=[5]", "training.steps=2500", "expansion=zero_pad", "metric=parameters", "seed=0,1,2"]
    sweep = start(tmp_path, *arguments, "hydra.launcher.slots=1")
    store, deadline = Store(tmp_path / "results"), time.monotonic() + 120
    while not store.running():
        assert time.monotonic() < deadline and sweep.poll() is None, sweep.stdout.read()
        time.sleep(0.02)
    from mmbench.store.files import read_json

    mark = read_json(next((tmp_path / "results" / "running").glob("*.json")))
    psutil.Process(mark["pid"]).kill()
    said, _ = sweep.communicate(timeout=120)
    assert sweep.returncode == 1
    assert "3 runs: 2 done, 1 failed" in said, said
    assert "the worker process died" in said
    again = mmbench("run", "-m", *arguments)
    assert "3 runs: 3 done" in again.stdout, "a run whose worker died is tried again"


def test_the_wheel_works_from_an_empty_folder(tmp_path):
    """Built, unpacked beside nothing of the checkout, and run from elsewhere: conf and sweeps must be inside."""
    checkout = Path(__file__).parents[2]
    shutil.copytree(
        checkout,
        tmp_path / "source",
        ignore=shutil.ignore_patterns(".venv", ".git", "results", "__pycache__", ".*_cache"),
    )
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path / "dist")]
    subprocess.run(build, cwd=tmp_path / "source", check=True, capture_output=True)
    shutil.unpack_archive(next((tmp_path / "dist").glob("*.whl")), tmp_path / "site", "zip")
    (tmp_path / "empty").mkdir()
    done = subprocess.run(
        [sys.executable, "-P", "-m", "mmbench", "plan", "sweeps=quickstart"],
        cwd=tmp_path / "empty",
        env={"PYTHONPATH": str(tmp_path / "site"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert "312 runs" in done.stdout, done.stdout + done.stderr
    where = subprocess.run(
        [sys.executable, "-P", "-c", "import mmbench; print(mmbench.__file__)"],
        cwd=tmp_path / "empty",
        env={"PYTHONPATH": str(tmp_path / "site"), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert str(tmp_path / "site") in where.stdout, "the checkout was not used"


def test_a_folder_that_hydra_takes_for_a_group_is_told(mmbench_here, tmp_path):
    (tmp_path / "results").mkdir()
    done = mmbench_here("plan", "-cd", ".", "metric=parameters,random", "results=other")
    assert done.returncode == 2
    assert "a folder 'results' lies in the folder of -cd" in done.stderr.replace("\n", " ")
