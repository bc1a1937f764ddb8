from __future__ import annotations

import pytest
import timm
import torch
from torch import nn
from torch.nn import functional
from torch.nn.functional import cross_entropy

from mmbench.data.base import Split
from mmbench.landscape import surface as surfaces
from mmbench.landscape.gauss_newton import image_fisher_traces, image_traces, softmax_factor
from mmbench.landscape.per_image import _Rules, gram
from mmbench.landscape.surface import Surface
from mmbench.models.base import MODELS

from .conftest import problem


class Odd(nn.Module):
    """A layer used twice, one whose weight is used past it, one of another's making, a token, and a bare parameter."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.scale = nn.Parameter(torch.randn(8))
        self.twice, self.past, self.normal = nn.Linear(8, 8), nn.Linear(8, 8), nn.GroupNorm(2, 8)
        self.other, self.tall = Doubled(8, 8), nn.Linear(8, 1)
        self.grouped = nn.Conv2d(8, 4, 3, padding=1, stride=2, groups=2, dilation=2)
        self.head = nn.Linear(8, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        rows = torch.cat([images.flatten(1, 2), self.token.expand(len(images), -1, -1)], 1)
        x = self.twice(torch.tanh(self.twice(rows))) * self.scale
        x = self.other(functional.linear(self.past(x), self.past.weight)).relu_()
        x = self.normal(x.mT) + self.tall(rows).mT
        y = self.grouped(x.unflatten(2, (3, 3))).flatten(1).unflatten(1, (4, -1)).mean(2)
        return self.head(torch.cat([x.mean(2)[:, :4], y], 1))


class Doubled(nn.Linear):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(x)


class Attention(nn.Module):
    """torch's own attention, which uses the weights of its projections without calling them."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.head = nn.Linear(8, 3)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        rows = images.flatten(1, 2)
        return self.head(self.attention(rows, rows, rows, need_weights=False)[0].mean(1))


def stock(name: str, **options: object) -> nn.Module:
    return timm.create_model(name, num_classes=3, in_chans=1, **options)


CASES = {
    **dict.fromkeys(MODELS.names()),
    "odd": Odd,
    "torch's attention": Attention,
    "timm's resnet10t": lambda: stock("resnet10t", channels=(8, 8, 12, 16)),  # blur pools and a deep stem
    "layer scale, registers": lambda: stock("vit_dwee_patch16_reg1_gap_256", img_size=8, patch_size=4, embed_dim=8,
                                            num_heads=2, depth=1),
}  # fmt: skip


def case(name: str, count: int = 7) -> Surface:
    if CASES[name] is None:
        return Surface(*problem(name, count))
    torch.manual_seed(5)
    model = CASES[name]().double()
    side = 32 if "resnet" in name else 8
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(count, 1, side, side, dtype=torch.float64, generator=generator)
    return Surface(model, Split(images, torch.arange(count) % 3))


def jacobian(surface: Surface) -> torch.Tensor:
    """(N, C, P), one row after the other by autograd on one image at a time."""
    rows = []
    for image in surface.images.images:
        logits = surface.model(image[None])[0]
        found = [
            torch.autograd.grad(z, surface.flat.parameters, retain_graph=True, materialize_grads=True) for z in logits
        ]
        rows.append(torch.stack([torch.cat([g.flatten() for g in row]) for row in found]))
    return torch.stack(rows)


