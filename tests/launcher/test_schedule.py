from __future__ import annotations

import random
import time

import pytest

from mmbench.data.digits import Digits
from mmbench.expansions.net2wider import Net2Wider
from mmbench.launcher.schedule import PAUSE, Job, Schedule, grouped
from mmbench.metrics.sharpness import Sharpness
from mmbench.models.mlp import MLP
from mmbench.run import Run
from mmbench.training.recipes import SGD


class Clock:
    """A clock that goes when it is told to."""

    now = 100.0

    def __call__(self):
        return self.now


def run(seed=0, factor=2.0, metric=0):
    return Run(MLP(hidden=(4,)), Digits(), Net2Wider(factor=factor), Sharpness(images=metric + 64), SGD(), seed)


def runs_of(seeds=1, factors=1, metrics=1):
    """Metrics change fastest, as in a sweep."""
    return [run(s, 2.0 + f, m) for s in range(seeds) for f in range(factors) for m in range(metrics)]


def schedule(runs, there=False, **options):
    return Schedule(runs, lambda run: there, clock=Clock(), **options)


def group_of(job):
    return job.run.seed, job.run.expansion.factor


def drain(plan, slots=1):
    """All jobs, as slots of equal speed take them."""
    jobs, at = [], {}
    while True:
        for slot in range(slots):
            if slot not in at and (job := plan.take(slot)) is not None:
                at[slot] = job
                jobs.append(job)
        if not at:
            return jobs
        for slot in list(at):
            plan.done(at.pop(slot))


@pytest.mark.parametrize("slots", [1, 2, 3, 7, 100])
@pytest.mark.parametrize("there", [False, True], ids=["bases missing", "bases there"])
def test_every_run_is_handed_out_once(slots, there):
    runs = runs_of(3, 2, 4)
    jobs = drain(schedule(runs, there), slots)
    assert sorted(job.run.run_id for job in jobs if not job.base_only) == sorted(run.run_id for run in runs)
    assert sum(job.base_only for job in jobs) == (0 if there else 3)


def test_a_base_model_comes_before_its_groups_and_is_trained_once():
    plan = schedule(runs_of(1, 2, 2))
    base = plan.take(0)
    assert base.base_only
    assert plan.take(1) is None, "all else waits for the base model"
    plan.done(base)
    assert not plan.take(0).base_only
    assert not plan.take(1).base_only


def test_a_base_model_that_is_there_is_not_trained():
    assert not schedule(runs_of(), there=True).take(0).base_only


def test_two_slots_share_the_groups_of_one_base_model():
    plan = schedule(runs_of(1, 2, 2), there=True)
    assert group_of(plan.take(0)) != group_of(plan.take(1))


def test_another_base_model_is_trained_while_one_is_in_training():
    plan = schedule(runs_of(2))
    first, second = plan.take(0), plan.take(1)
    assert first.base_only and second.base_only
    assert first.run.seed != second.run.seed
    assert plan.take(2) is None


def test_groups_come_before_further_base_models():
    plan = schedule(runs_of(3, 2))
    base = plan.take(0)
    plan.done(base)
    assert plan.take(0).run.seed == base.run.seed
    assert plan.take(1).run.seed == base.run.seed
    assert plan.take(2).base_only


def test_a_group_stays_together():
    jobs = drain(schedule(runs_of(3, 2, 4), there=True))
    order = list(dict.fromkeys(map(group_of, jobs)))
    assert list(map(group_of, jobs)) == [group for group in order for _ in range(4)]


def test_the_runs_of_a_group_go_to_one_slot_while_there_is_other_work():
    plan, seen = schedule(runs_of(4, 1, 5), there=True), {}
    for _ in range(10):
        for slot in (0, 1):
            seen.setdefault(group_of(plan.take(slot)), set()).add(slot)
    assert len(seen) == 4
    assert all(len(slots) == 1 for slots in seen.values())


def test_the_largest_come_first():
    runs = runs_of(2, 3, 2)
    random.Random(0).shuffle(runs)
    factors = [job.run.expansion.factor for job in drain(schedule(runs, there=True))]
    assert factors == sorted(factors, reverse=True)
    assert [len(group) for group in grouped(runs)] == [2] * 6


def test_the_largest_come_first_though_their_base_model_came_last():
    plan = schedule([run(0, 2.0), run(0, 2.5), run(1, 3.0)])
    large, small = plan.take(0), plan.take(1)
    assert (large.run.seed, small.run.seed) == (1, 0)
    plan.done(small)
    plan.done(large)
    assert [plan.take(slot).run.expansion.factor for slot in range(3)] == [3.0, 2.5, 2.0]


def test_a_slot_without_work_takes_half_of_the_longest_group():
    plan = schedule(runs_of(1, 1, 9), there=True)
    assert [plan.take(slot).run.metric.images - 64 for slot in (0, 1, 2)] == [0, 5, 3]
    rest = [plan.take(slot).run.metric.images - 64 for _ in range(2) for slot in (0, 1, 2)]
    assert sorted(rest) == [1, 2, 4, 6, 7, 8]
    assert plan.take(0) is None


def test_as_many_runs_wait_as_have_not_been_handed_out():
    plan = schedule(runs_of(1, 2, 2))
    plan.done(plan.take(0))
    assert plan.waiting == 4
    job = plan.take(0)
    assert plan.waiting == 3
    plan.busy(0, job)
    assert plan.waiting == 4


