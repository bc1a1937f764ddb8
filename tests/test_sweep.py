"""A run written down is the same run; and so is a sweep through a launcher that is not ours."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import time

import pytest
from omegaconf import OmegaConf

from mmbench.config import GROUPS, Settings, parse
from mmbench.errors import ConfigError, StoreError
from mmbench.expansions.base import EXPANSIONS
from mmbench.launcher import cluster
from mmbench.launcher.cluster import _errors_of_signals, run_job
from mmbench.metrics.base import METRICS
from mmbench.paths import choices, root
from mmbench.store.store import Store
from mmbench.sweep import as_json, read_job

TINY = ["model.hidden=[5]", "dataset.train_size=200", "training.steps=20", "training.warmup_steps=2"]
DATA = {"parquet", "timm"}
"""Data sets that need files."""


def composed(group, name):
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(root() / "conf"), version_base="1.3"):
        config = OmegaConf.to_container(compose("config", [f"{group}={name}"]), resolve=True)
    return {key: value for key, value in config.items() if key != "sweeps"}


def run_of(**changes):
    """A run of the default config with dotted changes."""
    config = OmegaConf.create(composed("model", "mlp"))
    for key, value in changes.items():
        OmegaConf.update(config, key, value, merge=False)
    return parse(OmegaConf.to_container(config, resolve=True))[0]


def again(run):
    """What becomes of a run that is written to a file and read."""
    return parse(json.loads(json.dumps(run.config)))[0]


@pytest.mark.parametrize(
    ("group", "name"), [(g, n) for g in GROUPS for n in choices(g) if n not in DATA], ids=lambda part: part
)
def test_a_run_is_made_again_from_its_config_with_any_component(group, name):
    run, _ = parse(composed(group, name))
    assert again(run) == run
    assert again(run).run_id == run.run_id
    assert again(run).config == run.config


def test_a_run_is_made_again_whatever_its_options():
    """Every option of expansions and metrics that has a simple other value, and values that are hard to write."""
    tried = 0
    for group, registry in (("expansion", EXPANSIONS), ("metric", METRICS)):
        for name in registry.names():
            base = composed(group, name)
            for key, value in base[group].items():
                for other in (0.1 + 0.2, 7, True, None, "depth", [1e-3, 1 / 3]):
                    if other == value:
                        continue
                    try:
                        run, _ = parse({**base, group: {**base[group], key: other}})
                    except ConfigError:
                        continue
                    tried += 1
                    assert (again(run), again(run).run_id) == (run, run.run_id), (name, key, other)
    assert tried > 150


def test_the_recipe_inside_a_metric_is_written_down():
    config = composed("metric", "loss_after_k_steps")
    config["metric"]["training"] = {**config["training"], "lr": 0.123}
    run, _ = parse(config)
    assert again(run).metric.training.lr == 0.123
    assert again(run).run_id == run.run_id


def test_an_option_that_enters_no_hash_is_kept():
    run = run_of(**{"expansion.tolerance": 0.03, "expansion.budget": 2.0, "expansion.factor": 3.0})
    assert "tolerance" not in run.expansion.describe()
    assert again(run).expansion.tolerance == 0.03
    assert again(run).expansion.factor == 3.0


@pytest.fixture
def store(tmp_path):
    store = Store(tmp_path / "results")
    store.prepare()
    return store


def written(store, *groups, folder=None):
    sweep = {**as_json(list(itertools.chain(*groups))), "jobs": [[run.run_id for run in group] for group in groups]}
    return store.write_sweep({**sweep, "folder": str(folder or store.root)})


def test_a_job_is_read_from_the_store_alone(store, monkeypatch):
    monkeypatch.chdir(store.root.parent)
    runs = [run_of(seed=seed) for seed in range(3)]
    name = written(store, runs[:2], runs[2:])
    assert read_job(store, f"{name}:0") == runs[:2]
    assert read_job(store, f"{name}:1") == runs[2:]


@pytest.mark.parametrize("job", ["", "x", "abc", "abc:", ":1", "abc:-1", "../../etc/passwd:0", "abc:0:0"])
def test_a_job_of_another_form_is_refused(store, job):
    with pytest.raises(ConfigError, match="must be SWEEP:INDEX"):
        read_job(store, job)


def test_a_job_that_is_not_there_is_told(store, monkeypatch):
    monkeypatch.chdir(store.root.parent)
    name = written(store, [run_of()])
    with pytest.raises(ConfigError, match="the sweep has 1 jobs"):
        read_job(store, f"{name}:1")
    with pytest.raises(StoreError, match="all machines of the cluster share"):
        read_job(store, "abcdef:0")
    path = store.root / "sweeps" / f"{name}.json"
    path.write_text(path.read_text().replace('"seed":0', '"seed":1'))
    with pytest.raises(StoreError, match="no intact"):
        read_job(store, f"{name}:0")


def test_a_folder_that_is_not_on_this_machine_is_told(store):
    name = written(store, [run_of()], folder=store.root / "gone")
    with pytest.raises(StoreError, match=r"gone, which this machine cannot enter \(No such file"):
        read_job(store, f"{name}:0")


def test_a_run_whose_meaning_has_changed_is_refused(store, monkeypatch):
    monkeypatch.chdir(store.root.parent)
    name = written(store, [run_of()])
    monkeypatch.setattr("mmbench.store.store.VERSION", 99)
    with pytest.raises(StoreError, match="have changed since the sweep was started"):
        read_job(store, f"{name}:0")


def test_a_job_goes_on_with_what_is_stored(store, monkeypatch, capsys):
    monkeypatch.chdir(store.root.parent)
    small = {"model.hidden": [5], "training.steps": 20, "training.warmup_steps": 2}
    runs = [run_of(**small, metric={"name": metric}) for metric in ("parameters", "random")]
    name = written(store, runs)
    run_job(f"{name}:0", Settings(results=str(store.root), device="cpu"))
    assert store.record_ids() == {run.run_id for run in runs}
    kept = (store.root / "records" / f"{runs[0].run_id}.json").stat().st_mtime_ns
    store.forget_record(runs[1].run_id)
    capsys.readouterr()
    run_job(f"{name}:0", Settings(results=str(store.root), device="cpu"))
    assert store.record_ids() == {run.run_id for run in runs}
    assert (store.root / "records" / f"{runs[0].run_id}.json").stat().st_mtime_ns == kept
    assert "parameters sgd" not in capsys.readouterr().out, "only the missing run is looked at"


def table(folder):
    """The records without times, by run."""
    times = {"metric_seconds", "expand_seconds", "train_seconds", "base_seconds"}
    store = Store(folder)
    records = {run_id: store.read_record(run_id) for run_id in store.record_ids()}
    return {run_id: {k: v for k, v in record.items() if k not in times} for run_id, record in records.items()}


SWEEP = [*TINY, "metric=parameters,random", "expansion=none,zero_pad,identity_block", "seed=0,1"]


@pytest.mark.slow
def test_hydras_basic_launcher_makes_the_same_records_and_goes_on(mmbench_here, worker_server, tmp_path):
    first = mmbench_here("run", "-m", *SWEEP, "hydra/launcher=basic")
    assert first.returncode == 0, first.stderr
    assert "Launching 8 runs in 4 jobs" in first.stdout, "runs that share an expanded model are one job"
    assert "12 runs: 8 done, 4 skipped; 0 of them were stored already." in first.stdout
    mmbench_here("run", "-m", *SWEEP, "results=here")
    assert table(tmp_path / "results") == table(tmp_path / "here")
    next((tmp_path / "results" / "records").glob("*.json")).unlink()
    second = mmbench_here("run", "-m", *SWEEP, "hydra/launcher=basic")
    assert "11 of them were stored already" in second.stdout
    third = mmbench_here("run", "-m", *SWEEP, "hydra/launcher=basic")
    assert "Nothing to launch: every run has its record." in third.stdout
    assert third.returncode == 0


@pytest.fixture
def spied(monkeypatch, mmbench_here):
    """A sweep through Hydra's basic launcher, in whose place something happens: `instead(launch, jobs)`."""
    original = cluster._launch

    def sweep(instead, *arguments):
        def launched(launcher, jobs):
            launch = launcher.launch
            launcher.launch = lambda jobs, initial_job_idx: instead(launch, jobs)
            return original(launcher, jobs)

        monkeypatch.setattr(cluster, "_launch", launched)
        monkeypatch.setattr(cluster, "LOOK", 0.1)
        return mmbench_here("run", "-m", *TINY, *arguments, "hydra/launcher=basic")

    return sweep


