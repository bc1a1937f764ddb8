"""The manifold metric on planted branches, whose distances and barriers are known, and on its own."""

from __future__ import annotations

import copy
import dataclasses
import functools
import math
import time
from collections.abc import Callable, Sequence
from itertools import combinations
from typing import get_args

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import vector_to_parameters

from mmbench import expand, measure
from mmbench.data.base import Split
from mmbench.errors import ConfigError, UndefinedError
from mmbench.landscape.branches import Branch, perturbed, shortened
from mmbench.landscape.sizes import Cloud, Rule, Size, size_of
from mmbench.metrics.base import METRICS, Estimate, score
from mmbench.metrics.manifold import _course
from mmbench.metrics.subject import PROBED, Subject
from mmbench.models.base import MODELS
from mmbench.testing.networks import images, network
from mmbench.training.loop import train
from mmbench.training.recipes import SGD

from .conftest import Linear

Plant = Callable[..., Estimate]
THRESHOLDS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
IN_NATS = {
    "thresholds": THRESHOLDS, "relative": False, "alphas": 5, "images": 256, "normaliser": "norm", "minus": "none",
}  # fmt: skip


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> Plant:
    """Measure with these networks in place of the branches that SGD would find."""

    def plant(start: nn.Module, branches: Sequence[nn.Module], data: Split, **options: object) -> Estimate:
        copies = [Branch(copy.deepcopy(branch), torch.arange(25.0)) for branch in branches]
        monkeypatch.setattr("mmbench.metrics._samplers.sgd_branches", lambda *args: copies)
        given = {**IN_NATS, "branches": len(copies), **options}
        return measure(start, (data.images, data.labels), "manifold", **given)

    return plant


