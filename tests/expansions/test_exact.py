"""Expansions to exact sizes, Net2Net, and identity layers in plain convolutional networks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from mmbench import expand
from mmbench.data.base import InputShape
from mmbench.errors import ConfigError, UndefinedError
from mmbench.expansions.base import EXPANSIONS
from mmbench.models.cnn import CNN
from mmbench.models.mlp import MLP
from mmbench.models.reading import architecture_of
from mmbench.models.resnet import ResNet
from tests.test_run import a_run

SHAPE, CIFAR = InputShape(1, 8, 3), InputShape(3, 32, 10)
BASE = CNN(channels=(4, 6), hidden=(10,))
DEEP = CNN(channels=(4, 8, 8, 8), pools=(4,), hidden=(10,))


def kept(base: CNN | MLP | ResNet, operator: str, **options: Any) -> nn.Module:
    """The larger network; checks that it computes the base model's function to 1e-10 in float64."""
    torch.manual_seed(0)
    small = base.build(SHAPE).double().eval()
    large = expand(small, operator, **options)
    pixels = torch.randn(20, 1, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        assert float((small(pixels) - large(pixels)).abs().max()) < 1e-10
    return large


@pytest.mark.parametrize(
    ("base", "operator", "to"),
    [
        (BASE, "net2wider", {"channels": [5, 6]}),
        (BASE, "net2wider", {"channels": [9, 7], "hidden": [11]}),
        (BASE, "zero_pad", {"hidden": [17]}),
        (BASE, "net2deeper", {"channels": [4, 4, 6]}),
        (BASE, "net2deeper", {"channels": [4, 6, 6], "hidden": [10, 10]}),
        (BASE, "net2net", {"channels": [5, 5, 7], "hidden": [12]}),
        (BASE, "net2net", {"channels": [4, 8, 6]}),  # the new layer is wider than both of its neighbours
        (MLP(hidden=(5, 7)), "net2net", {"hidden": [6, 6, 7]}),
        (ResNet(channels=(3, 4), layers=(1, 1)), "net2net", {"channels": [4, 6], "layers": [2, 1]}),
    ],
    ids=str,
)
def test_the_sizes_are_reached_exactly_and_the_function_is_kept(base: CNN, operator: str, to: dict[str, Any]) -> None:
    sizes = architecture_of(kept(base, operator, to=to))[0].sizes()
    assert {name: list(sizes[name]) for name in to} == to
    untouched = base.sizes().keys() - to.keys() - {"pools", "inner"}
    assert {name: sizes[name] for name in untouched} == {name: base.sizes()[name] for name in untouched}


@pytest.mark.parametrize("count", [5, 6, 7])
def test_identity_convolutions_are_put_where_the_paper_puts_them(count: int) -> None:
    """Between the third and the fourth of four."""
    channels = [4, *[8] * (count - 1)]
    large = kept(DEEP, "net2net", to={"channels": channels}, after=[3])
    architecture = architecture_of(large)[0]
    assert list(architecture.sizes()["channels"]) == channels
    assert list(architecture.sizes()["pools"]) == [count]  # still after the last one
    identity = torch.zeros(8, 8, 3, 3, dtype=torch.float64)
    identity[range(8), range(8), 1, 1] = 1
    for place in range(4, count):
        assert torch.equal(large.get_submodule(f"conv{place}").weight, identity)


def test_a_kernel_beside_the_centre_is_no_identity() -> None:
    """The check above sees it."""
    torch.manual_seed(0)
    small = BASE.build(SHAPE).double().eval()
    large = expand(small, "net2deeper", to={"channels": [4, 4, 6]})
    with torch.no_grad():
        large.get_submodule("conv2").weight.copy_(large.get_submodule("conv2").weight.roll(1, dims=3))
        pixels = torch.randn(20, 1, 8, 8, dtype=torch.float64)
        assert float((small(pixels) - large(pixels)).abs().max()) > 1e-3


TABLE_3 = [
    ([16, 32], [256]),
    ([32, 32], [256]),
    ([8, 8, 32], [976]),
    ([16, 16, 32], [976]),
    ([8, 32, 32], [976]),
    ([8, 8, 8, 32], [3712]),
    ([8, 8, 16, 32], [3712]),
    ([8, 16, 16, 32], [3712]),
    ([16, 16, 32, 32], [3584]),
    ([32, 32, 32, 32], [3584]),
]
"""The candidates of equal size in the paper: channels and hidden units."""


@pytest.mark.parametrize(("channels", "hidden"), TABLE_3, ids=str)
def test_table_3_with_one_pool_is_reached_and_has_its_true_sizes(channels: list[int], hidden: list[int]) -> None:
    to = {"channels": channels, "hidden": hidden}
    target = EXPANSIONS.create({"name": "net2net", "to": to}).target(CNN(), CIFAR).architecture
    assert (list(target.sizes()["channels"]), list(target.sizes()["hidden"])) == (channels, hidden)
    counts, previous = 0, 3
    for width in channels:
        counts, previous = counts + previous * width * 9 + width, width
    counts += previous * 256 * hidden[0] + hidden[0] + hidden[0] * 10 + 10
    assert target.parameters(CIFAR) == counts
    assert 2.1e6 < counts < 30.6e6  # not the 0.5 million of the table
    kept(CNN(hidden=(8,)), "net2net", to={"channels": channels, "hidden": [max(9, hidden[0] // 64)]})


def test_table_3_with_a_pool_after_every_convolution_has_the_papers_sizes_and_changes_the_function() -> None:
    """The reading in which the sizes are alike: old layers would see smaller images."""
    base, counts = CNN(pools=(1, 2)), []
    for channels, hidden in TABLE_3:
        pools = [*range(1, len(channels) + 1)]
        to = {"channels": channels, "hidden": hidden, "pools": pools}
        scratch = EXPANSIONS.create({"name": "scratch", "to": to}).target(base, CIFAR).architecture
        counts.append(scratch.parameters(CIFAR))
        if len(channels) > 2:
            with pytest.raises(UndefinedError, match="the old layers see other image sizes, so the function changes"):
                EXPANSIONS.create({"name": "net2net", "to": to}).target(base, CIFAR)
    assert (min(counts), max(counts)) == (513_602, 537_258)


@pytest.mark.parametrize(
    ("operator", "options", "message"),
    [
        ("net2wider", {"to": {"chanels": [5, 6]}}, "has no such size; its sizes are channels, hidden"),
        ("net2wider", {"to": {"channels": [3, 6]}}, r"makes channels = \[3, 6\] of the base model's \[4, 6\]: no size"),
        ("net2wider", {"to": {"channels": [4, 6]}}, "gives the base model's own sizes"),
        ("net2wider", {"to": {"channels": [4, 4, 6]}}, "net2net"),
        ("net2deeper", {"to": {"channels": [5, 6]}}, "net2net"),
        ("net2deeper", {"to": {"channels": [4, 5, 6]}}, "net2net"),
        ("net2wider", {"to": {"kernel_size": [3, 3]}}, "has one number there, now 3"),
    ],
    ids=str,
)
def test_what_cannot_be_reached_is_refused_with_the_reason(operator: str, options: Any, message: str) -> None:
    with pytest.raises(UndefinedError, match=message):
        EXPANSIONS.create({"name": operator, **options}).target(BASE, SHAPE)


@pytest.mark.parametrize("also", [{"budget": 2.0}, {"match": "zero_pad"}], ids=str)
def test_only_one_option_sets_the_size(also: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"expansion\.to"):
        EXPANSIONS.create({"name": "net2wider", "to": {"channels": [5, 6]}, **also})


@pytest.mark.parametrize("wrong", [{"channels": [0, 6]}, {"channels": "wide"}, {"channels": [5.5, 6]}, [5, 6]], ids=str)
def test_a_wrong_value_names_its_key(wrong: Any) -> None:
    with pytest.raises(ConfigError, match=r"expansion\.to"):
        EXPANSIONS.create({"name": "net2wider", "to": wrong})


def test_two_sizes_are_two_configurations_with_two_labels() -> None:
    operators = [EXPANSIONS.create({"name": "net2wider", "to": {"channels": [n, 6]}}) for n in (5, 6)]
    runs = [a_run(model=BASE, expansion=operator) for operator in operators]
    assert len({run.expansion.label for run in runs}) == 2
    assert len({run.identity()["configuration"] for run in runs}) == 2
    assert [operator.target(BASE, SHAPE).factor for operator in operators] == [1.25, 1.5]
