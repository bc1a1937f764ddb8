"""More trivial metrics: `flops`, `depth`, `layer_width`, `base_accuracy`, `training_loss`, `validation_loss`."""

from __future__ import annotations

import math

import pytest
import timm
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from mmbench import expand, measure
from mmbench.errors import UndefinedError
from mmbench.metrics.base import Estimate
from mmbench.metrics.depth import longest_path
from mmbench.models.base import MODELS
from mmbench.models.flops import flops
from mmbench.testing.networks import SHAPE, SMALL, images, network


def estimate(model: nn.Module, name: str, **given: object) -> Estimate:
    data = images(40, next(model.parameters()).dtype)
    return measure(model, (data.images, data.labels), name, **given)


# -- flops -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", MODELS.names())
def test_flops_are_those_of_the_family(family: str) -> None:
    found = estimate(network(family), "flops")
    truth = flops(MODELS.create({"name": family, **SMALL.get(family, {})}), SHAPE)
    assert (found.value, found.stderr) == (truth, 0.0)


def test_flops_of_an_mlp_have_a_closed_form() -> None:
    found = estimate(network("mlp"), "flops").value
    products = 64 * 6 + 6 * 5 + 5 * 3
    assert found == 2 * products
    for mutant in (products, 2 * products + 6 + 5 + 3, 40 * 2 * products, estimate(network("mlp"), "parameters").value):
        assert mutant != found


def test_flops_count_attention() -> None:
    """Of a block of t tokens with c channels: q, k, v, then two products of t x t, then out."""
    model = network("vit")
    t, c, hidden = 5, 6, 8
    block = 2 * (t * c * 3 * c + 2 * t * t * c + t * c * c + 2 * t * c * hidden)
    assert estimate(model, "flops").value == block + 2 * (4 * 16 * c) + 2 * (c * 3)


# -- layer_width -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "truth"),
    [
        ({"name": "mlp", "hidden": (6, 5)}, 6),
        ({"name": "mlp", "hidden": (5, 9)}, 5),
        ({"name": "mlp", "hidden": (3, 7, 9)}, 7),
        ({"name": "mlp", "hidden": (4, 7)}, 4),
        ({"name": "resnet", "channels": (3, 8), "layers": (1, 1)}, 8),
        ({"name": "resnet", "channels": (5, 8), "layers": (1, 1)}, 5),
    ],
)
def test_layer_width_is_that_of_the_first_layer_of_four_units(model: dict[str, object], truth: int) -> None:
    assert estimate(MODELS.create(model).build(SHAPE), "layer_width").value == truth


def test_layer_width_grows_with_the_layer() -> None:
    small = network("mlp")
    wider = expand(small, "net2wider", factor=2.0)
    assert estimate(small, "layer_width").value == 6
    assert estimate(wider, "layer_width").value == 12
    assert estimate(network("vit"), "layer_width").value == 8, "the feed-forward layer, not the residual stream of 6"


def test_layer_width_is_of_the_layer_that_manifold_permutes() -> None:
    """The first layer of the base model is too narrow to be permuted, that of the expanded model is not."""
    small, large = (MODELS.create({"name": "mlp", "hidden": hidden}).build(SHAPE) for hidden in ((3, 6), (8, 7)))
    permuted = estimate(large, "manifold", base=small, nodes=4).details["width"]
    assert estimate(large, "layer_width", base=small).value == permuted == 7
    assert estimate(large, "layer_width").value == 8


def test_layer_width_is_undefined_without_such_a_layer() -> None:
    with pytest.raises(UndefinedError, match="4 units"):
        estimate(MODELS.create({"name": "mlp", "hidden": (3, 2)}).build(SHAPE), "layer_width")
    with pytest.raises(UndefinedError):
        estimate(nn.Sequential(nn.Flatten(), nn.Linear(64, 3)), "layer_width")


# -- depth -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "per_block", "rest"),
    [("mlp", 1, 1), ("resnet", 2, 2), ("vit", 4, 2), ("mixer", 4, 2), ("convnext", 3, 5)],
)
def test_depth_is_affine_in_the_number_of_blocks(family: str, per_block: int, rest: int) -> None:
    blocks = MODELS.create({"name": family, **SMALL[family]}).depth()
    assert estimate(network(family), "depth").value == per_block * blocks + rest
    grown = expand(network(family), "scratch", axis="depth", factor=2.0)
    assert estimate(grown, "depth").value == per_block * 2 * blocks + rest