def vector(model: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


def displaced(model: nn.Module, step: torch.Tensor) -> nn.Module:
    moved = copy.deepcopy(model)
    vector_to_parameters(vector(model) + step, moved.parameters())
    return moved


def convex(count: int, seed: int = 0) -> tuple[nn.Module, list[nn.Module]]:
    """Softmax regressions: their loss is convex, so no line between two of them has a barrier."""
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randn(count + 1, 192, dtype=torch.float64, generator=generator)
    start, *others = [displaced(Linear(), draw) for draw in draws]
    return start, others


def permuted(model: nn.Module) -> nn.Module:
    """The same function, with the units of the first hidden layer in reversed order."""
    twin = copy.deepcopy(model)
    with torch.no_grad():
        twin.fc1.weight.copy_(model.fc1.weight.flip(0))
        twin.fc1.bias.copy_(model.fc1.bias.flip(0))
        twin.fc2.weight.copy_(model.fc2.weight.flip(1))
    return twin


@pytest.fixture
def twins() -> tuple[nn.Module, nn.Module, Split]:
    """Two networks with one function, which fits the labels; between them lies a barrier of more than a nat."""
    model, data = network("mlp", torch.float64), images(40, torch.float64)
    with torch.no_grad():
        model.head.weight *= 100
        model.head.bias *= 100
        labels = model(data.images).argmax(1)
    return model, permuted(model), Split(data.images, labels)


def test_connected_branches_count_with_their_distance(planted: Plant) -> None:
    start, branches = convex(3)
    estimate = planted(start, branches, images(40, torch.float64))
    distances = [(vector(a) - vector(b)).norm() / vector(start).norm() for a, b in combinations(branches, 2)]
    assert estimate.value == pytest.approx(sum(distances).item() / 3, rel=1e-12)
    assert estimate.details["distance"] == estimate.value
    assert (estimate.details["barrier"], estimate.details["connected"]) == (0.0, 1.0)


def test_branches_behind_barriers_count_nothing(planted: Plant, twins: tuple[nn.Module, nn.Module, Split]) -> None:
    first, second, data = twins
    estimate = planted(first, [first, second], data)
    assert estimate.details["barrier"] > max(THRESHOLDS)
    assert (estimate.value, estimate.details["connected"]) == (0.0, 0.0)
    distance = (vector(first) - vector(second)).norm() / vector(first).norm()
    assert estimate.details["distance"] == pytest.approx(distance.item(), rel=1e-12)


@pytest.mark.parametrize(
    ("factors", "share"),
    [((0.5, 2.0, 3.0), 2 / 3), ((9.0, 0.1, 0.2, 0.3), 1 / 4), ((1.0,), 0.0), ((1.0 + 1e-9,), 1.0)],
    ids=["two of three", "one of four, unsorted", "not below", "just below"],
)
def test_the_gate_is_the_share_of_thresholds_above_the_barrier(
    planted: Plant, twins: tuple[nn.Module, nn.Module, Split], factors: tuple[float, ...], share: float
) -> None:
    first, second, data = twins
    height = planted(first, [first, second], data).details["barrier"]
    estimate = planted(first, [first, second], data, thresholds=[factor * height for factor in factors])
    assert estimate.details["connected"] == pytest.approx(share)
    assert estimate.value == pytest.approx(share * estimate.details["distance"], rel=1e-12)


def test_the_gate_is_applied_pair_by_pair(planted: Plant, twins: tuple[nn.Module, nn.Module, Split]) -> None:
    """Two neighbours and a twin behind the barrier: one pair of three is connected."""
    first, second, data = twins
    neighbour = displaced(first, 1e-6 * vector(first))
    estimate = planted(first, [first, second, neighbour], data)
    assert estimate.details["connected"] == pytest.approx(1 / 3)
    assert estimate.value == pytest.approx(1e-6 / 3, rel=1e-6)


@pytest.mark.parametrize("alphas", [3, 8, 11])
def test_the_barrier_is_that_of_the_line_by_hand(
    planted: Plant, twins: tuple[nn.Module, nn.Module, Split], alphas: int
) -> None:
    first, second, data = twins
    second = displaced(second, 0.01 * torch.randn(len(vector(second)), generator=torch.Generator().manual_seed(1)))
    estimate = planted(first, [first, second], data, alphas=alphas)
    line, losses = copy.deepcopy(first), []
    with torch.no_grad():
        for alpha in torch.linspace(0, 1, alphas, dtype=torch.float64):
            vector_to_parameters((1 - alpha) * vector(first) + alpha * vector(second), line.parameters())
            losses.append(cross_entropy(line(data.images), data.labels).item())
    chord = torch.linspace(losses[0], losses[-1], alphas, dtype=torch.float64)
    assert losses[0] != losses[-1]
    assert estimate.details["barrier"] == pytest.approx(float((torch.tensor(losses) - chord).max()), rel=1e-6)
    assert estimate.details["branch_loss"] == pytest.approx((losses[0] + losses[-1]) / 2, rel=1e-9)
    assert estimate.details["line"] == pytest.approx(losses, rel=1e-6)


@pytest.mark.parametrize("statistics", ["recompute", "keep"])
def test_batch_norm_on_the_line(planted: Plant, statistics: str) -> None:
    """Recomputed from the images at hand at every point, ends too; or the running statistics, interpolated."""
    first, data = network("resnet", torch.float64), images(300, torch.float64)  # more than one chunk of images
    with torch.no_grad():
        first.fc.weight *= 20
        data = Split(data.images, first(data.images).argmax(1))
    second, block = copy.deepcopy(first), "stages.0.0"  # the same function, with this block's inner channels reversed
    renamed = {f"{block}.conv2.weight": 1, **{f"{block}.{name}": 0 for name in ("conv1.weight", "bn1.weight",
               "bn1.bias", "bn1.running_mean", "bn1.running_var")}}  # fmt: skip
    second.load_state_dict({k: v.flip(renamed[k]) if k in renamed else v for k, v in first.state_dict().items()})
    estimate = planted(first, [first, second], data, statistics=statistics, images=300, alphas=4)
    ends, losses = (first.state_dict(), second.state_dict()), []
    for i in range(4):
        line = copy.deepcopy(first).train(statistics == "recompute")
        line.load_state_dict({k: (1 - i / 3) * v + i / 3 * ends[1][k] for k, v in ends[0].items()})
        with torch.no_grad():
            losses.append(cross_entropy(line(data.images), data.labels).item())
    rises = [losses[i] - (1 - i / 3) * losses[0] - i / 3 * losses[-1] for i in range(4)]
    assert max(rises) > 1e-3, "no barrier, nothing tested"
    assert estimate.details["barrier"] == pytest.approx(max(rises), rel=1e-9)
    assert estimate.details["branch_loss"] == pytest.approx((losses[0] + losses[-1]) / 2, rel=1e-9)


def test_a_line_that_leaves_the_finite_numbers_is_no_connection(planted: Plant) -> None:
    class Broken(nn.Module):
        """Finite at w = 1 and w = -1, not a number in between."""

        def __init__(self, weight: float) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.tensor([weight], dtype=torch.float64))

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return pixels.flatten(1)[:, :3] * (self.weight**2 - 0.5).sqrt()

    estimate = planted(Broken(1.0), [Broken(1.0), Broken(-1.0)], images(10, torch.float64))
    assert (estimate.value, estimate.details["connected"]) == (0.0, 0.0)