def test_what_is_edited_after_the_launch_changes_nothing(spied, tmp_path):
    (tmp_path / "sweeps").mkdir()
    mine = tmp_path / "sweeps" / "mine.yaml"
    mine.write_text("# @package _global_\nseed: 7\nhydra:\n  sweeper:\n    params:\n      metric: parameters\n")

    def edit(launch, jobs):
        mine.write_text("no: [yaml")
        return launch(jobs, 0)

    done = spied(edit, "-cd", ".", "sweeps=mine")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [record["seed"] for record in table(tmp_path / "results").values()] == [7]


def test_a_launcher_that_starts_nothing_is_not_waited_for_long(spied, monkeypatch):
    def refuse(launch, jobs):
        raise OSError("sbatch is missing")

    monkeypatch.setattr(cluster, "START", 1.0)  # GRACE, three minutes, would be noticed
    done = spied(refuse, "metric=parameters", "seed=0")
    assert done.returncode == 1
    assert "no process has computed any of them for 1 s" in done.stderr.replace("\n", " ")
    assert "ended without a record: OSError: sbatch is missing" in done.stdout.replace("\n", " ")


def test_jobs_without_a_record_are_told_in_words(spied, monkeypatch, mmbench_here):
    def crash(launch, jobs):
        launch(jobs[:1], 0)
        raise OSError("the\nqueue is closed")

    monkeypatch.setattr(cluster, "GRACE", 1.0)
    done = spied(crash, "metric=parameters,random", "seed=0,1,2")
    assert done.returncode == 1
    said = done.stdout.replace("\n", " ")
    assert "4 runs of 2 jobs ended without a record: OSError: the queue is closed; the same command runs them" in said
    assert "6 runs: 2 done, 4 missing" in said
    assert "the launcher has ended (OSError: the queue is closed), and 4 runs have no record yet" in done.stderr
    assert "no longer waiting: no process has computed any of 4 runs" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr
    assert "missing     4" in mmbench_here("status").stdout


