"""Expansions to exact sizes: they are reached, the function is kept, and what cannot be reached is refused."""

import itertools

import pytest
import torch

from mmbench.data.base import InputShape
from mmbench.errors import ConfigError, UndefinedError
from mmbench.expansions.apply import expand
from mmbench.expansions.base import EXPANSIONS
from mmbench.expansions.net2deeper import Net2Deeper
from mmbench.models.base import MODELS
from mmbench.models.reading import architecture_of
from mmbench.testing.cells import assert_the_function_is_kept, examples, wild_initialisation
from mmbench.testing.models import CLEARLY, NETWORKS, SHAPE, difference, network

COLOUR = InputShape(channels=3, image_size=32, classes=10)
CNN = MODELS["cnn"]()  # C(8) - C(32) - pool - F(256)
DEEP = MODELS["cnn"](channels=(16, 64, 64, 64), pools=(4,), hidden=(7,))
TABLE_3 = [  # channels, hidden units, parameters with the single pool, and with one after every convolution
    ((16, 32), 256, 2_105_066, 532_202),
    ((32, 32), 256, 2_110_122, 537_258),
    ((8, 8, 32), 976, 8_009_282, 513_602),
    ((16, 16, 32), 976, 8_013_546, 517_866),
    ((8, 32, 32), 976, 8_017_946, 522_266),
    ((8, 8, 8, 32), 3712, 30_453_274, 519_706),
    ((8, 8, 16, 32), 3712, 30_456_162, 522_594),
    ((8, 16, 16, 32), 3712, 30_457_898, 524_330),
    ((16, 16, 32, 32), 3584, 29_416_218, 514_842),
    ((32, 32, 32, 32), 3584, 29_428_202, 526_826),
]


def target(operator, base=CNN, shape=COLOUR, **options):
    return EXPANSIONS.create({"name": operator, **options}).target(base, shape)


def counted(channels, pools, hidden, shape=COLOUR):
    """Parameters of a CNN of 3x3 convolutions with one hidden layer, by hand."""
    convolutions = sum(b * (9 * a + 1) for a, b in itertools.pairwise([shape.channels, *channels]))
    inputs = channels[-1] * (shape.image_size >> len(pools)) ** 2
    return convolutions + hidden * (inputs + 1) + shape.classes * (hidden + 1)


@pytest.mark.parametrize(
    ("name", "operator", "to"),
    [
        ("cnn", "net2wider", {"channels": [10, 32]}),
        ("cnn", "net2wider", {"channels": [3, 6], "hidden": [8]}),
        ("cnn", "zero_pad", {"channels": [4, 7], "hidden": 9}),
        ("cnn", "gradmax", {"hidden": [11]}),
        ("cnn", "kernel_pad", {"kernel_size": 5}),
        ("cnn", "net2deeper", {"channels": [3, 3, 5, 5]}),
        ("cnn", "net2net", {"channels": [3, 4, 6, 5], "hidden": [8]}),
        ("cnn", "net2net", {"channels": [4, 9, 5, 7]}),
        ("cnn of equal layers", "net2net", {"channels": [4, 5, 6, 7, 8, 9], "hidden": [6, 7, 8]}),
        ("cnn", "width_then_depth", {"channels": [4, 6, 6], "depth": "net2deeper"}),
        ("mlp", "net2net", {"hidden": [9, 8, 7, 6]}),
        ("mlp", "net2deeper", {"hidden": [7, 7, 5]}),
        ("resnet", "net2net", {"channels": [4, 5], "layers": [2, 3]}),
        ("resnet", "net2wider", {"inner": [3, 7]}),
        ("vit", "net2wider", {"hidden": 9}),
        ("vit", "net2net", {"hidden": 9, "layers": 3}),
        ("mixer", "zero_pad", {"token_hidden": 6}),
        ("convnext", "net2wider", {"hidden": [5, 6, 7, 9]}),
    ],
    ids=str,
)
def test_the_sizes_are_those_asked_for_and_the_function_is_kept(name, operator, to, monkeypatch):
    wild_initialisation(monkeypatch)
    to = dict(to)
    options = {"depth": to.pop("depth")} if "depth" in to else {}
    base = network(NETWORKS[name])
    large = expand(base, operator, to=to, data=examples(), **options)
    found, before = architecture_of(large)[0].sizes(), NETWORKS[name].sizes()
    for size, wanted in to.items():
        entries = tuple(wanted) if isinstance(wanted, list) else (wanted,)
        assert found.pop(size) == (entries if isinstance(before[size], tuple) else wanted)
    follows = {"cnn": {"pools"}, "resnet": {"inner"}}.get(NETWORKS[name].name, set())
    assert {size for size in found if found[size] != before[size]} <= follows
    assert_the_function_is_kept(base, large)