def test_the_error_is_the_jackknife_over_branches(planted: Plant, twins: tuple[nn.Module, nn.Module, Split]) -> None:
    first, second, data = twins
    generator = torch.Generator().manual_seed(0)
    steps = 0.02 * torch.randn(5, len(vector(first)), generator=generator)
    branches = [
        displaced(model, step) for model, step in zip([first, first, second, first, second], steps, strict=True)
    ]
    estimate = planted(first, branches, data)
    assert 0 < estimate.details["connected"] < 1
    left_out = [planted(first, branches[:i] + branches[i + 1 :], data).value for i in range(5)]
    variance = 4 / 5 * sum((value - sum(left_out) / 5) ** 2 for value in left_out)
    assert estimate.stderr == pytest.approx(variance**0.5, rel=1e-6)
    assert estimate.stderr > 0
    assert planted(first, branches[:2], data).stderr is None


def test_the_order_of_the_branches_does_not_matter(planted: Plant, twins: tuple[nn.Module, nn.Module, Split]) -> None:
    first, second, data = twins
    branches = [first, second, displaced(first, 1e-3 * vector(first)), displaced(second, -2e-3 * vector(second))]
    forward, backward = planted(first, branches, data), planted(first, branches[::-1], data)
    assert forward.value == pytest.approx(backward.value, rel=1e-10)
    assert forward.stderr == pytest.approx(backward.stderr, rel=1e-10)


def test_the_names_of_the_units_do_not_matter(planted: Plant, twins: tuple[nn.Module, nn.Module, Split]) -> None:
    first, second, data = twins
    branches = [first, second, displaced(first, 1e-3 * vector(first))]
    original = planted(first, branches, data)
    renamed = planted(permuted(first), [permuted(branch) for branch in branches], data)
    assert original.value > 0
    assert renamed.value == pytest.approx(original.value, rel=1e-10)
    assert renamed.details.keys() == original.details.keys()
    for name, number in original.details.items():
        assert renamed.details[name] == pytest.approx(number, rel=1e-10), name


def test_it_is_relative_to_the_norm_of_the_expanded_model(planted: Plant) -> None:
    start, branches = convex(3)
    data = images(40, torch.float64)
    twice = displaced(start, vector(start))
    assert planted(twice, branches, data).value == pytest.approx(planted(start, branches, data).value / 2, rel=1e-12)


def test_planted_sizes_come_out_in_order(planted: Plant) -> None:
    """Connected sets of growing radius around one start have growing scores."""
    start, branches = convex(4)
    data, steps = images(40, torch.float64), [vector(branch) for branch in branches]
    scores = [planted(start, [displaced(start, r * s) for s in steps], data).value for r in (0.1, 0.2, 0.4)]
    assert scores[1] / scores[0] == pytest.approx(2)
    assert scores[2] / scores[0] == pytest.approx(4)


# From here on with branches of its own.

RECIPE = SGD(steps=20, warmup_steps=4, batch_size=10, lr=0.1)


