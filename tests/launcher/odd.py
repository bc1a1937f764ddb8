"""Quick runs, and runs that do what runs should not. Workers load this module, too."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from mmbench.config import Settings
from mmbench.data.digits import Digits
from mmbench.errors import StoreError
from mmbench.expansions.zero_pad import ZeroPad
from mmbench.launcher.pool import Options, Pool
from mmbench.metrics.base import Estimate, Metric
from mmbench.models.mlp import MLP
from mmbench.run import Run
from mmbench.store.processes import started
from mmbench.store.store import Store
from mmbench.training.recipes import SGD


class Odd(Metric):
    """Does something, and then has a score; with `once`, a file, it does it where that file is not there yet."""

    name = "odd"
    expected_sign = 0
    does: str = "nothing"
    once: str = ""

    def measure(self, subject):
        if not self.once or not Path(self.once).exists():
            if self.once:
                Path(self.once).touch()
            act(self.does)
        return Estimate(1.0, 0.0)


class OddMLP(MLP):
    """Does something before its base model is trained."""

    name = "odd_mlp"
    does: str = "nothing"

    def build(self, shape):
        act(self.does)
        return super().build(shape)


def act(does):
    if does == "raises":
        raise ZeroDivisionError("seven by zero")
    if does == "dies":
        os.kill(os.getpid(), signal.SIGKILL)
    if does == "crashes":
        os._exit(7)
    if does == "exits":
        sys.exit(3)
    if does == "hangs":
        time.sleep(600)
    if does == "hogs":
        _ballast = b"x" * 2**30
        time.sleep(600)
    if does == "fills the disk":
        raise StoreError("could not write to results: No space left on device; free some space")
    if does.startswith("waits for "):
        deadline = time.monotonic() + 600
        while not Path(does.removeprefix("waits for ")).exists() and time.monotonic() < deadline:
            time.sleep(0.01)


def quick(does="nothing", seed=0, once="", base="", factor=2.0):
    """A run of some hundredths of a second, and what it does beside."""
    model = OddMLP(hidden=(4,), does=base) if base else MLP(hidden=(4,))
    recipe = SGD(steps=5, warmup_steps=1)
    return Run(model, Digits(train_size=128), ZeroPad(factor=factor), Odd(does=does, once=str(once)), recipe, seed)


def loaded(modules):
    """Which of the modules are loaded in this process."""
    return {name for name in modules if name in sys.modules}


class Told(list):
    """What a store has told, and the store."""

    def __init__(self, root):
        self.store = Store(root, self.append)
        self.store.prepare()


def pool_of(root, runs, *, device="cpu", **options):
    return Pool(runs, Told(root).store, Settings(results=str(root), device=device), Options(**options))


def executed(root, runs, tick=lambda pool: None, **options):
    """The pool after its end."""
    pool = pool_of(root, runs, **options)
    pool.run(lambda: tick(pool))
    return pool


def records(root):
    store = Store(root)
    return {run_id: store.read_record(run_id) for run_id in store.record_ids()}


def until(condition, seconds=600):
    """Wait for a condition, and return it."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, "in vain"
        time.sleep(0.05)
    return value


def gone(processes, seconds=300.0):
    """Whether all of them end in time. In a container, the dead may never be buried."""
    deadline = time.monotonic() + seconds
    while any(started(process.pid) is not None for process in processes) and time.monotonic() < deadline:
        time.sleep(0.05)
    return all(started(process.pid) is None for process in processes)
