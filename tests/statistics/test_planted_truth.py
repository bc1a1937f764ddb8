"""What a frame says about a planted truth: each kind of frame that misled an earlier version, with its right answer.

    python -m tests.statistics.test_planted_truth

prints the table of expected and found values.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from mmbench.report.verdict import verdict
from mmbench.statistics.judge import judge, ranked
from tests.records.synthetic import make_record

pytestmark = pytest.mark.filterwarnings("error")


def frame_of(
    effects: dict[tuple[str, str], np.ndarray],
    score: Callable[[np.ndarray, np.random.Generator, int], np.ndarray],
    sign: int = 1,
    seeds: int = 2,
    luck: float = 0.0,
    noise: float = 0.002,
    base_gain: Callable[[int], float] = lambda place: 0.1,
    controls: float | None = None,
) -> pd.DataFrame:
    """Runs of expansions e0, e1, ... whose true gains over a base model are `effects` of (data set, model).

    Args:
        effects: for each base model, the gains of its expansions.
        score: of true gains, a generator, and the place of the base model.
        sign: expected.
        seeds: trained base models of each.
        luck: standard deviation of what all gains over one trained base model share.
        noise: standard deviation of a single training.
        base_gain: the mean gain over a base model, by its place.
        controls: the gain of the control scratch, whose score is large; None: no control.
    """
    draw = np.random.default_rng(0)
    rows = []
    for place, ((dataset, model), true) in enumerate(effects.items()):
        scores = score(true, draw, place)
        for seed in range(seeds):
            shared = luck * draw.normal()
            names = [f"e{e}" for e in range(len(true))] + (["scratch"] if controls is not None else [])
            gains = [*true, *([controls] if controls is not None else [])]
            for e, (name, gain) in enumerate(zip(names, gains, strict=True)):
                value = base_gain(place) + gain + shared + noise * draw.normal()
                rows.append(
                    make_record(
                        dataset=dataset, model=model, expansion=name, budget=2.0, metric="manifold", seed=seed,
                        expected_sign=sign, score=float(scores[e]) if e < len(true) else 1e3, gain=value,
                        final_accuracy=0.5 + value, parameters=1000, axis="width",
                        configuration=f"{dataset}{model}{name}", base_configuration=f"{dataset}{model}",
                    )
                )  # fmt: skip
    return pd.DataFrame(rows)


def spread(bases: int, n: int = 12, each: float = 0.02) -> dict[tuple[str, str], np.ndarray]:
    draw = np.random.default_rng(1)
    return {("digits", f"m{place}"): each * draw.normal(size=n) for place in range(bases)}


class Found(NamedTuple):
    row: Any
    second: Any
    gain: Any
    text: str


def found_in(frame: pd.DataFrame) -> Found:
    judgement = judge(frame)
    rows = ranked(judgement.correlations).set_index("metric")
    gain = judgement.reliability.set_index("target").loc["gain"]
    second = rows.loc["second_training"] if "second_training" in rows.index else None
    return Found(rows.loc["manifold"], second, gain, " ".join(verdict(frame, judgement)))


def opposite_inside(true: np.ndarray, draw: np.random.Generator, place: int) -> np.ndarray:
    return true - 10 * place  # good inside, and the larger base gain has the lower scores


CASES: dict[str, tuple[pd.DataFrame, dict[str, Callable[[Found], Any]], dict[str, tuple[float, float]], list[str]]] = {
    "an oracle, and luck of the base model": (
        frame_of(spread(3), lambda true, draw, place: true, luck=0.03, noise=0.001),
        {
            "rho": lambda f: f.row["within_base_spearman"],
            "reliability": lambda f: f.gain["mean"],
            "second training": lambda f: f.second["within_base_spearman"],
            "ceiling": lambda f: f.gain["ceiling"],
        },
        {"rho": (0.97, 1), "reliability": (0.97, 1), "second training": (0.95, 1), "ceiling": (0.98, 1)},
        ["a larger manifold score goes with a larger gain", "about what a perfect predictor reaches"],
    ),
    "a control with a large score and no gain": (
        frame_of(spread(3), lambda true, draw, place: true, controls=-0.3),
        {"rho": lambda f: f.row["within_base_spearman"], "equal budget": lambda f: f.row["equal_budget_spearman"]},
        {"rho": (0.95, 1), "equal budget": (0.95, 1)},
        ["a larger manifold score goes with a larger gain"],
    ),
    "Simpson: right inside two architectures, wrong over both": (
        frame_of(spread(3), opposite_inside, base_gain=lambda place: 0.1 + 0.2 * place),
        {"rho": lambda f: f.row["within_base_spearman"], "overall": lambda f: f.row["spearman"]},
        {"rho": (0.95, 1), "overall": (-1, -0.3)},
        ["a larger manifold score goes with a larger gain", "of the opposite sign: it compares base models"],
    ),
    "two data sets of opposite sign": (
        frame_of(
            {("one", "m"): spread(1)["digits", "m0"], ("two", "m"): spread(2)["digits", "m1"]},
            lambda true, draw, place: true * (1 - 2 * place),
        ),
        {"rho": lambda f: f.row["within_base_spearman"], "I2": lambda f: f.row["within_base_i2"]},
        {"rho": (-0.1, 0.1), "I2": (0.9, 1)},
        ["neither that manifold predicts", "The base models contradict each other (I² = ", "on one, m", "on two, m"],
    ),
    "expected sign -1, as it should be": (
        frame_of(spread(3), lambda true, draw, place: -true, sign=-1),
        {"rho": lambda f: f.row["within_base_spearman"]},
        {"rho": (-1, -0.95)},
        ["a larger manifold score goes with a smaller gain ("],
    ),
    "nothing": (
        frame_of(spread(4), lambda true, draw, place: draw.normal(size=len(true))),
        {"p": lambda f: f.row["within_base_p"]},
        {"p": (0.05, 1)},
        ["neither that manifold predicts"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_the_planted_truth_is_found(case):
    frame, values, bounds, sentences = CASES[case]
    found = found_in(frame)
    for name, value in values.items():
        low, high = bounds[name]
        assert low <= value(found) <= high, name
    for sentence in sentences:
        assert sentence in found.text


def test_a_seed_that_is_missing_for_half_of_the_expansions_does_not_spoil_the_order():
    frame = frame_of(spread(3, n=20), lambda true, draw, place: true, luck=0.1, noise=0.001)
    odd = frame["expansion"].isin([f"e{place}" for place in range(1, 20, 2)])
    found = found_in(frame[~(odd & (frame["seed"] == 1))])
    assert found.row["within_base_spearman"] > 0.97
    assert found.gain["mean"] > 0.95


def main() -> None:
    """Print expected and found values of every case."""
    say = Console(soft_wrap=True, highlight=False).print
    for case, (frame, values, bounds, sentences) in CASES.items():
        found = found_in(frame)
        say(case)
        for name, value in values.items():
            say(f"  {name}: expected {bounds[name][0]:g} to {bounds[name][1]:g}, got {value(found):.3f}")
        for sentence in sentences:
            say(f"  {'said' if sentence in found.text else 'NOT SAID'}: {sentence}")


if __name__ == "__main__":
    main()