@pytest.mark.parametrize("family", MODELS.names())
def test_its_branches_are_the_shortened_training_by_hand(family: str) -> None:
    model, data = network(family, torch.float64), images(40, torch.float64)
    estimate = measure(
        model, (data.images, data.labels), "manifold", seed=7, branches=2, fraction=0.5, thresholds=[1e9],
        training=RECIPE, normaliser="norm",
    )  # fmt: skip
    generator, ends = Subject(model, data, seed=7).generator("manifold"), []
    for _ in range(2):
        branch = copy.deepcopy(model)
        train(branch, data, SGD(steps=10, warmup_steps=2, batch_size=10, lr=0.1), generator)
        ends.append(vector(branch))
    assert estimate.value == pytest.approx(((ends[0] - ends[1]).norm() / vector(model).norm()).item(), rel=1e-9)


def test_its_branches_differ_in_the_order_of_the_images_alone() -> None:
    """If all images are the same one, so are all branches; with a batch of all images they are as good as."""
    model, data = network("mlp", torch.float64), images(40, torch.float64)
    same = data.images[:1].expand(40, -1, -1, -1), data.labels[:1].expand(40)
    estimate = measure(model, same, "manifold", training=RECIPE, fraction=1)
    assert (estimate.value, estimate.stderr) == (0.0, 0.0)
    assert estimate.details["connected"] == 1.0
    options = {"branches": 2, "fraction": 1, "thresholds": [1e9]}
    small = measure(model, (data.images, data.labels), "manifold", training=RECIPE, **options)
    full = measure(
        model, (data.images, data.labels), "manifold", training=RECIPE.model_copy(update={"batch_size": 40}), **options
    )
    assert small.value > 1e-3
    assert full.value < 1e-10


@pytest.mark.parametrize("fraction", [0.25, 1.0])
def test_a_branch_takes_its_fraction_of_the_steps(fraction: float) -> None:
    model, data = network("mlp"), images(40)
    batches = []
    model.register_forward_hook(lambda module, inputs, output: batches.append(module.training))
    measure(model, (data.images, data.labels), "manifold", training=RECIPE, fraction=fraction, branches=3)
    assert sum(batches) == 3 * shortened(RECIPE, fraction).steps == 3 * 20 * fraction


def test_only_barriers_are_limited_to_some_images() -> None:
    model, data = network("mlp"), images(40)
    sizes = set()
    model.register_forward_hook(lambda module, inputs, output: sizes.add((module.training, len(output))))
    measure(model, (data.images, data.labels), "manifold", training=RECIPE, fraction=0.2, images=17)
    assert sizes == {(True, 10), (False, 17), (False, PROBED)}


def test_its_defaults_are_those_of_the_evidence() -> None:
    """docs/evidence.md; of a network whose expansion nobody knows nothing is subtracted."""
    metric = METRICS["manifold"]()
    assert metric.definition == (
        "sgd_branch(K=3, 0.025 of training) | loss barrier < 0.01/0.03/0.1/0.3/1 of the loss (3 points, 64 training "
        "images, recompute) | distance by pair | by filter | minus symmetry null where known"
    )
    base, large, again = grown()
    data, given = images(40, torch.float64), {"training": RECIPE, "fraction": 0.5}
    known = measure(large, (data.images, data.labels), "manifold", base=base, expand=again, **given)
    unknown = measure(large, (data.images, data.labels), "manifold", **given)
    assert known.details["distances"] == unknown.details["distances"]
    assert known.value == pytest.approx(unknown.value - known.details["symmetry_null"], rel=1e-12)
    assert "symmetry_null" not in unknown.details


def test_the_course_of_the_branches_is_their_mean_in_shares_of_the_steps() -> None:
    course = _course([torch.arange(25.0), torch.arange(25.0) + 2], shares=10)
    assert course["losses"][:6] == [2.0, 5.0, 8.0, 11.0, 14.0, 16.5]  # five shares of three steps, then five of two
    assert course["steps"][:6] == [1.5, 4.5, 7.5, 10.5, 13.5, 16.0]
    assert len(course["losses"]) == len(course["steps"]) == 10
    assert _course([torch.tensor([3.0])]) == {"losses": [3.0], "steps": [0.5]}


