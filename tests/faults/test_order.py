"""The same runs give the same bits in any order, under one worker or several sweeps, interrupted or not."""

from __future__ import annotations

import random

import pytest

from mmbench.execute import _SUBJECTS, execute
from mmbench.store.store import Store

from .kill import completed, sweep
from .tiny import contents, several


def executed(root, runs, interrupt_at=None):
    """The contents of a store in which the runs were executed, from the start or from an interruption on."""
    _SUBJECTS.clear()
    store, stages = Store(root), []
    store.prepare()

    def notify(stage):
        stages.append(stage)
        if len(stages) == interrupt_at:
            raise KeyboardInterrupt

    for run in runs:
        execute(run, store, notify=notify)
    return contents(root)


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    return executed(tmp_path_factory.mktemp("reference") / "store", several())


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_the_runs_does_not_matter(tmp_path, reference, seed):
    assert executed(tmp_path, random.Random(seed).sample(several(), 8)) == reference


@pytest.mark.parametrize("stage", [1, 2, 3, 4, 7, 12])
def test_an_interruption_does_not_matter(tmp_path, reference, stage):
    runs = random.Random(stage).sample(several(), 8)
    with pytest.raises(KeyboardInterrupt):
        executed(tmp_path, runs, stage)
    store = Store(tmp_path)
    assert not store.running()
    assert len(store.record_ids()) < 8
    assert executed(tmp_path, runs[::-1]) == reference


@pytest.mark.slow
def test_sweeps_at_once_on_one_store_and_workers_do_not_matter(tmp_path):
    """Twice the same sweep and one that overlaps it, with one worker and two, against one after the other."""
    sweeps = [("seed=0,1", 2), ("seed=1,2", 1), ("seed=1,0", 1)]

    def options(seeds, slots):
        return [seeds, "metric=parameters,sharpness", f"hydra.launcher.slots={slots}"]

    together = [sweep(tmp_path, "together", *options(*each)) for each in sweeps]
    for process in together:
        said = process.communicate(timeout=300)[0]
        assert process.returncode == 0, said
        assert "8 runs: 8 done" in said
    completed(tmp_path, "alone", *options("seed=0,1,2", 1))
    assert contents(tmp_path / "together") == contents(tmp_path / "alone")
    assert len(list((tmp_path / "together" / "records").iterdir())) == 12
    for name in ("tmp", "locks", "running", "damaged"):
        assert not list((tmp_path / "together" / name).glob("*")), name