def test_no_slot_is_idle_while_there_is_work_that_waits_for_nobody():
    """Slots of random speed: one is idle only if every run left waits for a base model in training."""
    chance = random.Random(0)
    plan, at, trained = schedule(runs_of(4, 3, 5)), {}, set()
    while plan.waiting or at:
        for slot in range(5):
            if slot not in at:
                job = plan.take(slot)
                if job is not None:
                    at[slot] = job
                    assert job.base_only or job.run.seed in trained
        if len(at) < 5:
            in_training = {job.run.seed for job in at.values() if job.base_only}
            left = {run.seed for run in runs_of(4)} - trained - in_training
            assert not left, "a base model could be trained"
            assert plan.waiting == 0 or in_training
        slot = chance.choice(sorted(at))
        job = at.pop(slot)
        trained |= {job.run.seed} if job.base_only else set()
        plan.done(job)


# -- another sweep is at it --------------------------------------------------------------------------------------------


def test_what_another_sweep_computes_waits_while_there_is_other_work():
    plan = schedule([run(0, 3.0), run(0, 2.0)], there=True)
    first = plan.take(0)
    plan.busy(0, first)
    other = plan.take(0)
    assert other.run != first.run
    assert plan.take(1) is None
    plan.clock.now += PAUSE
    assert plan.take(1) == first


def test_a_base_model_that_another_sweep_trains_is_asked_for_again_after_other_work():
    plan = schedule(runs_of(2))
    first = plan.take(0)
    plan.busy(0, first)
    second = plan.take(0)
    assert second.base_only and second.run.seed != first.run.seed
    assert plan.take(1) is None
    plan.clock.now += PAUSE
    assert plan.take(1) == first
    plan.done(first)
    assert plan.take(1) == Job(first.run)


def test_the_metrics_of_a_busy_group_take_turns():
    """The expanded model is being trained elsewhere; each metric's score can be computed meanwhile."""
    plan, seen = schedule(runs_of(1, 1, 3), there=True), []
    for _ in range(3):
        job = plan.take(0)
        seen.append(job.run.metric.images - 64)
        plan.busy(0, job)
        plan.clock.now += PAUSE
    assert sorted(seen) == [0, 1, 2]
    assert len(drain(plan)) == 3


def test_hours_of_waiting_leave_no_trace():
    plan = schedule(runs_of(1, 1, 2), there=True)
    for _ in range(1000):
        plan.busy(0, plan.take(0))
        plan.clock.now += PAUSE
    assert len(plan._ready._heap) == 1
    assert plan.waiting == 2


# -- failures ----------------------------------------------------------------------------------------------------------


def test_a_failed_run_is_tried_again_as_often_as_was_asked_for():
    plan = schedule(runs_of(1, 1, 2), there=True, retries=2)
    tried = []
    while (job := plan.take(0)) is not None:
        tried.append(job.run.metric.images - 64)
        if job.run.metric.images - 64 == 0:
            plan.again(job)
    assert tried.count(0) == 3
    assert tried.count(1) == 1
    assert tried[1] == 1, "the others come first"


def test_without_retries_a_failed_run_is_done_with():
    plan = schedule(runs_of(), there=True)
    assert not plan.again(plan.take(0))
    assert plan.take(0) is None


def test_a_worker_that_dies_takes_its_own_run_only():
    plan = schedule(runs_of(1, 1, 3), there=True)
    job = plan.take(0)
    assert plan.died(job) == [job.run]
    assert len(drain(plan)) == 2


def test_a_run_whose_worker_dies_is_tried_again():
    plan = schedule(runs_of(), there=True, retries=1)
    job = plan.take(0)
    assert plan.died(job) == []
    assert plan.take(0) == job
    assert plan.died(job) == [job.run]
    assert plan.take(0) is None


def test_a_worker_that_dies_at_a_base_model_costs_one_run_and_a_second_all():
    plan = schedule(runs_of(2, 2, 2))
    first = plan.take(0)
    assert plan.died(first) == [first.run]
    second = plan.take(0)
    assert second.base_only and second.run.seed == first.run.seed and second.run != first.run
    victims = plan.died(second)
    assert len({run.run_id for run in victims}) == 3
    assert {run.seed for run in victims} == {first.run.seed}
    rest = drain(plan)
    assert {job.run.seed for job in rest} == {1 - first.run.seed}, "the other base model's runs go on"
    assert len(rest) == 1 + 4
    assert plan.waiting == 0


def test_a_base_model_of_one_run_dies_with_it():
    plan = schedule(runs_of())
    job = plan.take(0)
    assert plan.died(job) == [job.run]
    assert plan.take(0) is None
    assert plan.waiting == 0


def test_retries_count_for_base_models_too():
    plan = schedule(runs_of(1, 1, 2), retries=3)
    for _ in range(3):
        assert plan.died(plan.take(0)) == []
    plan.done(plan.take(0))
    assert len(drain(plan)) == 2


@pytest.mark.parametrize(
    ("seeds", "factors", "metrics"), [(10_000, 1, 1), (1, 1, 10_000), (100, 2, 50), (1, 10_000, 1)]
)
@pytest.mark.parametrize("there", [False, True], ids=["bases missing", "bases there"])
def test_ten_thousand_runs_are_handed_out_at_once(monkeypatch, seeds, factors, metrics, there):
    monkeypatch.setattr("mmbench.launcher.schedule.grouped", lambda runs: groups)
    groups = [
        [Fake(seed, factor, metric) for metric in range(metrics)] for seed in range(seeds) for factor in range(factors)
    ]
    plan = schedule([run for group in groups for run in group], there)
    start = time.process_time()
    jobs = drain(plan, slots=16)
    assert sum(not job.base_only for job in jobs) == 10_000
    assert time.process_time() - start < 5, "a fifth of a second, if the cost does not grow with the square"


class Fake:
    """A run by its numbers."""

    def __init__(self, seed, factor, metric):
        self.seed, self.run_id = seed, f"{seed} {factor} {metric}"
        self.base_inputs = {"seed": seed}