@pytest.mark.parametrize("n", [5, 6, 7])
@pytest.mark.parametrize("operator", ["net2deeper", "net2net"])
def test_identities_stand_between_the_third_and_the_fourth_convolution(operator, n, monkeypatch):
    """The depth cell of the paper's network for CIFAR-100."""
    wild_initialisation(monkeypatch)
    base = network(DEEP)
    large = expand(base, operator, to={"channels": [16, *[64] * (n - 1)]}, after=[3])
    assert architecture_of(large)[0] == DEEP.of({**DEEP.sizes(), "channels": (16, *[64] * (n - 1)), "pools": (n,)})
    old = {f"conv{i}": f"conv{i}" for i in (1, 2, 3)} | {f"conv{n}": "conv4"}
    for i in range(1, n + 1):
        new, origin = large.get_submodule(f"conv{i}"), old.get(f"conv{i}")
        if origin:
            assert torch.equal(new.weight, base.get_submodule(origin).weight)
        else:
            assert torch.equal(new.weight, torch.nn.init.dirac_(torch.empty_like(new.weight)))
            assert not new.bias.any()
    assert difference(base, large) < 1e-10


@pytest.mark.parametrize(("channels", "hidden", "single", "pooled"), TABLE_3, ids=str)
def test_the_candidates_of_table_3_in_both_readings(channels, hidden, single, pooled):
    to = {"channels": list(channels), "hidden": [hidden]}
    found = target("net2net", to=to).architecture
    assert (found.channels, found.hidden, found.pools) == (channels, (hidden,), (len(channels),))
    assert found.parameters(COLOUR) == single == counted(channels, found.pools, hidden)
    to["pools"] = [*range(1, len(channels) + 1)]
    found = target("scratch", to=to).architecture
    assert (found.channels, found.hidden, [*found.pools]) == (channels, (hidden,), to["pools"])
    assert found.parameters(COLOUR) == pooled == counted(channels, found.pools, hidden)
    for operator in ("net2net", "net2wider" if len(channels) == 2 else "net2deeper", "random_pad"):
        if (operator, len(channels)) == ("random_pad", 2) or operator != "random_pad":
            with pytest.raises(UndefinedError) as caught:
                target(operator, to=to if operator != "net2deeper" else {"channels": [8, 8, 32], "pools": [1, 2, 3]})
            assert "with pools after the convolutions [1, 2" in str(caught.value)
            assert "instead of [2] the old layers see other image sizes" in str(caught.value)


@pytest.mark.parametrize(("channels", "hidden"), [row[:2] for row in TABLE_3], ids=str)
def test_the_candidates_of_table_3_keep_the_function(channels, hidden, monkeypatch):
    """On small images, and with a fiftieth of the hidden units; the convolutions are the paper's."""
    wild_initialisation(monkeypatch)
    base = network(CNN.of({**CNN.sizes(), "hidden": (5,)}))
    hidden = round(hidden / 50)
    large = expand(base, "net2net", to={"channels": list(channels), "hidden": hidden})
    sizes = architecture_of(large)[0].sizes()
    assert (sizes["channels"], sizes["hidden"], sizes["pools"]) == (channels, (hidden,), (len(channels),))
    assert difference(base, large) < 1e-10


