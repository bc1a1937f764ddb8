"""A wrapped network is unwrapped where the wrapper computes the same; elsewhere the network inside is named."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from timm.utils import ModelEmaV2, ModelEmaV3
from torch import nn
from torch.optim.swa_utils import AveragedModel

from mmbench.errors import UndefinedError
from mmbench.expansions.apply import expand
from mmbench.models.parts import unwrapped
from mmbench.models.reading import architecture_of, configuration
from mmbench.testing.models import EXACTLY, NETWORKS, SHAPE, images, network
from tests.models.stock import vit

WRAPPERS: dict[str, Callable[[nn.Module], Any]] = {
    "DataParallel": nn.DataParallel,
    "torch.compile": torch.compile,  # type: ignore[dict-item]
    "AveragedModel": AveragedModel,
    "ModelEmaV2": ModelEmaV2,
    "ModelEmaV3": ModelEmaV3,
    "a compiled DataParallel": lambda model: torch.compile(nn.DataParallel(model)),
    "a subclass of DataParallel": type("Parallel", (nn.DataParallel,), {}),
}


@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS.keys())
def test_a_wrapped_network_is_read_and_grown(wrap: Callable[[nn.Module], Any]) -> None:
    model = network(NETWORKS["vit"])
    wrapped = wrap(model)
    assert architecture_of(wrapped) == (NETWORKS["vit"], SHAPE)
    assert configuration(wrapped) == configuration(model)
    large = expand(wrapped, "net2wider", factor=2.0)
    assert type(large) is type(model)
    assert (large(images()) - model(images())).abs().max() < EXACTLY


def test_what_is_not_wrapped_stays() -> None:
    model = network(NETWORKS["mlp"])
    assert unwrapped(model) is model
    assert unwrapped(nn.DataParallel(model)) is model


class Lightning(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.loss, self.net = nn.CrossEntropyLoss(), model


INSIDE: dict[str, tuple[Callable[[], Any], str]] = {
    "in a module of one's own": (lambda: Lightning(vit()), "its module 'net' is one of the family 'vit': give that"),
    "after a normalisation": (
        lambda: nn.Sequential(nn.BatchNorm2d(2), vit()),
        "its module '1' is one of the family 'vit'",
    ),
    "as a variant": (
        lambda: Lightning(vit(act_layer=nn.ReLU)),
        "its module 'net', which looks like one, is none: this VisionTransformer is not",
    ),
    "no network at all": (lambda: "vit", "model must be a network (nn.Module): got str"),
}


@pytest.mark.parametrize(("make", "hint"), INSIDE.values(), ids=INSIDE.keys())
def test_the_network_inside_another_is_named(make: Callable[[], Any], hint: str) -> None:
    with pytest.raises(UndefinedError) as caught:
        architecture_of(make())
    assert hint in str(caught.value)
