"""What is defined, operator by operator, family by family, axis by axis; what is not says why."""

import pytest

from mmbench.errors import UndefinedError
from mmbench.expansions.apply import expand
from mmbench.expansions.base import EXPANSIONS
from mmbench.testing.cells import Cell
from mmbench.testing.models import NETWORKS, SHAPE, network
from tests.expansions.cells import OPERATORS

WIDTHS = {
    "mlp": "width first hidden",
    "cnn": "width first convolutions hidden",
    "resnet": "width first convolutions stream hidden",
    "vit": "width stream hidden heads head_dim",
    "mixer": "width stream hidden",
    "convnext": "width stream hidden",
}
ALL = {
    "mlp": "width first hidden depth",
    "cnn": "width first convolutions hidden depth kernel",
    "resnet": "width first convolutions stream hidden depth kernel",
    "vit": "width stream hidden heads head_dim depth",
    "mixer": "width stream hidden depth",
    "convnext": "width stream hidden depth kernel",
}
PLAIN = ("mlp", "cnn")
BLOCKS = dict.fromkeys(("resnet", "vit", "mixer", "convnext"), "depth")
DEFINED_AXES = {
    "net2wider": WIDTHS,
    "hypercloning": WIDTHS,
    "bert2bert_aki": {**WIDTHS, "mlp": "width hidden", "cnn": "width convolutions hidden"},
    "random_pad": WIDTHS,
    "width_then_depth": WIDTHS,
    "net2net": WIDTHS,
    "lemon": {"vit": "width stream hidden heads"},
    "zero_pad": {**WIDTHS, "vit": "hidden heads", "mixer": "hidden", "convnext": "hidden"},
    "gradmax": dict.fromkeys(("mlp", "cnn", "vit", "mixer", "convnext"), "hidden"),
    "kernel_pad": dict.fromkeys(("cnn", "resnet", "convnext"), "kernel"),
    "identity_block": BLOCKS,
    "stack": BLOCKS,
    "interpolate": BLOCKS,
    "net2deeper": dict.fromkeys(PLAIN, "depth"),
    "ligo": {f: axes.replace(" head_dim", "").replace(" kernel", "") for f, axes in ALL.items()},
    "scratch": ALL,
    "scratch_matched": ALL,
}
"""The axes along which each operator grows each family, for some network of the family."""

NEEDS = {
    "first": dict.fromkeys(("vit", "mixer", "convnext"), "its first layer writes into the stream, which all blocks s"),
    "convolutions": dict.fromkeys(("mlp", "vit", "mixer", "convnext"), "it has no convolutions with channels of thei"),
    "stream": dict.fromkeys(PLAIN, "it has no residual stream"),
    "heads": dict.fromkeys((*PLAIN, "resnet", "mixer", "convnext"), "it has no attention heads"),
    "head_dim": dict.fromkeys((*PLAIN, "resnet", "mixer", "convnext"), "it has no attention heads"),
    "kernel": dict.fromkeys(("mlp", "vit", "mixer"), "it has no convolution kernels that can grow around their centre"),
}
"""Why a family has no such axis."""
NO_BLOCKS = "which has no residual blocks"
NOT_ALONE = "where a channel that carries the mean over the others would not stay their mean"
IN_BLOCKS = "whose layers are in residual blocks"
REASONS = {
    "lemon": {
        **dict.fromkeys(PLAIN, "which has no LayerNorm; net2wider is exact there"),
        "resnet": "which has no LayerNorm; net2wider is exact there",
        "mixer": NOT_ALONE,
        "convnext": NOT_ALONE,
    },
    "identity_block": dict.fromkeys(PLAIN, NO_BLOCKS),
    "stack": dict.fromkeys(PLAIN, NO_BLOCKS),
    "interpolate": dict.fromkeys(PLAIN, NO_BLOCKS),
    "bert2bert_aki": dict.fromkeys(PLAIN, "no two consecutive blocks of equal shape that get new rows"),
    "net2deeper": dict.fromkeys(BLOCKS, IN_BLOCKS),
    "gradmax": {"resnet": "where batch norm and ReLU leave units of zero incoming weights without a gradient"},
    "kernel_pad": {
        "mlp": "the family 'mlp'; its families are cnn, resnet, convnext",
        "vit": "the family 'vit'; its families are cnn, resnet, convnext",
        "mixer": "the family 'mixer'; its families are cnn, resnet, convnext",
    },
    "zero_pad": dict.fromkeys(("vit", "mixer", "convnext"), "normalises it, and new channels would change its result"),
}
"""Why an operator is not defined for a family that has the axis."""

CLAIMS = {
    "net2wider": ("exact", "expansion", False),
    "hypercloning": ("exact", "expansion", False),
    "lemon": ("exact", "expansion", False),
    "zero_pad": ("exact", "expansion", False),
    "gradmax": ("exact", "expansion", True),
    "kernel_pad": ("exact", "expansion", False),
    "identity_block": ("exact", "expansion", False),
    "net2deeper": ("exact", "expansion", False),
    "width_then_depth": ("exact", "expansion", False),
    "net2net": ("exact", "expansion", False),
    "bert2bert_aki": ("no", "expansion", False),
    "ligo": ("no", "expansion", True),
    "random_pad": ("no", "expansion", False),
    "stack": ("no", "expansion", False),
    "interpolate": ("no", "expansion", False),
    "none": ("exact", "control", False),
    "scratch": ("no", "control", False),
    "scratch_matched": ("no", "control", False),
}