@pytest.mark.parametrize("raises", [True, False], ids=["raises at a killed job", "returns before its jobs"])
def test_jobs_that_outlive_the_launcher_are_awaited_and_a_killed_one_is_told(spied, monkeypatch, tmp_path, raises):
    """As Slurm's and Ray's launchers do it: one job is killed, and the launcher gives up while another computes."""

    def give_up(launch, jobs):
        for job in jobs:
            if os.fork():
                continue
            (name,) = job
            if name.endswith(":0"):  # killed within a run
                os.setsid()
                monkeypatch.setattr("mmbench.launcher.cluster.run_in", lambda store, run, settings: killed(store, run))
            else:  # alive, and silent for longer than the others are waited for
                monkeypatch.setattr("mmbench.launcher.cluster.run_in", slow)
            launch([job], 0)
            os._exit(0)
        if raises:
            raise RuntimeError("a job was killed")
        return []

    def killed(store, run):
        store.write_heartbeat(run.run_id, "base")
        os.kill(os.getpid(), signal.SIGKILL)

    def slow(store, run, settings):
        store.write_heartbeat(run.run_id, "base")
        (store.root / "slow").touch()
        time.sleep(3)
        store.write_record({**run.identity(), "status": "done", "error": None})

    monkeypatch.setattr(cluster, "GRACE", 2.0)

    def begun(launch, jobs):
        try:
            return give_up(launch, jobs)
        finally:  # the launcher gives up when both are at a run
            deadline = time.monotonic() + 300
            while len(list((tmp_path / "results" / "running").iterdir())) < 2 and time.monotonic() < deadline:
                time.sleep(0.05)

    done = spied(begun, "metric=parameters", "seed=0,1")
    assert done.returncode == 1
    assert "1 runs of 1 jobs ended without a record: " in done.stdout, done.stdout + done.stderr
    assert ("RuntimeError: a job was killed" if raises else "no reason was given") in done.stdout
    assert "2 runs: 1 done, 1 missing" in done.stdout


