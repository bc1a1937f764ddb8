"""Time bounds every step of the advice and is spread over the candidates. The clock counts operations of torch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch

import mmbench
from mmbench.advice.advise import LATE
from mmbench.advice.page import costs, unmeasured
from mmbench.advice.time_budget import OutOfTime, TimeBudget
from mmbench.errors import ConfigError
from mmbench.training.recipes import SGD
from tests.advice.test_advise import QUICK, data, network

TICK = 0.001
"""Seconds that pass whenever somebody looks at the clock: before every operation of torch."""


class Clock:
    """A clock that only moves when it is read."""

    now = 0.0

    def __call__(self) -> float:
        self.now += TICK
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    ticking = Clock()
    monkeypatch.setattr("mmbench.advice.advise.TimeBudget", partial(TimeBudget, clock=ticking))
    return ticking


def endless() -> None:
    total = torch.zeros(())
    while True:
        total += 1


def catching() -> None:
    """A network's own code may catch any error and go on."""
    total = torch.zeros(())
    while True:
        try:
            total += 1
        except Exception:
            continue


@pytest.mark.parametrize("step", [endless, catching])
def test_a_step_is_ended_from_inside(step: Callable[[], None]) -> None:
    budget = TimeBudget(1.0, Clock())
    with pytest.raises(OutOfTime), budget.at_most(0.5):
        step()
    assert 0.5 <= budget.spent < 0.51
    with pytest.raises(OutOfTime), budget.at_most():
        step()
    assert 1.0 <= budget.spent < 1.01
    assert budget.left == 0


def test_without_a_limit_nothing_is_watched() -> None:
    unlimited = Clock()
    with TimeBudget(None, unlimited).at_most():
        start = unlimited.now
        torch.zeros(3).add(1)
    assert unlimited.now == start


@pytest.mark.parametrize("ticks", range(2, 40, 3))
def test_whenever_it_ends_torch_is_left_as_it_was(ticks: int) -> None:
    random = torch.get_rng_state()
    cleaned = torch.zeros(())
    with pytest.raises(OutOfTime), TimeBudget(ticks * TICK, Clock()).at_most():
        while True:
            with torch.random.fork_rng([]), torch.no_grad(), torch.autocast("cpu", enabled=True):
                try:
                    torch.rand(3) + 1
                finally:
                    cleaned.fill_(1.0)
            with torch.inference_mode(), torch.set_grad_enabled(False):
                torch.ones(3) + 1
    assert torch.is_grad_enabled() and not torch.is_inference_mode_enabled() and not torch.is_autocast_enabled("cpu")
    assert torch.equal(torch.get_rng_state(), random)


def test_the_share_of_a_candidate() -> None:
    budget = TimeBudget(100.0, lambda: 0.0)
    assert budget.share(10, []) == 50  # nothing is known: half, so that one candidate cannot take it all
    assert budget.share(10, [1.0, 2.0, 30.0]) == 10  # its equal part
    assert budget.share(50, [1.0, 8.0, 9.0]) == 16  # not enough for all: some are measured rather than none
    assert budget.share(50, [80.0]) == 100


@pytest.mark.parametrize("family", ["vit", "resnet", "mlp"])
@pytest.mark.parametrize("metric", ["injected_randomness", "branch_distance", "manifold", "hessian_trace"])
def test_the_advice_ends_in_time_whatever_is_measured(family: str, metric: str, clock: Clock) -> None:
    start = clock.now
    table = mmbench.advise(network(family), data(), metrics=metric, training=SGD(steps=4000), seconds=12)
    assert clock.now - start < 12 * 1.02 + 0.5
    assert 11.9 < table.attrs["seconds"] < 12 * 1.02 + 0.5
    late = table[table["rank"].isna()]
    assert len(late) + table.attrs["measured"] == len(table) == table.attrs["candidates"]
    assert late["reason"].str.startswith(LATE).all()
    assert late["score"].isna().all() and not late["decided"].any()


def test_where_time_does_not_suffice_for_all_unlike_ones_are_measured(clock: Clock) -> None:
    start = clock.now
    full = mmbench.advise(network("vit"), data(), metrics="training_loss", training=QUICK, seconds=10_000)
    assert full.attrs["measured"] == full.attrs["candidates"] > 20
    table = mmbench.advise(
        network("vit"), data(), metrics="training_loss", training=QUICK, seconds=(clock.now - start) / 8
    )
    measured = table[table["rank"].notna()]
    assert 3 <= len(measured) < table.attrs["candidates"]
    assert measured["expansion"].nunique() == len(measured)
    assert not table["decided"].any()  # each was measured once
    (sentence,) = costs(table)
    assert f"Measured {len(measured)} of {len(table)} candidates" in sentence and "others may be better" in sentence
    names = ", ".join(unmeasured(table))
    assert all(f"{row.expansion} {row.axis}" in names for row in table[table["rank"].isna()].itertuples())


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Callable[[set[str]], None]:
    """Make operators endless."""
    from mmbench.expansions import apply

    real = apply.Expander

    def install(names: set[str]) -> None:
        def expander(model: Any, operator: Any, **given: Any) -> Any:
            if operator.name in names:
                endless()
            return real(model, operator, **given)

        monkeypatch.setattr("mmbench.advice.advise.Expander", expander)

    return install


@pytest.mark.parametrize("name", ["net2wider", "random_pad", "zero_pad"], ids=["first", "middle", "last"])
def test_one_endless_candidate_does_not_take_the_time_of_the_others(
    name: str, clock: Clock, slow: Callable[[set[str]], None]
) -> None:
    slow({name})
    options = {"metrics": "training_loss", "training": QUICK, "expansions": ["net2wider", "random_pad", "zero_pad"]}
    table = mmbench.advise(network(), data(), seconds=200, **options)
    late = table[table["rank"].isna()]
    assert set(late["expansion"]) == {name}
    assert late["reason"].str.match(LATE + r": it takes more than [\d.e+]+ s").all()
    assert table.attrs["measured"] >= 4
    assert table.attrs["seconds"] < 201


def test_if_nothing_could_be_measured_it_says_so(clock: Clock, slow: Callable[[set[str]], None]) -> None:
    slow({"net2wider", "zero_pad"})
    table = mmbench.advise(network(), data(), expansions="net2wider, zero_pad", seconds=20)
    assert table.attrs["measured"] == 0 and table["rank"].isna().all() and not table["decided"].any()
    (sentence,) = costs(table)
    assert f"Measured 0 of {len(table)} candidates" in sentence and "no choice" in sentence


def test_too_little_time_to_begin_is_told(clock: Clock) -> None:
    with pytest.raises(ConfigError, match=r"seconds = 0\.002 is too short"):
        mmbench.advise(network(), data(), seconds=0.002)


def test_a_limit_changes_no_score() -> None:
    options: dict[str, Any] = {"training": QUICK, "expansions": "net2wider,random_pad", "seed": 3}
    free, limited = (mmbench.advise(network(), data(), seconds=seconds, **options) for seconds in (None, 10_000))
    columns = ["rank", "expansion", "axis", "score", "score_stderr", "decided", "rounds"]
    assert free[columns].equals(limited[columns])
