"""Real worker processes, which are killed, hang, crash and take too much."""

from __future__ import annotations

import contextlib
import errno
import multiprocessing.synchronize
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from multiprocessing import forkserver
from pathlib import Path

import psutil
import pytest

from mmbench.config import Settings
from mmbench.errors import MmbenchError, StoreError
from mmbench.execute import execute
from mmbench.launcher import pool as pool_module
from mmbench.launcher.pool import Options
from mmbench.launcher.worker import STARTS, Slot, Worker, worker_context
from mmbench.metrics.hessian_trace import HessianTrace
from mmbench.metrics.parameters import Parameters
from mmbench.metrics.random import Random
from mmbench.metrics.sharpness import Sharpness
from mmbench.registry import checked
from mmbench.store.child import BEGUN
from mmbench.store.locks import lock
from mmbench.store.store import key_of

from .odd import executed, gone, loaded, pool_of, quick, records, until
from .small import small


def reason(root, run):
    record = records(root)[run.run_id]
    assert record["status"] == "failed"
    return record["error"]


def left_over(root, *but):
    """What a sweep should not leave in its store; a killed worker leaves the file of its lock, which is free."""
    names = {"tmp", "locks", "running", "damaged"} - {*but}
    return [str(path) for name in names for path in (root / name).glob("*")]


@pytest.fixture(scope="module", autouse=True)
def one_server(worker_server):
    """All sweeps here share one server of workers, which none of them ends; starting one takes seconds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pool_module, "end_server", lambda: None)
        yield


@pytest.fixture(scope="module")
def faults(tmp_path_factory):
    """One sweep of runs that fail in every way, with good ones before and behind each; two slots."""
    root = tmp_path_factory.mktemp("faults") / "store"
    bad = {does: quick(does, seed) for seed, does in enumerate(["raises", "dies", "crashes", "exits"])}
    good = [quick(f"nothing {i}", seed) for seed in range(len(bad)) for i in range(2)]
    runs = [run for i, run in enumerate(bad.values()) for run in (good[2 * i], run, good[2 * i + 1])]
    return root, executed(root, runs, slots=2), bad, good


@pytest.mark.parametrize(
    ("does", "said"),
    [
        ("raises", "ZeroDivisionError: seven by zero"),
        ("dies", "the worker process died (SIGKILL: perhaps out of memory)"),
        ("crashes", "the worker process died (exit code 7)"),
        ("exits", "SystemExit: 3"),
    ],
)
def test_a_fault_is_recorded_with_its_reason(faults, does, said):
    root, _, bad, _ = faults
    assert said in reason(root, bad[does])


@pytest.mark.parametrize(
    ("does", "limit", "said"),
    [
        ("hangs", {"time_limit": 3}, "it took longer than hydra.launcher.time_limit = 3 s"),
        ("hogs", {"memory_limit": 1.2}, "GiB, over hydra.launcher.memory_limit = 1.2"),
    ],
)
def test_what_exceeds_a_limit_is_ended(faults, does, limit, said):
    root, *_ = faults
    run = quick(does)  # whose base model is stored
    executed(root, [run], **limit)
    assert said in reason(root, run)


def test_a_fault_costs_its_own_run_only(faults):
    root, pool, bad, good = faults
    rows = records(root)
    assert {rows[run.run_id]["status"] for run in good} == {"done"}
    assert pool.outcome.statuses == {"done": len(good), "failed": len(bad)}
    assert pool.outcome.computed["base"] == 4, "each base model was trained once"
    assert left_over(root, "locks") == []


def test_after_the_faults_the_same_sweep_runs_the_failed_ones_only(faults):
    root, _, bad, good = faults
    again = pool_of(root, [*bad.values(), *good])
    assert again.outcome.stored == len(good)
    assert again.outcome.ended == len(good)


def test_a_worker_that_is_killed_is_replaced(tmp_path):
    runs, killed = [quick("hangs"), *(quick(f"nothing {i}") for i in range(3))], []

    def tick(pool):
        slot = pool.slots[0]
        if slot.job and slot.job.run == runs[0] and not slot.job.base_only and slot.worker and not killed:
            killed.append(slot.job.run)
            os.kill(slot.worker.pid, signal.SIGKILL)

    pool = executed(tmp_path, runs, tick, slots=1)
    assert pool.outcome.statuses == {"done": 3, "failed": 1}
    assert "SIGKILL" in reason(tmp_path, killed[0])


def helpers(name):
    """This process's helpers of multiprocessing."""
    children = psutil.Process().children()
    return [child.pid for child in children if f"multiprocessing.{name}" in " ".join(child.cmdline())]