# The family: samplers, moments, nulls.


@functools.cache
def grown(family: str = "mlp") -> tuple[nn.Module, nn.Module, Callable[[nn.Module, int], nn.Module]]:
    """A base, the network that it is expanded to, and the expansion."""
    base = network(family, torch.float64)

    def again(small: nn.Module, draw: int) -> nn.Module:
        return expand(small, "net2wider", factor=2.0, seed=draw)

    return base, again(base, 0), again


def cloud(sampler: str, family: str = "mlp", seed: int = 0, **options: object) -> Estimate:
    base, large, again = grown(family)
    data = images(40, torch.float64)
    given = {**IN_NATS, "training": RECIPE, "branches": 3, "fraction": 0.5, **options}
    return measure(large, (data.images, data.labels), "manifold", sampler=sampler, base=base, expand=again, seed=seed,
                   validation=(data.images[:9], data.labels[:9]), **given)  # fmt: skip


def trained_on(model: nn.Module, generator: torch.Generator, fraction: float = 0.5, lr: float = 0.1) -> nn.Module:
    recipe = SGD(steps=round(20 * fraction), warmup_steps=round(4 * fraction), batch_size=10, lr=lr)
    branch = copy.deepcopy(model)
    train(branch, images(40, torch.float64), recipe, generator)
    return branch


def draws(model: nn.Module, seed: int = 0) -> torch.Generator:
    return Subject(model, images(40, torch.float64), seed=seed).generator("manifold")


def spread(models: Sequence[nn.Module]) -> list[float]:
    return [float((vector(a) - vector(b)).norm()) for a, b in combinations(models, 2)]


@pytest.mark.parametrize("family", ["mlp", "resnet"])
def test_the_symmetry_null_is_the_cloud_of_the_base_put_through_the_expansion(family: str) -> None:
    base, large, again = grown(family)
    generator = draws(large)
    pushed = [again(trained_on(base, generator), 0) for _ in range(3)]
    beside, alone = cloud("sgd_branch", family), cloud("symmetry_null", family)
    assert alone.details["distances"] == pytest.approx(spread(pushed), rel=1e-9)
    assert beside.details["null_distances"] == alone.details["distances"]
    assert beside.details["symmetry_null"] == pytest.approx(alone.value)
    less = cloud("sgd_branch", family, minus="symmetry")
    assert less.value == pytest.approx(beside.value - alone.value, rel=1e-9, abs=1e-15)
    assert less.details["distances"] == beside.details["distances"]


def test_the_random_cloud_is_subtracted() -> None:
    plain, less = (cloud("sgd_branch", minus=minus, gate="none", normaliser="none") for minus in ("none", "cloud"))
    radii = plain.details["displacements"]
    null = sum((a * a + b * b) ** 0.5 for a, b in combinations(radii, 2)) / 3
    assert plain.details["cloud_null"] == pytest.approx(null)
    assert less.value == pytest.approx(plain.value - null)


def test_seeds_are_expansions_of_their_own() -> None:
    base, large, again = grown()
    generator = draws(large)
    points = [trained_on(again(base, draw), generator) for draw in range(3)]
    assert cloud("seeds").details["distances"] == pytest.approx(spread(points), rel=1e-9)


def test_perturbed_copies_are_trained_again() -> None:
    _, large, _ = grown()
    generator = draws(large)
    starts = [perturbed(large, 0.3, generator) for _ in range(3)]
    points = [trained_on(start, generator) for start in starts]
    assert cloud("perturb_retrain", noise=0.3).details["distances"] == pytest.approx(spread(points), rel=1e-9)


def test_noise_is_in_units_of_each_tensors_root_mean_square() -> None:
    wide = nn.Linear(300, 400, dtype=torch.float64)
    noisy = perturbed(wide, 0.2, torch.Generator().manual_seed(0))
    for before, after in zip(wide.parameters(), noisy.parameters(), strict=True):
        share = float((after - before).detach().square().mean().sqrt() / before.detach().square().mean().sqrt())
        assert share == pytest.approx(0.2, rel=5 / (2 * before.numel()) ** 0.5)


