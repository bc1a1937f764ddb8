"""Networks as people fine-tune them: the modules are the truth, and what only drops something is kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from timm.layers import DropPath
from torch import nn

from mmbench.errors import ConfigError, UndefinedError
from mmbench.expansions.apply import expand
from mmbench.models._networks import timm_resnet
from mmbench.models.reading import architecture_of, build, configuration
from mmbench.testing.models import EXACTLY, NETWORKS, SHAPE, images, randomised
from tests.models.stock import convnext, mixer, vit


def resnet() -> nn.Module:
    """A small network of timm's class."""
    return timm_resnet("basic", 3, 4, (4, 6, 6, 8), (1, 2, 1, 1))


def changed(model: nn.Module, parts: dict[str, Any]) -> nn.Module:
    """The network with modules or attributes replaced, and nothing that it states adapted."""
    for path, part in parts.items():
        parent, _, name = path.rpartition(".")
        setattr(model.get_submodule(parent), name, part)
    return model


def pooled(pool: str) -> nn.Module:
    model: Any = vit()
    model.reset_classifier(4, pool)
    return model


SMALL_STEM = {"conv1": nn.Conv2d(3, 4, 3, padding=1, bias=False), "maxpool": nn.Identity()}
DROPS = {"drop_rate": 0.3, "drop_path_rate": 0.4}
FINE_TUNED: dict[str, Callable[[], nn.Module]] = {
    "a ResNet with another classifier": lambda: changed(resnet(), {"fc": nn.Linear(8, 7)}),
    "a ResNet for grey images": lambda: changed(resnet(), {"conv1": nn.Conv2d(1, 4, 7, 2, 3, bias=False)}),
    "a ResNet for small images": lambda: changed(resnet(), SMALL_STEM),
    "a ResNet whose max-pool is an empty sequence": lambda: changed(resnet(), {"maxpool": nn.Sequential()}),
    "a ResNet with a stem of stride 1": lambda: changed(resnet(), {"conv1": nn.Conv2d(3, 4, 5, 1, 2, bias=False)}),
    "a ResNet with dropout": lambda: changed(resnet(), {"drop_rate": 0.5}),
    "a ResNet with stochastic depth": lambda: changed(resnet(), {"layer2.0.drop_path": DropPath(0.5)}),
    "a ResNet with slow statistics": lambda: changed(resnet(), {"bn1.momentum": 0.01}),
    "a ViT with another classifier": lambda: changed(vit(), {"head": nn.Linear(6, 7)}),
    "a ViT for grey images": lambda: changed(vit(), {"patch_embed.proj": nn.Conv2d(1, 6, 2, 2)}),
    "a ViT whose classifier was reset to average pooling": lambda: pooled("avg"),
    "a ViT with a norm before average pooling": lambda: vit(global_pool="avg", fc_norm=False),
    "a ViT with a norm after the class token": lambda: vit(fc_norm=True),
    "a ViT of any image size": lambda: vit(dynamic_img_size=True),
    "a ViT that pads": lambda: vit(dynamic_img_size=True, dynamic_img_pad=True),
    "a ViT with all kinds of dropout": lambda: vit(
        **DROPS, pos_drop_rate=0.1, patch_drop_rate=0.2, proj_drop_rate=0.3, attn_drop_rate=0.4
    ),
    "a Mixer with another classifier": lambda: changed(mixer(), {"head": nn.Linear(6, 7)}),
    "a Mixer with dropout": lambda: mixer(**DROPS, proj_drop_rate=0.2),
    "a ConvNeXt with another classifier": lambda: changed(convnext(), {"head.fc": nn.Linear(5, 7)}),
    "a ConvNeXt for grey images": lambda: changed(convnext(), {"stem.0": nn.Conv2d(1, 2, 4, 4)}),
    "a ConvNeXt with dropout": lambda: convnext(**DROPS),
}


def drops(model: nn.Module) -> int:
    """How many layers drop something."""
    return len(configuration(model).get("regularisation", {}))


