"""Surveys of clouds whose losses, barriers, volumes and radii are known in closed form."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from mmbench import expand
from mmbench.data.base import Split
from mmbench.landscape.folding import fold_batch_norms
from mmbench.landscape.sizes import Rule, size_of
from mmbench.landscape.survey import FARTHEST, HALVINGS, survey
from mmbench.models.base import MODELS

from .conftest import problem

each_family = pytest.mark.parametrize("family", MODELS.names())
ONE_IMAGE = Split(torch.zeros(1, 1, 1, 1, dtype=torch.float64), torch.zeros(1, dtype=torch.long))
HALF_A_STEP = 2 ** (0.5 / 2**HALVINGS) * (1 + 1e-9)
"""How far off the end of a ray may be: half of the last bracket."""


class Toy(nn.Module):
    """A network of parameters w whose cross-entropy on label 0 is a given function of w."""

    def __init__(self, loss: Callable[[torch.Tensor], torch.Tensor], at: list[float]) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.tensor([at], dtype=torch.float64))  # a matrix of one row: one filter
        self.loss = loss

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        margin = -torch.log(torch.expm1(self.loss(self.w[0])))  # log(1 + exp(-margin)) is the loss
        return torch.stack([margin, torch.zeros_like(margin)]).expand(len(images), 2)


def bowl(w: torch.Tensor) -> torch.Tensor:
    """1 + w' diag(1, 4, 9) w / 2."""
    return 1 + 0.5 * (torch.tensor([1.0, 4, 9]).to(w) * w * w).sum()


def two_wells(w: torch.Tensor) -> torch.Tensor:
    """Minima at x = 1 and x = -1, a wall of height 1 between them."""
    return 0.5 + (w[0] ** 2 - 1) ** 2 + w[1] ** 2


def test_a_quadratic_bowl_has_no_barrier_and_its_volume_and_radii_are_known() -> None:
    points = [[0.3, 0.0, 0.0], [0.0, 0.3, 0.0], [0.0, 0.0, 0.3], [-0.3, -0.3, -0.3]]
    seen = survey(Toy(bowl, [0.1, 0, 0]), [Toy(bowl, at) for at in points], ONE_IMAGE, alphas=11, rise=0.5)
    assert seen.cloud.barriers.max() <= 1e-12
    edges = np.array(points[1:]) - points[0]
    volume = abs(np.linalg.det(edges)) / 6
    plain = Rule((1e-9,), normaliser="none")
    assert size_of("log_volume", seen.cloud, plain) == pytest.approx(math.log(volume) / 3, rel=1e-9)
    assert size_of("component", seen.cloud, plain) == 1
    assert seen.cloud.distances[0, 1] == pytest.approx(0.2)
    for reach, point in zip(seen.cloud.reaches, points, strict=True):  # the centroid is the bottom
        exact = math.sqrt(2 * 0.5 / float(np.array([1, 4, 9]) @ np.square(point)))
        assert exact / HALF_A_STEP <= reach <= exact * HALF_A_STEP


def test_two_wells_have_their_barrier_and_two_components() -> None:
    at = [[1.0, 0.1], [-1.0, 0.1], [1.0, -0.1]]
    seen = survey(Toy(two_wells, [0, 0]), [Toy(two_wells, point) for point in at], ONE_IMAGE, alphas=3)
    assert seen.cloud.barriers[0, 1] == pytest.approx(1, abs=1e-12)
    assert seen.cloud.barriers[1, 2] == pytest.approx(1 - 0.01, abs=1e-12)  # the middle is the lower by y^2
    assert seen.cloud.barriers[0, 2] == 0
    assert size_of("component", seen.cloud, Rule((0.5,))) == pytest.approx(2 / 3)
    assert size_of("component", seen.cloud, Rule((1.5,))) == 1


def test_refining_finds_a_peak_off_the_grid() -> None:
    """27/4 x^2 (1 - x) is highest, 1, at 2/3; the middle sees 27/32."""

    def skewed(w: torch.Tensor) -> torch.Tensor:
        return 0.5 + 27 / 4 * w[0] ** 2 * (1 - w[0])

    ends = [Toy(skewed, [0.0]), Toy(skewed, [1.0])]
    heights = [survey(ends[0], ends, ONE_IMAGE, 3, refine).cloud.barriers[0, 1] for refine in (0, 1, 3, 8)]
    assert heights[0] == pytest.approx(27 / 32)
    assert heights == sorted(heights)
    assert heights[2] > 0.98
    assert heights[-1] == pytest.approx(1, abs=2e-3)


def test_a_ray_that_never_rises_ends_at_the_farthest() -> None:
    def flat(w: torch.Tensor) -> torch.Tensor:
        return 0.5 + 0 * w.sum()

    seen = survey(Toy(flat, [0.0]), [Toy(flat, [1.0]), Toy(flat, [2.0])], ONE_IMAGE, rise=0.1)
    assert seen.cloud.reaches.tolist() == [FARTHEST, FARTHEST]


def test_a_ray_that_rises_before_the_point_is_shorter_than_one() -> None:
    seen = survey(Toy(bowl, [0.0] * 3), [Toy(bowl, [0, 0, 4.0]), Toy(bowl, [0, 0, -4.0])], ONE_IMAGE, rise=0.5)
    exact = math.sqrt(2 * 0.5 / (9 * 16))
    assert all(exact / HALF_A_STEP <= reach <= exact * HALF_A_STEP for reach in seen.cloud.reaches)