VICTIMS = {
    "an idle worker": lambda worker: [worker],
    "its server, too": lambda worker: [*helpers("forkserver"), worker],
    "the helper of multiprocessing, too": lambda worker: [*helpers("resource_tracker"), worker],
}


@pytest.mark.parametrize("victims", VICTIMS.values(), ids=VICTIMS)
def test_what_is_killed_between_two_jobs_costs_no_run(tmp_path, victims):
    """Another sweep is at the score; so the worker has nothing to do when it is killed."""
    run, killed = quick(), []
    pool = pool_of(tmp_path, [run], slots=1)
    with contextlib.ExitStack() as held:
        held.enter_context(lock(tmp_path / "locks" / f"score-{key_of('score', run.score_inputs)}"))

        def tick():
            slot = pool.slots[0]
            if slot.free and pool.store.has("base", run.base_inputs) and not killed:
                killed.extend(victims(slot.worker.pid))
                for pid in killed:
                    os.kill(pid, signal.SIGKILL)
                held.close()

        pool.run(tick)
    assert killed
    assert pool.outcome.statuses == {"done": 1}
    assert left_over(tmp_path) == []


def test_retries_get_over_what_passes(tmp_path):
    runs = [
        quick("raises", once=tmp_path / "a"),
        quick("dies", once=tmp_path / "b"),
        quick("raises", seed=1),
        quick("nothing"),
    ]
    pool = executed(tmp_path / "store", runs, slots=2, retries=1)
    assert pool.outcome.statuses == {"done": 3, "failed": 1}
    assert "seven by zero" in reason(tmp_path / "store", runs[2])
    assert pool.outcome.ended == 4, "a run that is tried twice counts once"


def test_a_base_model_that_kills_its_workers_takes_only_its_own_runs_with_it(tmp_path):
    bad = [quick(f"nothing {i}", base="dies", factor=2.0 + i % 2) for i in range(4)]
    pool = executed(tmp_path, [*bad, quick()], slots=2)
    assert pool.outcome.statuses == {"done": 1, "failed": 4}
    assert all(reason(tmp_path, run).startswith("training its base model: the worker process died") for run in bad)


def test_a_base_model_that_cannot_be_made_is_told_by_each_of_its_runs(tmp_path):
    bad = [quick(f"nothing {i}", base="raises") for i in range(2)]
    executed(tmp_path, bad, slots=1)
    assert {reason(tmp_path, run) for run in bad} == {"ZeroDivisionError: seven by zero"}


def test_on_error_stop_finishes_what_runs_and_starts_no_more(tmp_path):
    runs = [quick("raises"), *(quick("nothing", seed) for seed in range(1, 6))]
    pool = executed(tmp_path, runs, slots=1, on_error="stop")
    assert pool.stopping == "a run failed, and hydra.launcher.on_error is stop"
    assert pool.outcome.statuses["failed"] == 1
    assert len(records(tmp_path)) == pool.outcome.ended < 6
    assert left_over(tmp_path) == []


def test_a_full_disk_ends_the_sweep_and_is_in_no_record(tmp_path):
    runs = [quick("fills the disk"), *(quick("nothing", seed) for seed in range(1, 6))]
    with pytest.raises(StoreError, match="No space left on device"):
        executed(tmp_path, runs, slots=1)
    assert all(record["status"] == "done" for record in records(tmp_path).values())
    assert len(records(tmp_path)) < 6
    assert left_over(tmp_path) == []