@pytest.mark.parametrize("make", FINE_TUNED.values(), ids=FINE_TUNED.keys())
def test_a_fine_tuned_network_is_rebuilt_and_grown_exactly(make: Callable[[], nn.Module]) -> None:
    model: Any = randomised(make().double()).eval()
    shape = architecture_of(model)[1]
    x = images(2, shape=shape._replace(image_size=min(32, shape.image_size)))
    expected = model(x)
    twin = build(configuration(model)).double().eval()
    twin.load_state_dict(model.state_dict())
    assert torch.equal(twin(x), expected)
    assert configuration(twin) == configuration(model)
    entries = configuration(model)
    for operator, options in (("net2wider", {}), ("identity_block", {"axis": "depth"})):
        large: Any = expand(model, operator, factor=2.0, **options)
        assert (large(x) - expected).abs().max() < EXACTLY * expected.abs().max()
        assert drops(large) >= drops(model)
        assert configuration(large).get("attributes", {}).items() >= entries.get("attributes", {}).items()


def test_a_new_block_drops_as_much_as_the_block_before_it() -> None:
    large: Any = expand(vit(drop_path_rate=0.4), "identity_block", factor=2.0, axis="depth")
    assert [getattr(block.drop_path1, "drop_prob", 0.0) for block in large.blocks] == pytest.approx([0, 0, 0.4, 0.4])


STILL_REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "a classifier of two layers": (
        lambda: changed(resnet(), {"fc": nn.Sequential(nn.Dropout(), nn.Linear(8, 4))}),
        "'fc' has class = Sequential",
    ),
    "a classifier without a bias": (
        lambda: changed(vit(), {"head": nn.Linear(6, 3, bias=False)}),
        "'head.bias' is missing from module 'head'",
    ),
    "a classifier that is left out": (lambda: changed(vit(), {"head": nn.Identity()}), "no classifier"),
    "dropout in the place of an activation": (
        lambda: changed(vit(), {"blocks.0.mlp.act": nn.Dropout()}),
        "'blocks.0.mlp.act' has class = Dropout, expected GELU",
    ),
    "dropout of a class of its own": (
        lambda: changed(vit(), {"head_drop": type("Dropout", (nn.Dropout,), {"__module__": "mine"})()}),
        "'head_drop' has class = mine.Dropout",
    ),
    "half of what any image size takes": (
        lambda: changed(vit(), {"dynamic_img_size": True}),
        "'patch_embed' has flatten = True",
    ),
    "blocks of another kind in one stage": (
        lambda: changed(resnet(), {"layer3.0": NETWORKS["resnet of bottlenecks"].build(SHAPE).stages[0][0]}),  # type: ignore[index, union-attr]
        "'layer3.0' is of another kind",
    ),
}


@pytest.mark.parametrize(("make", "part"), STILL_REFUSED.values(), ids=STILL_REFUSED.keys())
def test_what_changes_the_function_is_refused_and_named(make: Callable[[], nn.Module], part: str) -> None:
    with pytest.raises(UndefinedError) as caught:
        architecture_of(make())
    assert part in str(caught.value)


WRONG: dict[str, dict[str, Any]] = {
    "a layer in the place of another": {"regularisation": {"blocks.0.mlp.fc1": {"class": "Dropout", "p": 0.1}}},
    "a layer in a sequence": {"regularisation": {"blocks.2": {"class": "Dropout", "p": 0.1}}},
    "a class that drops nothing": {"regularisation": {"head_drop": {"class": "Linear", "in_features": 2}}},
    "a module that is not there": {"regularisation": {"neck.drop": {"class": "Dropout", "p": 0.1}}},
    "an attribute that counts": {"attributes": {"blocks.0.attn": {"num_heads": 3}}},
    "a method": {"attributes": {"": {"forward": "x"}}},
    "no dictionary": {"regularisation": [1]},
}


@pytest.mark.parametrize("entries", WRONG.values(), ids=WRONG.keys())
def test_a_configuration_sets_nothing_but_what_leaves_the_function_alone(entries: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="does not fit its network"):
        build({**configuration(vit()), **entries})