def test_the_papers_network_keeps_its_function_when_its_first_convolution_is_widened():
    base = network(CNN, shape=COLOUR)
    large = expand(base, "net2wider", to={"channels": [10, 32]})
    x = torch.randn(4, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        assert (base(x) - large(x)).abs().max() < 1e-10
    assert large.conv1.out_channels == 10


def off_centre(growth, name, tensor):
    return tensor.roll(1, -1)


def not_the_identity(growth, name, tensor):
    return tensor.roll(1, 0)


@pytest.mark.parametrize("change", [off_centre, not_the_identity])
@pytest.mark.parametrize("to", [{"channels": [3, 3, 5]}, {"channels": [4, 6, 5, 7]}], ids=str)
def test_another_kernel_of_a_new_convolution_is_seen(change, to, monkeypatch):
    fill = Net2Deeper.fill

    def wrong(self, growth):
        for name, tensor in fill(self, growth):
            fresh = growth.source(name) is None and tensor.dim() == 4
            yield name, change(growth, name, tensor) if fresh else tensor

    base = network(NETWORKS["cnn"])
    assert difference(base, expand(base, "net2net", to=to)) < 1e-10
    monkeypatch.setattr(Net2Deeper, "fill", wrong)
    assert difference(base, expand(base, "net2net", to=to)) > CLEARLY


@pytest.mark.parametrize(
    ("operator", "to", "message"),
    [
        (
            "net2wider",
            {"chanels": [10, 32]},
            "expansion.to.chanels: a network of the family 'cnn' has no such size; its",
        ),
        (
            "net2wider",
            {"channels": [6, 32]},
            "makes channels = [6, 32] of the base model's [8, 32]: no size can shrink",
        ),
        (
            "scratch",
            {"channels": [16, 31]},
            "makes channels = [16, 31] of the base model's [8, 32]: no size can shrink",
        ),
        (
            "net2net",
            {"channels": [64]},
            "layers of the widths [8, 32] cannot become [64]: in order, and the first as the",
        ),
        ("net2wider", {"channels": [8, 32]}, "expansion.to gives the base model's own sizes; raise one"),
        (
            "net2wider",
            {"channels": [8, 8, 32]},
            "needs more layers (expansion.axis = depth), and net2wider grows width",
        ),
        (
            "net2wider",
            {"kernel_size": 5},
            "expansion.to needs kernel_size (expansion.axis = kernel), and net2wider grows",
        ),
        ("net2wider", {"kernel_size": [5, 5]}, "a network of the family 'cnn' has one number there, now 3"),
        (
            "net2deeper",
            {"channels": [10, 32]},
            "needs channels (expansion.axis = convolutions or first or width), and n",
        ),
        (
            "net2deeper",
            {"hidden": 300},
            "needs hidden (expansion.axis = hidden or width), and net2deeper grows depth on",
        ),
        (
            "net2deeper",
            {"channels": [8, 16, 32]},
            "model.channels = [8, 32] cannot become [8, 16, 32]; use expansion=ne",
        ),
        ("net2net", {"channels": [8, 4, 32]}, "layers of the widths [8, 32] cannot become [8, 4, 32]: in order, and"),
        ("net2wider", {"channels": [10, 32], "pools": [1]}, "instead of [2] the old layers see other image sizes"),
        (
            "net2net",
            {"channels": [8, 8, 32], "pools": [2, 9]},
            "must be ascending numbers from 1 to 3, the number of mo",
        ),
        ("kernel_pad", {"kernel_size": 4}, "no network of the family 'cnn': model.kernel_size = 4 must be odd"),
        ("width_then_depth", {"channels": [8, 8, 32]}, "identity_block is not defined for the family 'cnn'"),
    ],
    ids=str,
)
def test_sizes_that_cannot_be_reached_are_refused_with_the_reason(operator, to, message):
    with pytest.raises(UndefinedError) as caught:
        target(operator, to=to)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        *(
            (
                {"to": {"channels": [10, 32]}, **option},
                f"expansion.to and expansion.{next(iter(option))} both set the size",
            )
            for option in ({"factor": 3.0}, {"budget": 2.0}, {"match": "scratch"}, {"depth_factor": 3.0})
        ),
        (
            {"to": {"channels": [8.5, 32]}},
            "expansion.to.channels = [8.5, 32] is not allowed: must be an integer >= 1, or",
        ),
        (
            {"to": {"channels": [0, 32]}},
            "expansion.to.channels = [0, 32] is not allowed: must be an integer >= 1, or a",
        ),
        ({"to": {"hidden": True}}, "expansion.to.hidden = True is not allowed"),
        ({"to": [10, 32]}, "expansion.to = [10, 32] must hold sizes by name, as in expansion.to.channels=[10,32]"),
        ({"after": [3], "budget": 2.0}, "expansion.after goes with expansion.factor or expansion.to, not with budget"),
    ],
    ids=str,
)
def test_options_that_contradict_each_other_are_refused(options, message):
    with pytest.raises(ConfigError) as caught:
        EXPANSIONS.create({"name": "net2net", **options})
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("to", "after", "message"),
    [
        ([16, 64, 64, 64, 64], [5], "expansion.after = [5] must name one of the 4 layers (1 to 4) that the 1 new ones"),
        (
            [16, *[64] * 5],
            [1, 2, 3],
            "expansion.after = [1, 2, 3] must name one of the 4 layers (1 to 4) that the 2 new",
        ),
        ([16, *[64] * 4], [1], "net2deeper inserts layers that are as wide as the ones that they follow"),
    ],
    ids=str,
)
def test_places_that_do_not_fit_are_refused(to, after, message):
    with pytest.raises(UndefinedError) as caught:
        target("net2deeper", DEEP, to={"channels": to}, after=after)
    assert message in str(caught.value)