def options_of(operator, family, axis):
    """A plain network needs another depth operator than all others."""
    plain = operator == "width_then_depth" and family in PLAIN
    return {"axis": axis, **({"depth": "net2deeper"} if plain else {})}


def axes_found(operator, family):
    """The axes along which the operator grows some network of the family."""
    names = [name for name, architecture in NETWORKS.items() if architecture.name == family]
    axes = EXPANSIONS[operator].axes()
    return {a for a in axes if any(Cell(operator, options_of(operator, family, a), n).is_defined() for n in names)}


@pytest.mark.parametrize("operator", DEFINED_AXES)
def test_the_defined_cells_are_these(operator):
    found = {family: axes_found(operator, family) for family in ALL}
    assert {f: axes for f, axes in found.items() if axes} == {
        f: {*a.split()} for f, a in DEFINED_AXES[operator].items()
    }


def _undefined():
    for operator, families in DEFINED_AXES.items():
        for family in ALL:
            for axis in EXPANSIONS[operator].axes():
                if axis not in families.get(family, "").split():
                    yield operator, family, axis


@pytest.mark.parametrize(("operator", "family", "axis"), [*_undefined()], ids=str)
def test_an_undefined_cell_gives_its_reason(operator, family, axis):
    if EXPANSIONS[operator].families is None and family in NEEDS.get(axis, {}):
        reason = NEEDS[axis][family]
    else:
        reason = REASONS[operator][family]
    with pytest.raises(UndefinedError) as caught:
        Cell(operator, options_of(operator, family, axis), family).expand()
    assert reason in str(caught.value)


def test_operators_claim_what_is_known():
    found = {name: (cls.preserves, cls.arm, cls.needs_data) for name in OPERATORS for cls in [EXPANSIONS[name]]}
    assert found.items() >= CLAIMS.items()


@pytest.mark.parametrize(
    ("operator", "options", "name", "message"),
    [
        ("net2wider", {"factor": 1.5}, "vit", "'stream' whole, since a LayerNorm normalises it, and 6 -> 9 is not an"),
        (
            "net2wider",
            {"factor": 1.5},
            "mixer",
            "'stream' whole, since a LayerNorm normalises it, and 6 -> 9 is not an",
        ),
        (
            "net2wider",
            {"factor": 1.5},
            "convnext",
            "'stage0' whole, since a LayerNorm normalises it, and 3 -> 5 is not a",
        ),
        (
            "net2wider",
            {"factor": 1.5, "axis": "head_dim"},
            "vit",
            "'head_dim' whole, since attention takes dot product",
        ),
        ("bert2bert_aki", {"factor": 1.5}, "vit", "bert2bert_aki can only copy the group 'stream' whole"),
        ("hypercloning", {"factor": 1.5}, "resnet", "hypercloning copies the whole network: 3 -> 5 channels"),
        ("hypercloning", {"factor": 1.5, "axis": "hidden"}, "mlp", "7 -> 11 channels in the group 'fc1' is not an"),
        ("bert2bert_aki", {}, "mlp", "this network has no two consecutive blocks of equal shape"),
        ("bert2bert_aki", {}, "resnet", "this network has no two consecutive blocks of equal shape"),
        (
            "ligo",
            {"axis": "depth"},
            "mlp",
            "ligo takes new blocks from old ones of equal shape, and the stage of 'fc1'",
        ),
        ("stack", {}, "resnet of bottlenecks", "stack takes new blocks from old ones of equal shape, and the stage of"),
        ("width_then_depth", {}, "mlp", "identity_block is not defined for the family 'mlp', which has no residual bl"),
        ("width_then_depth", {"width": "lemon"}, "mixer", "lemon is not defined for the family 'mixer', where a chan"),
        ("width_then_depth", {"depth": "net2deeper"}, "vit", "net2deeper is not defined for the family 'vit', whose "),
        ("width_then_depth", {"width": "zero_pad"}, "vit", "zero_pad cannot add channels to the group 'stream'"),
    ],
    ids=str,
)
def test_a_network_or_factor_that_does_not_fit_is_refused_with_the_reason(operator, options, name, message):
    with pytest.raises(UndefinedError) as caught:
        Cell(operator, options, name).expand()
    assert message in str(caught.value)


def test_lemon_refuses_a_norm_that_writes_into_the_stream():
    base = NETWORKS["vit"].of({**NETWORKS["vit"].sizes(), "pre_norm": True})
    with pytest.raises(UndefinedError, match=r"lemon is not defined for model\.pre_norm = true, whose LayerNorm feeds"):
        EXPANSIONS["lemon"]().target(base, SHAPE)
    assert EXPANSIONS["net2wider"]().target(base, SHAPE).architecture.embed_dim == 12


def test_a_factor_that_changes_nothing_is_refused():
    with pytest.raises(UndefinedError, match=r"expansion.factor = 1\.01 rounds to the base model's own size; raise it"):
        expand(network(NETWORKS["mlp"]), "net2wider", factor=1.01)
