"""The axis tables against the networks they describe."""

import pytest
import torch
from torch.func import functional_call

from mmbench.data.base import InputShape
from mmbench.registry import MODELS
from models.networks import FAMILIES, SHAPE, images, network, small

DIGITS, COLOUR = InputShape(1, 8, 10), InputShape(3, 12, 2)
SIZES = [
    *((small(family), SHAPE) for family in FAMILIES),
    *((MODELS[family](), shape) for family in FAMILIES for shape in (DIGITS, COLOUR)),
    *((small(family).widened(2.0), SHAPE) for family in FAMILIES),
    (MODELS["mlp"](hidden=(5,)), COLOUR),
    (MODELS["mlp"](hidden=(9, 2, 4, 3)), DIGITS),
    (MODELS["resnet"](channels=(4,), layers=(2,)), COLOUR),
    (MODELS["resnet"](channels=(6, 6, 2), layers=(2, 1, 3)), DIGITS),
    (MODELS["vit"](embed_dim=7, heads=1, hidden=61, patch_size=4), DIGITS),  # 61 / 7 * 7 < 61 in floating point
    (MODELS["vit"](embed_dim=176, heads=11, hidden=403, layers=1, patch_size=4), COLOUR),
    (MODELS["vit"](embed_dim=12, heads=3, hidden=5, layers=3, patch_size=1), InputShape(3, 3, 4)),
]


def axes_of(family: str) -> list[tuple[str, str, int]]:
    """All (group, tensor, dim) of a family's small network."""
    tensors = small(family).table(SHAPE).tensors
    return [(axis.group, name, dim) for name, axes in tensors.items() for dim, axis in enumerate(axes) if axis.group]


GROUPS = [(family, group) for family in FAMILIES for group in small(family).table(SHAPE).groups]
AXES = [(family, *axis) for family in FAMILIES for axis in axes_of(family)]


@pytest.mark.parametrize(("architecture", "shape"), SIZES, ids=lambda value: f"{type(value).__name__} {value}")
def test_a_table_has_the_names_and_shapes_of_the_state_dict(architecture, shape):
    model, table = architecture.build(shape), architecture.table(shape)
    assert {name: table.shape(name) for name in table.tensors} == {k: tuple(v.shape) for k, v in _state(model).items()}
    assert table.buffers == {name for name, _ in model.named_buffers()}
    assert {axis.group for axes in table.tensors.values() for axis in axes} - {None} == table.groups.keys()
    assert architecture.parameters(shape) == sum(p.numel() for p in model.parameters())
    with torch.no_grad():
        x = torch.randn(2, shape.channels, shape.image_size, shape.image_size)
        assert model.eval()(x).shape == (2, shape.classes)


@pytest.mark.parametrize(("family", "group"), GROUPS, ids=lambda value: value)
def test_permuting_all_axes_of_a_group_leaves_the_function(family, group):
    assert _change_by_permuting(family, [axis for axis in axes_of(family) if axis[0] == group]) < 1e-10


@pytest.mark.parametrize(("family", "group", "name", "dim"), AXES, ids=str)
def test_permuting_one_axis_of_a_group_alone_changes_the_function(family, group, name, dim):
    assert _change_by_permuting(family, [(group, name, dim)]) > 1e-3


def _change_by_permuting(family, which):
    """max |change of logits| after a cyclic shift of the channels along the axes `which`."""
    table, model = small(family).table(SHAPE), network(small(family))
    state = dict(_state(model))
    for group, name, dim in which:
        axis, size = table.tensors[name][dim], table.groups[group].size
        last = state[name].movedim(dim, -1)
        rolled = last.reshape(*last.shape[:-1], axis.repeat, size, axis.unit).roll(1, dims=-2)
        state[name] = rolled.reshape(last.shape).movedim(-1, dim)
    with torch.no_grad():
        return float((functional_call(model, state, images()) - model(images())).abs().max())


def _state(model):
    return model.state_dict()


@pytest.mark.parametrize("family", FAMILIES)
def test_every_tensor_matters_to_the_small_network_that_the_tests_use(family):
    model = network(small(family))
    with torch.no_grad():
        logits = model(images())
        assert logits.std(0).min() > 1e-2, "the logits hardly depend on the input"
        assert logits.abs().max() < 100
        for name, tensor in _state(model).items():
            if tensor.dtype.is_floating_point:
                moved = {name: tensor + 0.1 * torch.randn(tensor.shape, generator=torch.Generator().manual_seed(2))}
                assert (functional_call(model, moved, images()) - logits).abs().max() > 1e-3, name


def test_sizes_are_planned_without_torch(in_fresh_python):
    script = f"""
import sys
from mmbench.data.base import InputShape
from mmbench.errors import UndefinedError
from mmbench.registry import EXPANSIONS, MODELS
shape, defined = InputShape{tuple(DIGITS)}, 0
for family in MODELS.names():
    base = MODELS[family]()
    assert base.widened(1.5).parameters(shape) > base.parameters(shape) > 0
    base.table(shape)
    for name in EXPANSIONS.names():
        for budget in [{{}}, {{"budget": 2.0}}] if "budget" in EXPANSIONS[name].model_fields else [{{}}]:
            try:
                EXPANSIONS[name](**budget).target(base, shape)
                defined += 1
            except UndefinedError:
                pass
assert defined > 20, defined
print(*sorted({{"torch", "timm", "numpy", "pandas"}} & sys.modules.keys()))
"""
    assert in_fresh_python(script).strip() == ""