def test_a_trunk_is_shared_and_follows_the_recipe_itself() -> None:
    _, large, _ = grown()
    data = images(40, torch.float64)
    subject = Subject(large, data)
    start = subject.in_state("trained", 8, RECIPE)
    generator = start.generator("manifold")
    points = [trained_on(start.network(), generator) for _ in range(3)]
    found = cloud("sgd_branch", trunk=0.4)
    assert found.details["distances"] == pytest.approx(spread(points), rel=1e-9)
    from_start = [float((vector(start.network()) - vector(point)).norm()) for point in points]
    assert found.details["displacements"] == pytest.approx(from_start, rel=1e-9)
    assert found.details["norm"] == pytest.approx(float(vector(start.network()).norm()))
    assert "symmetry_null" not in found.details


def test_the_learning_rate_of_the_branches() -> None:
    _, large, _ = grown()
    generator = draws(large)
    points = [trained_on(large, generator, lr=0.3) for _ in range(3)]
    assert cloud("sgd_branch", lr_factor=3.0).details["distances"] == pytest.approx(spread(points), rel=1e-9)


@pytest.mark.parametrize("size", get_args(Size))
def test_every_size_is_that_of_the_cloud_in_the_record(size: str) -> None:
    found = cloud("sgd_branch", size=size, relative=True, gate="component", normaliser="sqrt_p", branches=4)
    rule = Rule(THRESHOLDS, True, "component", "sqrt_p")
    listed = Cloud.of(found.details, len(vector(grown()[1])))
    assert found.value == pytest.approx(size_of(size, listed, rule), rel=1e-12)
    assert math.isfinite(found.value)


def test_barriers_of_the_error_and_of_held_out_images() -> None:
    wide = {"lr_factor": 8.0, "fraction": 1.0}
    loss, error = (cloud("seeds", height=height, size="component", **wide) for height in ("loss", "error"))
    assert loss.details["error_barriers"] == error.details["error_barriers"]
    listed = dataclasses.replace(
        Cloud.of(loss.details, 1),
        barriers=Cloud.of({**loss.details, "barriers": loss.details["error_barriers"]}, 1).barriers,
    )
    assert error.value == pytest.approx(size_of("component", listed, Rule(THRESHOLDS)))
    elsewhere = cloud("seeds", held_out=True, **wide)
    assert elsewhere.details["point_losses"] != loss.details["point_losses"]
    assert elsewhere.details["distances"] == loss.details["distances"]


def test_several_definitions_share_their_cloud() -> None:
    base, large, again = grown()
    data, trainings = images(40, torch.float64), []
    large = copy.deepcopy(large)
    large.register_forward_hook(lambda module, inputs, output: trainings.append(module.training))
    options = {"name": "manifold", "minus": "none", "fraction": 0.1, "training": RECIPE}
    wanted = [METRICS.create({**options, "size": size}) for size in ("distance", "clique")]
    both = [score(metric, subject) for subject in [Subject(large, data, base=base, expand=again)] for metric in wanted]
    assert sum(trainings) == 3 * 2
    assert both[1].seconds >= both[1].costs["sampling_seconds"] > 0


def test_what_is_reported_beside_the_score_is_not_charged(monkeypatch: pytest.MonkeyPatch) -> None:
    base, large, again = grown()

    def slow(small: nn.Module, draw: int) -> nn.Module:
        time.sleep(0.2)
        return again(small, draw)

    data = images(40, torch.float64)
    given = {"minus": "none", "training": RECIPE, "base": base, "expand": slow}
    found = measure(large, (data.images, data.labels), "manifold", **given)
    assert found.costs["null_seconds"] > 0.6
    assert found.seconds < found.costs["null_seconds"]
    asked = measure(large, (data.images, data.labels), "manifold", **{**given, "minus": "symmetry"})
    assert asked.seconds > 0.6


@pytest.mark.parametrize("sampler", ["seeds", "symmetry_null", "expansions", "aligned_expansions"])
def test_a_sampler_that_repeats_the_expansion_needs_to_know_it(sampler: str) -> None:
    data = images(40)
    with pytest.raises(UndefinedError, match=r"give base=|give expand="):
        measure(network("mlp"), (data.images, data.labels), "manifold", sampler=sampler, training=RECIPE)