def test_an_error_inside_a_job_reaches_the_one_who_waits(spied):
    def lose(launch, jobs):
        shutil.rmtree("results/sweeps")
        return launch(jobs, 0)

    done = spied(lose, "metric=parameters")
    assert done.returncode == 1
    assert "1 runs of 1 jobs ended without a record: StoreError: job = " in done.stdout.replace("\n", " ")
    assert "Traceback" not in done.stdout + done.stderr


def test_ctrl_c_while_waiting_ends_with_a_message(spied):
    def interrupt(launch, jobs):
        raise KeyboardInterrupt

    done = spied(interrupt, "metric=parameters")
    assert done.returncode == 130
    assert "stopped: 0 of 1 runs have their record" in done.stderr.replace("\n", " ")
    assert "Traceback" not in done.stderr


def test_the_device_of_another_machine_is_checked_there(mmbench_here):
    done = mmbench_here("run", "-m", *TINY, "metric=parameters", "device=cuda:77", "hydra/launcher=basic")
    assert done.returncode == 1, "not 2: the sweep was launched"
    assert "device = 'cuda:77' is not available" in done.stdout


@pytest.mark.parametrize(("launcher", "extra"), [("submitit_slurm", "slurm"), ("ray", "ray")])
def test_a_launcher_that_is_not_installed_is_told_with_its_extra(mmbench_here, launcher, extra):
    done = mmbench_here("run", "-m", f"hydra/launcher={launcher}", "metric=parameters", "seed=-1")
    assert done.returncode == 2
    assert f"pip install 'mmbench[{extra}]'" in done.stderr or "seed = -1" in done.stderr, done.stderr


def test_a_launcher_that_does_not_exist_is_told(mmbench_here):
    done = mmbench_here("run", "-m", "hydra/launcher=baisc")
    assert done.returncode == 2
    assert "hydra/launcher = 'baisc' is unknown; did you mean 'basic'? (allowed: basic, local, plan" in done.stderr


def test_a_sweep_chooses_its_launcher_and_the_command_line_another(mmbench_here, worker_server, tmp_path):
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "mine.yaml").write_text(
        "# @package _global_\ndefaults:\n  - override /hydra/launcher: basic\n"
        "hydra:\n  sweeper:\n    params:\n      metric: parameters\n"
    )
    own = ["-m", "-cd", ".", "sweeps=mine", *TINY]
    assert "through BasicLauncher" in mmbench_here("run", *own).stdout
    assert "Computed: " in mmbench_here("run", *own, "hydra/launcher=local").stdout


def test_the_end_of_a_jobs_time_is_no_failure_of_the_run_that_is_at_work():
    """submitit's handler raises wherever the job is, and a run makes a record of every error that it meets."""

    def end(number, frame):
        raise TimeoutError("timed out too many times")

    before = signal.signal(signal.SIGUSR2, end)
    try:
        with pytest.raises(TimeoutError, match="too many"), _errors_of_signals():
            try:
                signal.raise_signal(signal.SIGUSR2)
            except Exception:
                pytest.fail("the run would record it")
        assert signal.getsignal(signal.SIGUSR2) is end
    finally:
        signal.signal(signal.SIGUSR2, before)
