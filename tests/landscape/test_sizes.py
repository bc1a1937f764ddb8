"""Sizes of planted clouds, whose values are known in closed form."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mmbench.landscape.sizes import (
    LENGTHS,
    SIZES,
    STARS,
    Cloud,
    Rule,
    largest_clique,
    largest_component,
    size_of,
    standard_error,
)
from mmbench.store.files import plain

PLAIN = Rule((1.0,), normaliser="none")


def cloud(points: np.ndarray[Any, Any], **changes: Any) -> Cloud:
    """The cloud of points (K, P) around the origin, all connected, unless changed."""
    everything = np.vstack([np.zeros(points.shape[1]), points])
    apart = np.linalg.norm(everything[:, None] - everything, axis=2)
    count = len(points)
    given = {
        "distances": apart, "filtered": apart / 2, "barriers": np.zeros((count, count)),
        "disagreement": np.zeros((count, count)), "losses": np.ones(count), "norm": 4.0, "parameters": 25,
    }  # fmt: skip
    return Cloud(**{**given, **changes})


def regular(count: int, edge: float) -> Cloud:
    """A regular simplex."""
    return cloud(np.eye(count) * edge / math.sqrt(2))


def walls(heights: dict[tuple[int, int], float], count: int, otherwise: float = 0.0) -> np.ndarray[Any, Any]:
    barriers = np.full((count, count), otherwise)
    for (i, j), height in heights.items():
        barriers[i, j] = barriers[j, i] = height
    np.fill_diagonal(barriers, 0)
    return barriers


@pytest.mark.parametrize("count", [2, 3, 5])
def test_a_regular_simplex(count: int) -> None:
    found = {name: size_of(name, regular(count, 3.0), PLAIN) for name in SIZES}
    dimensions = count - 1
    volume = math.sqrt(count) / math.factorial(dimensions) * (3 / math.sqrt(2)) ** dimensions
    assert found["distance"] == pytest.approx(3)
    assert found["displacement"] == pytest.approx(3 / math.sqrt(2))
    assert found["log_volume"] == pytest.approx(math.log(volume) / dimensions)
    assert found["participation_ratio"] == pytest.approx(dimensions)
    assert found["effective_rank"] == pytest.approx(dimensions)
    assert (found["component"], found["clique"]) == (1, 1)
    assert math.isnan(found["star_radius"])
    assert math.isnan(found["star_multiplier"])


def test_points_on_a_line_span_one_dimension() -> None:
    line = cloud(np.outer([1.0, 2.0, 4.0], np.ones(7)))
    assert size_of("participation_ratio", line, PLAIN) == pytest.approx(1)
    assert size_of("effective_rank", line, PLAIN) == pytest.approx(1)
    assert size_of("log_volume", line, PLAIN) < -10


def test_one_and_the_same_point_has_no_size() -> None:
    same = cloud(np.ones((3, 5)))
    for name in ("distance", "participation_ratio", "effective_rank"):
        assert size_of(name, same, PLAIN) == 0
    assert size_of("log_volume", same, PLAIN) == -math.inf


@pytest.mark.parametrize(("normaliser", "unit"), [("none", 1), ("norm", 4), ("sqrt_p", 5), ("filter", 2)])
def test_the_unit_of_lengths(normaliser: Any, unit: float) -> None:
    rule, reaches = Rule((1.0,), normaliser=normaliser), np.array([2.0, 2, 2])
    points = cloud(np.random.default_rng(0).normal(size=(3, 9)), reaches=reaches)
    for name in SIZES:
        plain, found = size_of(name, points, PLAIN), size_of(name, points, rule)
        if name == "log_volume":
            assert found == pytest.approx(plain - math.log(unit))
        else:
            assert found == pytest.approx(plain / unit if name in LENGTHS else plain)


def test_which_pairs_count() -> None:
    """0 - 1 - 2 is a chain, 3 stands alone: edges 1, 1, its ends 2 apart, the last 10 from the first."""
    points = np.array([[0.0], [1], [2], [10]])
    chain = cloud(points, barriers=walls({(0, 1): 0.1, (1, 2): 0.2}, 4, otherwise=9))
    rules = {gate: Rule((0.5,), gate=gate, normaliser="none") for gate in ("none", "pair", "component")}
    assert size_of("distance", chain, rules["none"]) == pytest.approx((1 + 2 + 10 + 1 + 9 + 8) / 6)
    assert size_of("distance", chain, rules["pair"]) == pytest.approx((1 + 1) / 6)
    assert size_of("distance", chain, rules["component"]) == pytest.approx((1 + 1 + 2) / 6)
    assert size_of("component", chain, rules["pair"]) == 3 / 4
    assert size_of("clique", chain, rules["pair"]) == 2 / 4


def test_the_thresholds_are_averaged_over() -> None:
    chain = cloud(np.array([[0.0], [1], [3]]), barriers=walls({(0, 1): 0.1, (1, 2): 0.3, (0, 2): 5}, 3))
    rule = Rule((0.05, 0.2, 0.4, 10), normaliser="none")
    assert size_of("distance", chain, rule) == pytest.approx((0 + 1 + (1 + 2) + (1 + 2 + 3)) / 3 / 4)
    assert size_of("component", chain, rule) == pytest.approx((1 + 2 + 3 + 3) / 3 / 4)
    assert size_of("clique", chain, rule) == pytest.approx((1 + 2 + 2 + 3) / 3 / 4)


def test_a_barrier_at_the_threshold_is_no_connection_and_an_infinite_one_never() -> None:
    pair = cloud(np.eye(2), barriers=walls({(0, 1): 0.5}, 2))
    assert size_of("component", pair, Rule((0.5,))) == 1 / 2
    assert size_of("component", pair, Rule((0.5 + 1e-9,))) == 1
    apart = cloud(np.eye(2), barriers=walls({(0, 1): math.inf}, 2))
    assert size_of("distance", apart, Rule((1e300,))) == 0


def test_relative_thresholds_are_in_units_of_the_mean_loss() -> None:
    pair = cloud(np.eye(2), barriers=walls({(0, 1): 0.5}, 2), losses=np.array([1.0, 9.0]))
    assert size_of("component", pair, Rule((0.09,), relative=True)) == 1 / 2
    assert size_of("component", pair, Rule((0.11,), relative=True)) == 1


def test_components_and_cliques_of_a_ring() -> None:
    ring = np.eye(5, dtype=bool)
    for i in range(5):
        ring[i, (i + 1) % 5] = ring[(i + 1) % 5, i] = True
    assert largest_component(ring).all()
    assert largest_clique(ring) == 2
    assert largest_clique(np.ones((4, 4), dtype=bool)) == 4
    assert largest_component(np.eye(1, dtype=bool)).tolist() == [True]


def test_stars_go_from_the_centroid() -> None:
    """The centroid of a regular simplex of edge d is d sqrt((K - 1) / 2K) from each point."""
    star = cloud(np.eye(3) * 3 / math.sqrt(2), reaches=np.array([1.0, 2, 6]))
    assert size_of("star_multiplier", star, PLAIN) == 3
    assert size_of("star_radius", star, PLAIN) == pytest.approx(3 * 3 * math.sqrt(2 / 6))


@pytest.mark.parametrize("count", [3, 6])
def test_the_random_cloud_is_what_random_directions_give(count: int) -> None:
    """Radii are kept, and in P dimensions distances are those of the closed form up to 1 / sqrt(P)."""
    dimensions, generator = 40_000, np.random.default_rng(count)
    points = generator.normal(size=(count, dimensions)) * np.linspace(1, 2, count)[:, None]
    drawn = cloud(points, barriers=walls({(0, 1): 7}, count))
    null = drawn.scattered()
    assert np.allclose(null.distances, drawn.distances, rtol=5 / math.sqrt(dimensions))
    assert np.array_equal(null.distances[0], drawn.distances[0])
    assert not null.barriers.any()
    for name in ("participation_ratio", "effective_rank"):
        assert size_of(name, regular(count, 2.0).scattered(), PLAIN) == pytest.approx(count - 1)


def test_a_tight_bundle_is_smaller_than_its_random_cloud() -> None:
    direction = np.ones(50)
    bundle = cloud(direction + 0.01 * np.random.default_rng(0).normal(size=(3, 50)))
    assert size_of("distance", bundle, PLAIN) < 0.1 * size_of("distance", bundle.scattered(), PLAIN)


def test_a_record_holds_all_of_a_cloud() -> None:
    generator = np.random.default_rng(0)
    points = cloud(generator.normal(size=(4, 6)), barriers=walls({(0, 3): 2.0, (1, 2): math.inf}, 4),
                   losses=generator.random(4), reaches=generator.random(4) + 1,
                   disagreement=walls({(0, 1): 0.3, (2, 3): 0.4}, 4))  # fmt: skip
    again = Cloud.of(json.loads(json.dumps(plain(points.listed()))), 25)
    for name in SIZES:
        for rule in (PLAIN, Rule((0.5, 3.0), True, "component", "filter")):
            assert size_of(name, again, rule) == pytest.approx(size_of(name, points, rule), rel=1e-12)
    assert Cloud.of(regular(2, 1.0).listed(), 25).reaches is None


def test_a_part_of_a_cloud_is_the_cloud_of_the_part() -> None:
    generator = np.random.default_rng(1)
    points, barriers = generator.normal(size=(4, 6)), walls({(0, 2): 2.0, (1, 2): 0.3}, 4)
    part = cloud(points, barriers=barriers).only([2, 0])
    alone = cloud(points[[2, 0]], barriers=barriers[np.ix_([2, 0], [2, 0])])
    for name in set(SIZES) - STARS:
        assert size_of(name, part, PLAIN) == pytest.approx(size_of(name, alone, PLAIN)), name


def by_hand(size: Callable[[Cloud], float], whole: Cloud) -> float:
    left = [size(whole.only([i for i in range(len(whole)) if i != out])) for out in range(len(whole))]
    return math.sqrt((len(left) - 1) / len(left) * sum((x - sum(left) / len(left)) ** 2 for x in left))


def test_the_error_is_the_jackknife() -> None:
    points = cloud(np.random.default_rng(2).normal(size=(5, 8)), barriers=walls({(0, 1): 2.0}, 5))

    def size(one: Cloud) -> float:
        return size_of("distance", one, PLAIN)

    assert standard_error(size, points) == pytest.approx(by_hand(size, points))
    assert standard_error(size, points, points) == pytest.approx(0, abs=1e-12)
    assert standard_error(size, points.only([0, 1])) is None
    assert standard_error(lambda one: size_of("star_radius", one, PLAIN), points) is None


def test_the_jackknife_covers_what_clouds_of_gaussian_points_do() -> None:
    """Over 400 clouds, the mean squared error stated is the variance seen, within a fifth."""
    generator = np.random.default_rng(3)

    def size(one: Cloud) -> float:
        return size_of("displacement", one, PLAIN)

    drawn = [cloud(generator.normal(size=(6, 3))) for _ in range(400)]
    errors = [standard_error(size, one) for one in drawn]
    stated = np.mean([error**2 for error in errors if error is not None])
    assert stated == pytest.approx(np.var([size(one) for one in drawn]), rel=0.2)