def test_a_record_that_cannot_be_written_by_the_launcher_ends_the_sweep(tmp_path, monkeypatch):
    pool = pool_of(tmp_path, [quick("dies"), quick(seed=1)], slots=1)

    def full(record):
        raise StoreError("No space left on device")

    monkeypatch.setattr(pool.store, "write_record", full)
    with pytest.raises(StoreError, match="No space left"):
        pool.run(lambda: None)


def test_workers_that_cannot_start_end_the_sweep_with_a_message(tmp_path, monkeypatch):
    births = []
    monkeypatch.setattr("mmbench.launcher.worker._introduce", crash)
    begin = pool_module.Slot.__init__

    def counted(self, *args):
        births.append(self)
        begin(self, *args)

    monkeypatch.setattr(pool_module.Slot, "__init__", counted)
    with pytest.raises(MmbenchError, match=r"no worker process can start: the worker process died \(exit code 5\)"):
        executed(tmp_path, [quick()], slots=1)
    assert len(births) == 1
    assert births[0]._starts == STARTS
    assert records(tmp_path) == {}


def crash():
    os._exit(5)


def test_records_depend_neither_on_slots_nor_on_the_order(tmp_path):
    """One expanded model with four metrics, whose group two slots halve, and others; times apart."""
    metrics = [Parameters(), Random(), Sharpness(images=64), HessianTrace(images=64, probes=2)]
    runs = [small(seed, metric=metric) for seed in (0, 0, 1) for metric in metrics[: 4 - 2 * seed]]
    tables = []
    for slots, seed in ((1, None), (2, 0), (2, 1)):
        order = runs if seed is None else random.Random(seed).sample(runs, len(runs))
        root = tmp_path / f"{slots} {seed}"
        executed(root, list(dict.fromkeys(order)), slots=slots)
        rows = records(root)
        tables.append({id: {k: v for k, v in row.items() if "seconds" not in k} for id, row in rows.items()})
    assert len(tables[0]) == 6
    assert {row["status"] for row in tables[0].values()} == {"done"}
    assert tables[0] == tables[1] == tables[2]


# -- two sweeps on one store -------------------------------------------------------------------------------------------


def test_a_worker_does_other_work_while_another_sweep_is_at_what_it_needs(tmp_path):
    """Another process computes the score of the large one, which comes first; the small one is done meanwhile."""
    large, small = quick(factor=3.0), quick(factor=2.0)
    pool, order = pool_of(tmp_path, [large, small], slots=1), []
    with contextlib.ExitStack() as held:
        held.enter_context(lock(tmp_path / "locks" / f"score-{key_of('score', large.score_inputs)}"))

        def tick():
            order.extend(records(tmp_path).keys() - set(order))
            if small.run_id in order:
                held.close()

        pool.run(tick)
    assert order == [small.run_id] or order == [small.run_id, large.run_id]
    assert pool.outcome.statuses == {"done": 2}


def test_a_run_that_another_sweep_has_finished_meanwhile_is_not_run_again(tmp_path):
    run = quick("raises")
    pool = pool_of(tmp_path, [run], slots=1)
    pool.store.write_record({**run.identity(), "status": "done", "error": None})
    pool.run(lambda: None)
    assert pool.outcome.statuses == {"done": 1}


def test_whom_a_sweep_waits_for_is_told_and_that_it_is_frozen(tmp_path, monkeypatch):
    monkeypatch.setattr(pool_module, "SOON", 0.1)
    run, told = quick(), []
    pool = pool_of(tmp_path, [run], slots=1)
    monkeypatch.setattr(pool.store, "tell", told.append)
    held = f"score-{key_of('score', run.score_inputs)}"
    code = (
        "import time; from pathlib import Path; from mmbench.store.locks import lock\n"
        "from mmbench.store.store import Store\n"
        f"with lock(Path({str(tmp_path / 'locks' / held)!r})):\n"
        f"    Store(Path({str(tmp_path)!r})).write_heartbeat({run.run_id!r}, 'score'); time.sleep(600)"
    )
    other = subprocess.Popen([sys.executable, "-c", code])
    until(pool.store.running)
    other.send_signal(signal.SIGSTOP)

    def tick():
        if any(f"kill -CONT {other.pid}" in message for message in told):
            other.kill()

    pool.run(tick)
    other.wait()
    assert f"process {other.pid} on" in told[0]
    assert "measuring the expanded model" in told[0]
    assert pool.outcome.statuses == {"done": 1}