class DeepLinear(nn.Module):
    """Logits w2 w1 x. Rescaling, (c w1, w2 / c), keeps the function: a curved manifold of minima."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        first, second = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((5, 4), (3, 5)))
        self.first, self.second = nn.Parameter(scale * first), nn.Parameter(second / scale)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.flatten(1) @ self.first.T @ self.second.T


@pytest.mark.parametrize("scale", [1.0, 1.5, 4.0])
def test_a_deep_linear_network_has_the_barrier_of_its_hyperbola(scale: float) -> None:
    """On the line the product is multiplied by 1 + a (1 - a) (c + 1/c - 2)."""
    images = torch.randn(30, 1, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    first, second = DeepLinear(1.0), DeepLinear(scale)
    labels = (-first(images)).argmax(1).detach()  # wrong everywhere: louder is worse
    found = survey(first, [first, second], Split(images, labels), alphas=5).cloud
    with torch.no_grad():
        losses = [
            float(cross_entropy(first(images) * (1 + a * (1 - a) * (scale + 1 / scale - 2)), labels))
            for a in (0, 0.25, 0.5, 0.75, 1)
        ]
    assert found.barriers[0, 1] == pytest.approx(max(losses) - losses[0], abs=1e-12)
    lengths = [float((a - b).detach().norm()) for a, b in zip(first.parameters(), second.parameters(), strict=True)]
    assert found.distances[1, 2] == pytest.approx(math.hypot(*lengths))


@each_family
def test_expansions_that_share_an_index_map_are_joined_by_a_line_of_one_function(family: str) -> None:
    """The outgoing weights of copies add up to the old ones all along the line between two ways to share them."""
    small, data = problem(family)
    splits = ("projection", "unequal", "paired")
    large = [expand(small, "net2wider", split=split, factor=2.0, seed=5) for split in splits]
    seen = survey(large[0], large, data, alphas=11, statistics="keep")
    assert seen.cloud.barriers.max() <= 1e-10
    assert seen.cloud.disagreement.max() <= 1e-10
    assert seen.cloud.distances[1:, 1:][np.triu_indices(3, 1)].min() > 0.1, "all the same point, nothing tested"


@each_family
def test_distances_and_looks_by_hand(family: str) -> None:
    first, data = problem(family)
    second = copy.deepcopy(first)
    with torch.no_grad():
        for parameter in second.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(2)).double()
    seen = survey(first, [first, second], data, alphas=3, statistics="keep")
    pairs = list(zip(first.parameters(), second.parameters(), strict=True))
    apart = math.sqrt(sum(float((a - b).detach().square().sum()) for a, b in pairs))
    assert seen.cloud.distances[1, 2] == pytest.approx(apart, rel=1e-12)
    assert seen.cloud.distances[0].tolist() == pytest.approx([0, 0, apart], rel=1e-12)
    shares = []
    for a, b in pairs:
        for row, other in zip(a, b, strict=True) if a.dim() > 1 else ():
            norm = (2 * row.square().sum() + other.square().sum()) / 3  # start, first and second
            if norm > 0:
                shares.append(float((row - other).square().sum() / norm))
    assert seen.cloud.filtered[1, 2] == pytest.approx(math.sqrt(sum(shares) / len(shares)), rel=1e-9)
    with torch.no_grad():
        logits = [model(data.images) for model in (first, second)]
    chances = [row.softmax(1) for row in logits]
    assert seen.cloud.losses[1] == pytest.approx(float(cross_entropy(logits[1], data.labels)), rel=1e-12)
    variation = float((chances[0] - chances[1]).abs().sum(1).mean()) / 2
    assert seen.cloud.disagreement[0, 1] == pytest.approx(variation, rel=1e-12)
    assert seen.cloud.norm == pytest.approx(math.sqrt(sum(float(a.square().sum()) for a, _ in pairs)))
    assert seen.cloud.parameters == sum(a.numel() for a, _ in pairs)


def test_folded_norms_are_interpolated_with_the_weights() -> None:
    first, data = problem("resnet")
    second = copy.deepcopy(first)
    with torch.no_grad():
        for module in second.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.running_var *= 4
                module.running_mean += 0.3
    seen = survey(first, [first, second], data, alphas=3, statistics="fold")
    ends = [copy.deepcopy(model) for model in (first, second)]
    for model in ends:
        fold_batch_norms(model, data.images)
    middle = copy.deepcopy(ends[0])
    with torch.no_grad():
        for parameter, other in zip(middle.parameters(), ends[1].parameters(), strict=True):
            parameter.lerp_(other, 0.5)
        losses = [float(cross_entropy(model(data.images), data.labels)) for model in (ends[0], middle, ends[1])]
    assert seen.line == pytest.approx(losses, rel=1e-9)
    assert seen.cloud.distances[1, 2] == 0  # of the weights as they are
    kept = survey(first, [first, second], data, alphas=3, statistics="keep")
    assert kept.line[1] != pytest.approx(seen.line[1], rel=1e-5)


def test_what_is_surveyed_stays_as_it_was() -> None:
    first, data = problem("resnet")
    second = copy.deepcopy(first)
    with torch.no_grad():
        next(second.parameters()).add_(0.1)
    before = [copy.deepcopy(model.state_dict()) for model in (first, second)]
    for statistics in ("keep", "recompute", "fold"):
        survey(first, [first, second], data, statistics=statistics, rise=0.5)
    for model, state in zip((first, second), before, strict=True):
        assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