@pytest.mark.parametrize("name", CASES)
def test_traces_and_kernel_are_those_of_the_jacobian(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    surface = case(name)
    j, p = jacobian(surface), surface.logits().softmax(1)
    s = torch.diag_embed(p) - p[:, :, None] * p[:, None]
    residuals = p - functional.one_hot(surface.images.labels, 3)
    gauss_newton = torch.einsum("ncp,ncd,ndp->n", j, s, j)
    fisher = torch.einsum("nc,ncp->np", residuals, j).square().sum(1)
    kernel = j.flatten(0, 1) @ j.flatten(0, 1).T
    for chunk in (256, 3):
        monkeypatch.setattr(surfaces, "CHUNK", chunk)
        pieces = Surface(surface.model, surface.images)
        assert torch.allclose(image_traces(pieces), gauss_newton, rtol=1e-9)
        assert torch.allclose(image_fisher_traces(pieces), fisher, rtol=1e-9)
        assert torch.allclose(gram(pieces), kernel, rtol=1e-9, atol=1e-12 * float(kernel.max()))


def test_only_what_no_rule_fits_goes_the_slow_way() -> None:
    rules = _Rules(case("odd"))
    assert {name.split(".")[0] for name in rules.rest} == {"twice", "past", "scale", "other"}
    assert rules.copied == ["token"]
    for family in MODELS.names():
        model, data = problem(family)
        for module in model.modules():
            if hasattr(module, "inplace"):
                module.inplace = False
        assert not _Rules(Surface(model, data)).rest, family


def test_a_batch_norm_whose_output_is_changed_by_a_hook() -> None:
    surface = case("resnet")
    norm = next(m for m in surface.model.modules() if isinstance(m, nn.BatchNorm2d))
    before = image_traces(surface)
    norm.register_forward_hook(lambda module, inputs, output: 3 * torch.tanh(output))
    j, p = jacobian(surface), surface.logits().softmax(1)
    s = torch.diag_embed(p) - p[:, :, None] * p[:, None]
    found = image_traces(surface)
    assert torch.allclose(found, torch.einsum("ncp,ncd,ndp->n", j, s, j), rtol=1e-9)
    assert not torch.allclose(found, before, rtol=0.1)


def test_no_hook_is_left() -> None:
    surface = case("odd")
    image_traces(surface)
    assert not any(module._forward_hooks for module in surface.model.modules())


@pytest.mark.parametrize("spread", [0.1, 1.0, 30.0, 1000.0])
def test_the_factor_is_one_of_the_softmax_hessian(spread: float) -> None:
    logits = spread * torch.randn(20, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    logits[0], logits[1, 1:] = 0, 0  # all equal; one apart
    s, p = torch.stack(list(softmax_factor(logits))), logits.softmax(1)
    assert s.shape == (5, 20, 6)
    truth = torch.diag_embed(p) - p[:, :, None] * p[:, None]
    assert torch.allclose(torch.einsum("knc,knd->ncd", s, s), truth, atol=1e-14)
    single = torch.stack(list(softmax_factor(logits.float())))
    assert torch.allclose(torch.einsum("knc,knd->ncd", single, single), truth.float(), atol=1e-5)


def test_the_empirical_fisher_is_not_the_norm_of_the_mean_gradient() -> None:
    """Nor its N-fold: the defect of code that has no gradients of single images."""
    surface = case("mlp", 40)
    loss = cross_entropy(surface.model(surface.images.images), surface.images.labels)
    mean = float(sum(g.square().sum() for g in torch.autograd.grad(loss, surface.flat.parameters)))
    truth = float(image_fisher_traces(surface).mean())
    assert abs(mean - truth) > 0.1 * truth
    assert abs(40 * mean - truth) > 0.1 * truth


@pytest.mark.parametrize("cotangents", [1, 50], ids=["few cotangents", "many cotangents"])
@pytest.mark.parametrize("positions", [1, 2, 64], ids="{} positions".format)
def test_both_ways_of_a_product_are_one(positions: int, cotangents: int) -> None:
    from mmbench.landscape.per_image import _Products

    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(5, 2, positions, 6, dtype=torch.float64, generator=generator)
    outputs = torch.randn(cotangents, 5, 2, positions, 4, dtype=torch.float64, generator=generator)
    found = []
    for by_gram in (True, False):
        rule = _Products(inputs, 4, True, lambda g: g)
        rule.by_gram = by_gram
        for gradient in outputs:
            rule.add(gradient)
        found.append(rule.squared_norms())
    truth = sum(rule.gradients(gradient).square().sum(1) for gradient in outputs)
    assert torch.allclose(found[0], truth, rtol=1e-12)
    assert torch.allclose(found[1], truth, rtol=1e-12)