# -- workers -----------------------------------------------------------------------------------------------------------


def test_workers_start_with_all_that_takes_seconds_to_load():
    slot = Slot(worker_context([]), Settings(device="cpu"))
    slow = {"timm", "torchvision", "torch._dynamo", "sklearn.datasets", "sklearn.model_selection", "mmbench.models.vit"}
    try:
        while slot.worker is None:
            slot.collect()
        slot.child.call(loaded, slow)
        assert [slot.child.answer(600)[1] for _ in range(2)] == [BEGUN, slow]
    finally:
        slot.stop()
        slot.close()


def test_workers_need_no_semaphore_so_no_shared_memory(tmp_path, monkeypatch):
    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(multiprocessing.synchronize.SemLock, "__init__", full)
    assert executed(tmp_path, [quick()], slots=1).outcome.statuses == {"done": 1}


def test_the_servers_socket_has_a_short_path_whatever_the_folder_for_temporary_files(tmp_path, monkeypatch):
    (long := tmp_path / ("x" * 120)).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    folders = []
    monkeypatch.setattr(forkserver, "ensure_running", lambda: folders.append(tempfile.gettempdir()))
    assert worker_context([]).get_start_method() == "forkserver"
    assert len(folders[0]) < 60
    assert tempfile.gettempdir() == str(long), "all else keeps it"


def test_where_no_server_can_be_started_each_worker_loads_by_itself(monkeypatch):
    def fail():
        raise OSError("no socket")

    monkeypatch.setattr(forkserver, "ensure_running", fail)
    assert worker_context([]).get_start_method() == "spawn"


# -- slots and devices -------------------------------------------------------------------------------------------------


class Sluggard:
    """A slot whose worker is there at once and never gets work."""

    gpus = 0

    def __init__(self, context, settings):
        self.settings, self.worker, self.job = settings, Worker(0, self.gpus), None


@pytest.mark.parametrize(
    ("gpus", "device", "slots", "threads", "devices"),
    [
        (0, "auto", "auto", 1, ["auto"] * 4),
        (0, "auto", "auto", 3, ["auto"]),
        (0, "cpu", "auto", 1, ["cpu"] * 4),
        (0, "cpu", 7, 1, ["cpu"] * 7),
        (0, "cpu", 99, 1, ["cpu"] * 8),
        (2, "auto", "auto", 1, ["cuda:0", "cuda:1"]),
        (2, "cuda", "auto", 1, ["cuda:0", "cuda:1"]),
        (2, "auto", 3, 1, ["cuda:0", "cuda:1", "cuda:0"]),
        (2, "auto", 1, 1, ["cuda:0"]),
        (2, "cuda:1", "auto", 1, ["cuda:1"]),
        (2, "cuda:1", 2, 1, ["cuda:1", "cuda:1"]),
        (2, "cpu", "auto", 1, ["cpu"] * 4),
    ],
)
def test_each_slot_has_its_device(tmp_path, monkeypatch, gpus, device, slots, threads, devices):
    monkeypatch.setattr(Sluggard, "gpus", gpus)
    monkeypatch.setattr(pool_module, "Slot", Sluggard)
    monkeypatch.setattr(pool_module, "worker_context", lambda runs: None)
    monkeypatch.setattr(pool_module, "cpus", lambda: 4)
    pool = pool_of(tmp_path, [quick(seed=seed) for seed in range(8)], slots=slots, device=device)
    pool.settings = pool.settings.model_copy(update={"threads": threads})
    pool._open(lambda: None)
    assert [slot.settings.device for slot in pool.slots] == devices


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("slots", 0, "must be auto or an integer >= 1"),
        ("slots", -1, "must be auto or an integer >= 1"),
        ("slots", 1.5, "must be auto or an integer >= 1"),
        ("slots", True, "must be auto or an integer >= 1"),
        ("slots", "many", "must be auto or an integer >= 1"),
        ("retries", -1, "retries = -1"),
        ("time_limit", 0, "time_limit = 0"),
        ("memory_limit", "8GB", "memory_limit = '8GB'"),
        ("on_error", "ignore", "on_error = 'ignore'"),
    ],
)
def test_options_that_make_no_sense_are_refused(option, value, said):
    with pytest.raises(MmbenchError, match=said):
        checked(Options, {option: value}, "hydra.launcher")