@pytest.mark.parametrize(("name", "layers"), [("resnet18", 18), ("resnet26", 26), ("vgg11", 11)])
def test_depth_is_the_number_in_the_name(name: str, layers: int) -> None:
    with torch.device("meta"):
        model = timm.create_model(name, num_classes=3)
    assert longest_path(model.eval(), torch.zeros(1, 3, 32, 32, device="meta")) == layers
    kernels = sum(parameter.dim() > 1 for parameter in model.parameters())
    assert (kernels != layers) == name.startswith("resnet"), "shortcuts have kernels beside the longest path"


def test_depth_does_not_count_products_of_two_signals() -> None:
    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.head = nn.Linear(8, 8), nn.Linear(8, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self.a(x[:, 0])
            return self.head((x @ x.mT @ x).mean(1))

    assert estimate(Attention(), "depth").value == 2


def test_logits_that_do_not_depend_on_the_image_have_depth_zero() -> None:
    class Constant(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(3, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(torch.ones(len(x), 3))

    assert estimate(Constant(), "depth").value == 0


# -- base_accuracy -----------------------------------------------------------------------------------------------------


def test_base_accuracy_is_that_of_the_base_on_the_validation_images() -> None:
    base, held_out = network("resnet", torch.float64), images(30, seed=1)
    with torch.no_grad():
        hits = (base(held_out.images.double()).argmax(1) == held_out.labels).double()
    given = {"base": base.train(), "validation": (held_out.images, held_out.labels)}
    found = estimate(network("mlp"), "base_accuracy", **given)
    share = hits.mean().item()
    assert found.value == pytest.approx(share, rel=1e-12)
    assert found.stderr == pytest.approx((share * (1 - share) / 29) ** 0.5, rel=1e-9)
    data = images(40, torch.float64)
    with torch.no_grad():
        own = (network("mlp")(held_out.images).argmax(1) == held_out.labels).double().mean().item()
        seen = (base.eval()(data.images).argmax(1) == data.labels).double().mean().item()
    for mutant in (own, seen, 1 - share):
        assert mutant != pytest.approx(found.value, rel=1e-3)


@pytest.mark.parametrize("missing", ["base", "validation"])
def test_base_accuracy_needs_both(missing: str) -> None:
    held_out = images(30, seed=1)
    given = {"base": network("mlp"), "validation": (held_out.images, held_out.labels)}
    with pytest.raises(UndefinedError, match=missing):
        estimate(network("mlp"), "base_accuracy", **{key: value for key, value in given.items() if key != missing})


# -- training_loss, validation_loss ------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", MODELS.names())
def test_losses_are_means_over_images(family: str) -> None:
    model, data, held_out = network(family, torch.float64), images(40, torch.float64), images(30, torch.float64, seed=1)
    for name, split in (("training_loss", data), ("validation_loss", held_out)):
        with torch.no_grad():
            losses = cross_entropy(model(split.images), split.labels, reduction="none")
        found = estimate(model, name, validation=(held_out.images, held_out.labels))
        assert found.value == pytest.approx(losses.mean().item(), rel=1e-12)
        assert found.stderr == pytest.approx(losses.std().item() / len(split) ** 0.5, rel=1e-9, abs=1e-15)
        model.train()
        with torch.no_grad():
            by_batch_statistics = float(cross_entropy(model(split.images), split.labels))
        model.eval()
        for mutant in (losses.sum().item(), *([by_batch_statistics] if family == "resnet" else [])):
            assert mutant != pytest.approx(found.value, rel=1e-3)


def test_the_training_loss_is_on_as_many_images_as_asked_for() -> None:
    few, all_ = (estimate(network("mlp"), "training_loss", images=count) for count in (10, 40))
    assert few.value != pytest.approx(all_.value, rel=1e-6)
    assert estimate(network("mlp"), "training_loss", images=1).stderr is None
    assert math.isfinite(all_.value)


def test_the_validation_loss_needs_validation_images() -> None:
    with pytest.raises(UndefinedError, match="validation"):
        estimate(network("mlp"), "validation_loss")