def test_a_residual_network_gets_no_more_stages():
    with pytest.raises(UndefinedError, match="give both the same"):
        target("net2wider", NETWORKS["resnet"], SHAPE, to={"channels": [4, 5, 6]})
    with pytest.raises(
        UndefinedError, match=r"expansion.to.channels = \[4, 5, 6\] has 3 stages, and the base model has 2"
    ):
        target("net2wider", NETWORKS["resnet"], SHAPE, to={"channels": [4, 5, 6], "layers": [1, 2, 1]})


def test_other_sizes_are_other_configurations_with_other_labels():
    wanted = (
        {"channels": [10, 32]},
        {"channels": [12, 32]},
        {"channels": [10, 32], "hidden": 300},
        {"hidden": 300},
        {},
    )
    made = [EXPANSIONS.create({"name": "net2wider", "to": to}) for to in wanted]
    assert len({expansion.label for expansion in made}) == len(made)
    assert len({str(expansion.describe()) for expansion in made}) == len(made)
    assert made[2].label == "net2wider to channels=10,32 hidden=300"
    assert all(EXPANSIONS.create(expansion.options()) == expansion for expansion in made)
    swapped = EXPANSIONS.create({"name": "net2wider", "to": {"hidden": 300, "channels": (10, 32), "layers": None}})
    assert swapped == made[2]
    deeper = [EXPANSIONS.create({"name": "net2net", "to": wanted[0], "after": after}) for after in (None, [1], [2])]
    assert len({expansion.label for expansion in deeper}) == len({str(e.describe()) for e in deeper}) == 3


def test_what_to_replaces_makes_no_other_configuration():
    """Two spellings of one expansion are one stage in the store."""
    first, second = (
        EXPANSIONS.create({"name": "net2wider", "to": {"hidden": 9}, "axis": a}) for a in ("width", "first")
    )
    assert first.describe() == second.describe()
    assert first.describe()["to"] == {"hidden": 9}