# -- memory ------------------------------------------------------------------------------------------------------------


class Busy:
    """A slot at work."""

    def __init__(self, pid):
        self.job, self.worker, self.since, self.ended_because = object(), Worker(pid, 0), time.monotonic(), None

    def end(self, why):
        self.ended_because = why


def guarded(tmp_path, monkeypatch, sizes, total, available, **options):
    pool = pool_of(tmp_path, [quick()], **options)
    pool.slots = [Busy(pid) for pid in sizes]
    monkeypatch.setattr(pool_module.memory, "resident", lambda pid: sizes[pid] * 2**30)
    monkeypatch.setattr(pool_module.memory, "total_and_available", lambda: (total * 2**30, available * 2**30))
    pool._guard()
    return [slot.ended_because for slot in pool.slots]


def test_the_largest_worker_ends_when_memory_is_nearly_used_up(tmp_path, monkeypatch):
    first, second = guarded(tmp_path, monkeypatch, {1: 20, 2: 40}, 64, 1)
    assert first is None
    assert second == (
        "only 1.0 of 64.0 GiB of memory were left, and it used the most, 40.0; use fewer hydra.launcher.slots"
    )


def test_nothing_ends_while_there_is_memory(tmp_path, monkeypatch):
    assert guarded(tmp_path, monkeypatch, {1: 20, 2: 30}, 64, 10) == [None, None]


def test_workers_do_not_pay_for_the_memory_that_others_take(tmp_path, monkeypatch):
    assert guarded(tmp_path, monkeypatch, {1: 1, 2: 1}, 64, 1) == [None, None]


def test_a_worker_over_its_limit_ends(tmp_path, monkeypatch):
    first, second = guarded(tmp_path, monkeypatch, {1: 1, 2: 3}, 64, 50, memory_limit=2)
    assert first is None
    assert second == "it used 3.0 GiB, over hydra.launcher.memory_limit = 2"


# -- the launcher ends -------------------------------------------------------------------------------------------------

LAUNCHER = """
import sys
sys.path[:0] = {path!r}
from tests.launcher.odd import executed, quick
from pathlib import Path
executed(Path({root!r}), [quick("hangs", seed) for seed in (0, 1)], slots=2)
"""


def test_workers_end_by_themselves_when_the_launcher_is_killed(tmp_path):
    code = LAUNCHER.format(path=[str(Path(__file__).parents[2])], root=str(tmp_path))
    launcher = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    store = pool_of(tmp_path, []).store
    deadline = time.monotonic() + 600
    while sorted(store.running().values()) != ["score", "score"]:
        assert time.monotonic() < deadline and launcher.poll() is None, launcher.communicate()[1]
        time.sleep(0.1)
    workers = psutil.Process(launcher.pid).children(recursive=True)
    assert len(workers) >= 3, "two workers and their server"
    launcher.kill()
    launcher.wait()
    assert gone(workers)
    assert store.running() == {}
    assert len(store.interrupted()) == 2
    assert execute(quick("nothing"), store)["status"] == "done", "no lock is left"


def test_an_error_of_whoever_watches_leaves_no_process(tmp_path):
    def tick(pool):
        if all(slot.job and not slot.job.base_only for slot in pool.slots) and len(pool.slots) == 2:
            workers.extend(psutil.Process(slot.worker.pid) for slot in pool.slots)
            raise KeyboardInterrupt

    workers = []
    with pytest.raises(KeyboardInterrupt):
        executed(tmp_path, [quick("hangs", seed) for seed in (0, 1)], tick, slots=2)
    assert len(workers) == 2
    assert gone(workers)
    assert left_over(tmp_path, "locks") == []
