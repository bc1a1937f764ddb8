"""Natural expansion, expressivity bottleneck, relative flatness and barrier height, against dense computations."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy, one_hot, unfold

from mmbench import Estimate, expand, measure
from mmbench.landscape.heights import height
from mmbench.models.mlp import MLP
from mmbench.testing.networks import SHAPE, images, network

from .oracle import TINY, dense, jacobian, problem

each_family = pytest.mark.parametrize("family", TINY)


def measured(family: str, metric: str, **options: object) -> Estimate:
    model, data = problem(family)
    return measure(model, (data.images, data.labels), metric, **options)


def probabilities(family: str) -> torch.Tensor:
    model, data = problem(family)
    with torch.no_grad():
        return model(data.images).softmax(1)


@pytest.mark.parametrize("damping", [0.1, 3.0])
@each_family
def test_natural_expansion_is_the_quadratic_form_of_the_fisher_matrix(family: str, damping: float) -> None:
    j, p = jacobian(family), probabilities(family)
    s = torch.diag_embed(p) - p[:, :, None] * p[:, None]
    fisher = torch.einsum("ncp,ncd,ndq->pq", j, s, j) / len(p)
    g = torch.einsum("nc,ncp->p", p - one_hot(problem(family)[1].labels, 3), j) / len(p)
    d = damping * float(fisher.trace()) / (len(p) * 2)
    truth = float(g @ torch.linalg.solve(fisher + d * torch.eye(len(g), dtype=torch.float64), g))
    estimate = measured(family, "natural_expansion", damping=damping)
    assert estimate.value == pytest.approx(truth, rel=1e-6)
    assert estimate.details["damping"] == pytest.approx(d, rel=1e-6)


def test_new_useful_units_raise_natural_expansion_and_copies_do_so_less() -> None:
    base = network("mlp", torch.float64)
    data = images(30, torch.float64)
    scores = [
        measure(model, (data.images, data.labels), "natural_expansion").value
        for model in (base, expand(base, "random_pad", factor=4.0, seed=0))
    ]
    assert scores[1] > scores[0]


@each_family
def test_relative_flatness_is_the_weighted_trace_of_the_heads_hessian(family: str) -> None:
    model, data = problem(family)
    head = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    names = {id(p): name for name, p in model.named_parameters()}
    start = [list(names.values()).index(names[id(head.weight)])]
    before = sum(p.numel() for p in list(model.parameters())[: start[0]])
    whole = dense(model, data)[before : before + head.weight.numel(), before : before + head.weight.numel()]
    blocks = whole.view(3, -1, 3, head.in_features)
    truth = sum(
        float(head.weight[s].detach() @ head.weight[t].detach() * blocks[s, :, t].trace())
        for s in range(3)
        for t in range(3)
    )
    assert measured(family, "relative_flatness").value == pytest.approx(truth, rel=1e-5)


def test_relative_flatness_does_not_see_the_scale_of_layers() -> None:
    model = MLP(hidden=(6, 5)).build(SHAPE).double()
    data, other = images(30, torch.float64), copy.deepcopy(model)
    with torch.no_grad():
        for name, factor in (("fc2", 3.0), ("head", 1 / 3)):
            other.get_parameter(f"{name}.weight").mul_(factor)
        other.get_parameter("fc2.bias").mul_(3.0)
    first, second = (measure(m, (data.images, data.labels), "relative_flatness").value for m in (model, other))
    assert second == pytest.approx(first, rel=1e-9)


def residual(b: torch.Tensor, v: torch.Tensor) -> float:
    solution = torch.linalg.lstsq(b, v, driver="gelsd").solution
    return float((v - b @ solution).square().sum())


@pytest.mark.parametrize("family", ["mlp", "cnn"])
def test_the_bottleneck_is_what_least_squares_leaves(family: str) -> None:
    """By the inputs and gradients of every layer, written down by hand."""
    if family == "mlp":
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 6), nn.ReLU(), nn.Linear(6, 5), nn.GELU(), nn.Linear(5, 3))
    else:
        torch.manual_seed(1)
        model = nn.Sequential(nn.Conv2d(1, 3, 3, stride=2, padding=1, bias=False), nn.ReLU(),
                              nn.Conv2d(3, 2, 3), nn.Flatten(), nn.Linear(8, 3))  # fmt: skip
    model.double()
    data, left, total = images(300, torch.float64), 0.0, 0.0
    x, outputs = data.images, []
    for module in model:
        before = x
        x = module(x)
        if isinstance(module, (nn.Linear, nn.Conv2d)):
            outputs.append((module, before, x))
    gradients = torch.autograd.grad(cross_entropy(x, data.labels, reduction="sum"), [out for *_, out in outputs])
    for (module, before, _), g in zip(outputs, gradients, strict=True):
        b, v = before, g
        if isinstance(module, nn.Conv2d):
            b = unfold(b, 3, padding=module.padding, stride=module.stride).mT.flatten(0, 1)
            v = v.flatten(2).mT.flatten(0, 1)
        b = b if module.bias is None else torch.cat([b, torch.ones(len(b), 1).double()], 1)
        left += residual(b.detach(), -v)
        total += float(v.square().sum())
    estimate = measure(model, (data.images, data.labels), "expressivity_bottleneck")
    assert 0.01 < left / total < 0.99
    assert estimate.value == pytest.approx(left / total, rel=1e-8)
    assert estimate.details["total"] == pytest.approx(total / 300, rel=1e-9)


def test_a_layer_with_more_inputs_than_images_has_no_bottleneck() -> None:
    data = images(20, torch.float64)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3)).double()
    assert measure(model, (data.images, data.labels), "expressivity_bottleneck").value == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("centre", [i / 200 for i in range(6, 195, 7)])
def test_a_narrow_peak_anywhere_on_the_line_is_found(centre: float) -> None:
    """Height 2, a tenth of the line wide at half of it; three places or the middle would read 0."""
    sharp = math.log(2) / 0.05**2

    def loss(alpha: float) -> float:
        return 1 + alpha + 2 * math.exp(-sharp * (alpha - centre) ** 2)

    ends = loss(0.0), loss(1.0)
    truth = max(loss(i / 5000) - (1 - i / 5000) * ends[0] - i / 5000 * ends[1] for i in range(5001))
    assert height(loss) == pytest.approx(truth, rel=0.01)


def test_a_dip_has_no_barrier_and_what_is_no_number_an_infinite_one() -> None:
    assert height(lambda alpha: -math.sin(math.pi * alpha)) == 0
    assert height(lambda alpha: math.nan if 0.4 < alpha < 0.6 else 0.0) == math.inf


def test_the_barrier_height_of_two_units_by_hand() -> None:
    """With two hidden units there are two orders: the line to the other one has a barrier, to itself none."""
    torch.manual_seed(0)
    model, data = MLP(hidden=(2,)).build(SHAPE).double(), images(40, torch.float64)
    with torch.no_grad():
        model.get_parameter("fc1.weight").mul_(5)
        labels = model(data.images).argmax(1)

    def loss(alpha: float) -> float:
        twin, flip = copy.deepcopy(model), torch.tensor([1, 0])
        with torch.no_grad():
            for name, dim in (("fc1.weight", 0), ("fc1.bias", 0), ("head.weight", 1)):
                weight = twin.get_parameter(name)
                weight.lerp_(weight.index_select(dim, flip), alpha)
            return float(cross_entropy(twin(data.images), labels))

    truth = max(loss(i / 1000) for i in range(1001)) - loss(0.0)
    assert truth > 0.01
    estimate = measure(model, (data.images, labels), "barrier_height", nodes=12)
    share = estimate.value / truth * 12
    assert estimate.details["highest"] == pytest.approx(truth, rel=1e-3)
    assert share == pytest.approx(round(share), abs=0.02)
    assert 1 <= round(share) <= 11
    assert estimate.stderr > 0


def test_clones_have_no_barrier() -> None:
    base, data = MLP(hidden=(1,)).build(SHAPE).double(), images(40, torch.float64)
    large = expand(base, "net2wider", axis="hidden", factor=4.0, split="equal", allow_symmetric=True)
    assert measure(large, (data.images, data.labels), "barrier_height").value == pytest.approx(0, abs=1e-12)