@pytest.mark.parametrize(
    "options",
    [
        {"sampler": "sgd_branch", "trunk": 0.1},
        {"sampler": "symmetry_null"},
        {"sampler": "expansions"},
        {"sampler": "aligned_expansions"},
    ],
    ids=str,
)
def test_a_null_that_there_cannot_be_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"metric\.minus = symmetry is for metric\.trunk = 0"):
        METRICS.create({"name": "manifold", "minus": "symmetry", **options})


def test_the_null_of_seeds_are_the_expansions_before_training() -> None:
    base, _, again = grown()
    untrained, beside = cloud("expansions"), cloud("seeds")
    assert untrained.details["distances"] == pytest.approx(spread([again(base, draw) for draw in range(3)]), rel=1e-12)
    assert "losses" not in untrained.details
    assert beside.details["null_distances"] == untrained.details["distances"]
    less = cloud("seeds", minus="symmetry")
    assert less.value == pytest.approx(beside.value - untrained.value, rel=1e-9)


@pytest.mark.parametrize("sampler", ["seeds", "permute_align", "symmetry_null", "expansions", "aligned_expansions"])
def test_a_trunk_that_the_points_do_not_leave_is_refused(sampler: str) -> None:
    with pytest.raises(ConfigError, match=r"metric\.trunk = 0\.1 is for metric\.sampler"):
        METRICS.create({"name": "manifold", "sampler": sampler, "trunk": 0.1})


def test_every_option_that_changes_the_score_changes_the_definition() -> None:
    changes = {
        "sampler": "seeds", "branches": 5, "fraction": 0.7, "lr_factor": 2.0, "thresholds": (0.1,),
        "relative": False, "height": "error", "alphas": 7, "refine": 2, "images": 99, "held_out": True,
        "statistics": "fold", "size": "clique", "gate": "none", "normaliser": "sqrt_p", "minus": "cloud",
    }  # fmt: skip
    described = [METRICS["manifold"]().definition]
    described += [METRICS.create({"name": "manifold", key: value}).definition for key, value in changes.items()]
    described.append(METRICS.create({"name": "manifold", "sampler": "sgd_branch", "trunk": 0.3}).definition)
    described += [
        METRICS.create({"name": "manifold", "sampler": "perturb_retrain", "noise": noise}).definition
        for noise in (0.1, 0.2)
    ]
    described += [
        METRICS.create({"name": "manifold", "size": "star_radius", "rise": rise}).definition for rise in (0.5, 1.0)
    ]
    assert len(set(described)) == len(described)
    others = set(METRICS["manifold"].model_fields) - {*changes, "trunk", "noise", "rise", "report_null", "training"}
    assert not others, f"options that the definition may not tell: {others}"


def test_aligned_seeds_are_nearer_and_the_first_stays() -> None:
    plain, aligned = (cloud(sampler, lr_factor=3.0) for sampler in ("seeds", "permute_align"))
    assert aligned.details["displacements"][0] == plain.details["displacements"][0]
    assert aligned.details["point_losses"] == pytest.approx(plain.details["point_losses"], rel=1e-9)
    nearer = list(zip(aligned.details["distances"], plain.details["distances"], strict=True))
    assert all(a < p for a, p in nearer[:2])  # of the pairs with the first, which the others are matched to


def test_the_null_of_aligned_seeds_is_aligned_too() -> None:
    plain, aligned, beside = (cloud(sampler) for sampler in ("expansions", "aligned_expansions", "permute_align"))
    assert beside.details["null_distances"] == aligned.details["distances"]
    assert aligned.details["displacements"][0] == plain.details["displacements"][0]
    nearer = list(zip(aligned.details["distances"], plain.details["distances"], strict=True))
    assert all(a <= p for a, p in nearer[:2]) and any(a < p for a, p in nearer[:2])
    less = cloud("permute_align", minus="symmetry")
    assert less.value == pytest.approx(beside.value - aligned.value, rel=1e-9)
