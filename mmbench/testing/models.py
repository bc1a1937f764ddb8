"""Contract of a network family, and small networks of all families for tests of other components.

In a test file of your package:

    from mmbench.testing.models import ModelContract

    class TestMine(ModelContract):
        model = "mine"
        options = {"widths": (7, 5)}  # of a small network, with odd sizes where possible
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from mmbench.data.base import InputShape
from mmbench.errors import UndefinedError
from mmbench.models.base import MODELS, Architecture
from mmbench.models.flops import count_flops, flops
from mmbench.models.reading import architecture_of, build, configuration
from mmbench.models.skeleton import skeleton
from mmbench.models.table import Table

SHAPE = InputShape(channels=2, image_size=8, classes=3)
SMALL: dict[str, dict[str, Any]] = {
    "mlp": {"hidden": (7, 5)},
    "cnn": {"channels": (3, 5), "pools": (2,), "hidden": (7,)},
    "resnet": {"channels": (3, 5), "layers": (1, 2)},
    "vit": {"embed_dim": 6, "heads": 2, "hidden": 7, "layers": 2, "patch_size": 4},
    "mixer": {"embed_dim": 6, "token_hidden": 5, "channel_hidden": 7, "layers": 2, "patch_size": 4},
    "convnext": {"channels": (3, 4, 5, 6), "layers": (1, 2, 1, 1), "hidden": (5, 6, 7, 8), "kernel_size": 3},
}
OTHERS: dict[str, dict[str, Any]] = {
    "mlp of equal layers": {"name": "mlp", "hidden": (8, 8, 8)},
    "cnn of equal layers": {"name": "cnn", "channels": (4, 4, 4), "pools": (1, 3), "hidden": (6, 6, 6)},
    "resnet of more blocks": {"name": "resnet", "channels": (3, 4), "layers": (2, 3)},
    "resnet of bottlenecks": {
        **{"name": "resnet", "block": "bottleneck", "channels": (2, 3), "layers": (1, 3), "inner": (3, 4)}
    },
    "convnext without layer scale": {**SMALL["convnext"], "name": "convnext", "layer_scale": False, "conv_mlp": True},
    "vit with options": {
        **SMALL["vit"],
        **{"name": "vit", "head_dim": 4, "layer_scale": True, "registers": 2, "pool": "avg"},
    },
    "vit of other biases": {**SMALL["vit"], "name": "vit", "qkv_bias": False, "eps": 0.05},
}
NETWORKS: dict[str, Architecture] = {
    **{family: MODELS.create({"name": family, **SMALL.get(family, {})}) for family in MODELS.names()},
    **{name: MODELS.create(options) for name, options in OTHERS.items()},
}
"""A small network of every registered family, with odd sizes where possible (its default network if it is not in
`SMALL`), and others with options and blocks that these lack."""
EXACTLY, CLEARLY = 1e-10, 1e-3
"""For logits of order one in float64: the largest change due to rounding, and the smallest that counts as a change."""

Case = tuple[Architecture, InputShape]


def randomised(model: nn.Module) -> nn.Module:
    """The same network with weights, biases and running statistics drawn so that activations are of order one.

    Fresh weights would hide errors: many biases, scales and classifiers start at zero.

    Returns:
        `model`, changed in place.
    """
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("num_batches_tracked"):
                tensor.fill_(7)
            elif name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5)
            elif name.endswith("weight") and tensor.dim() > 1:
                tensor.normal_(std=1.5 * tensor[0].numel() ** -0.5)
            else:
                tensor.normal_(mean=float(name.endswith("weight")), std=0.5)
    return model


def network(
    architecture: Architecture, dtype: torch.dtype = torch.float64, seed: int = 0, shape: InputShape = SHAPE
) -> nn.Module:
    """A network with weights of order one.

    Args:
        architecture: its family and sizes.
        dtype: of its floating-point tensors.
        seed: of the weights; the global random state does not change.
        shape: of its inputs and outputs.

    Returns:
        The network in evaluation mode, on the CPU.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return randomised(architecture.build(shape).to(dtype)).eval()


def images(count: int = 16, dtype: torch.dtype = torch.float64, seed: int = 1, shape: InputShape = SHAPE) -> Tensor:
    """Images of standard normal pixels.

    Args:
        count: N.
        dtype: of the pixels, which are drawn in float64.
        seed: of the pixels.
        shape: channels C and image size H = W.

    Returns:
        (N, C, H, W).
    """
    size = (count, shape.channels, shape.image_size, shape.image_size)
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def difference(first: nn.Module, second: nn.Module, *, train: bool = False) -> float:
    """The largest difference between the logits of two networks on the same batch.

    Args:
        first: a network for images of `SHAPE`; its mode is set.
        second: another one.
        train: whether they are in training mode, where both update their running statistics.

    Returns:
        max |difference| over all images and classes.
    """
    x = images(dtype=next(first.parameters()).dtype)
    with torch.no_grad():
        return float((first.train(train)(x) - second.train(train)(x)).abs().max())


def state_shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """The shapes of a network's state dict."""
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def occurrences(table: Table) -> list[tuple[str, str, int]]:
    """All (group, tensor, dimension) of a table where the group is along that dimension of the tensor."""
    return [
        (group, name, dim)
        for name, axes in table.tensors.items()
        for dim, axis in enumerate(axes)
        for group in axis.groups
    ]


def rolled(table: Table, state: Mapping[str, Tensor], where: list[tuple[str, str, int]]) -> dict[str, Tensor]:
    """A state with the channels of groups shifted cyclically by one.

    Args:
        table: of the network.
        state: its state dict.
        where: the (group, tensor, dimension) to shift.

    Returns:
        The changed state; tensors that are not shifted are shared with `state`.
    """
    changed = dict(state)
    for group, name, dim in where:
        axis = table.tensors[name][dim]
        lengths = [table.groups[part].size if isinstance(part, str) else part for part in axis.parts]
        parts = changed[name].unflatten(dim, lengths)
        changed[name] = parts.roll(1, dim + axis.parts.index(group)).flatten(dim, dim + len(lengths) - 1)
    return changed


class ModelContract:
    """Tests of a network family. A subclass sets `model`; it may set `options` or override `cases`."""

    model: ClassVar[str]
    options: ClassVar[Mapping[str, Any]] = {}
    """Sizes of a small network; every channel group must have at least two channels."""
    shape: ClassVar[InputShape] = SHAPE

    @classmethod
    def cases(cls) -> dict[str, Case]:
        """The networks to test, by name."""
        return {f"small {cls.model}": (MODELS[cls.model](**cls.options), cls.shape)}

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run every test on every network, or on every axis of every network."""
        cases = self.cases()
        if "axis" in metafunc.fixturenames:
            axes = [(case, axis) for case in cases.values() for axis in case[0].axes]
            ids = [f"{name}, {axis}" for name, (architecture, _) in cases.items() for axis in architecture.axes]
            metafunc.parametrize(("case", "axis"), axes, ids=ids)
        elif "case" in metafunc.fixturenames:
            metafunc.parametrize("case", cases.values(), ids=cases)

    def test_the_table_has_the_names_and_shapes_of_the_state(self, case: Case) -> None:
        """And its buffers, groups and number of parameters are those of the network."""
        architecture, shape = case
        model, table = architecture.build(shape), architecture.table(shape)
        assert {name: table.shape(name) for name in table.tensors} == state_shapes(model)
        assert table.buffers == {name for name, _ in model.named_buffers()}
        assert {group for group, *_ in occurrences(table)} == table.groups.keys()
        assert architecture.parameters(shape) == sum(p.numel() for p in model.parameters())
        with torch.no_grad():
            assert model.eval()(images(2, torch.float32, shape=shape)).shape == (2, shape.classes)

    def test_a_built_network_is_read_as_what_it_was_built_from(self, case: Case) -> None:
        """`read` is the inverse of `build`; the shape that it returns may differ if its table is the same."""
        architecture, shape = case
        read_architecture, read_shape = architecture_of(architecture.build(shape))
        assert read_architecture == architecture
        assert read_shape.classes == shape.classes
        table, expected = read_architecture.table(read_shape), architecture.table(shape)
        assert {name: table.shape(name) for name in table.tensors} == {n: expected.shape(n) for n in expected.tensors}

    def test_a_configuration_and_a_state_reproduce_the_network_bit_for_bit(self, case: Case) -> None:
        """Also after a round trip of the configuration through JSON."""
        architecture, shape = case
        model = network(architecture, torch.float32, shape=shape)
        plain = json.loads(json.dumps(configuration(model)))
        twin = build(plain).eval()
        assert configuration(twin) == plain
        twin.load_state_dict(model.state_dict(), strict=True)
        x = images(dtype=torch.float32, shape=shape)
        with torch.no_grad():
            assert torch.equal(twin(x), model(x))

    def test_a_skeleton_has_the_modules_and_tensors_of_the_network(self, case: Case) -> None:
        """All of them on the meta device."""
        architecture, shape = case
        bones, model = skeleton(architecture, shape), architecture.build(shape)
        assert state_shapes(bones) == state_shapes(model)
        assert all(tensor.is_meta for tensor in bones.state_dict().values())
        kinds = [[(name, type(module)) for name, module in built.named_modules()] for built in (bones, model)]
        assert kinds[0] == kinds[1]

    def test_an_architecture_is_that_of_its_sizes(self, case: Case) -> None:
        """Also when it has grown: `of(sizes())` and the description recreate the architecture."""
        base = case[0]
        grown = [base.grown(axis, 2.0) for axis in base.axes]
        for architecture in (base, *grown, *(more for axis in base.axes for more in base.increments(axis))):
            assert None not in architecture.sizes().values()
            assert type(architecture).of(architecture.sizes()) == architecture
            assert MODELS.create(architecture.describe()) == architecture

    def test_permuting_all_axes_of_a_group_keeps_the_function(self, case: Case) -> None:
        """So the table lacks no axis of a group."""
        architecture, shape = case
        axes = occurrences(architecture.table(shape))
        changes = changes_of_logits(
            case,
            lambda table, state: {
                g: rolled(table, state, [axis for axis in axes if axis[0] == g]) for g in table.groups
            },
        )
        assert {group: change for group, change in changes.items() if not change < EXACTLY} == {}

    def test_permuting_one_axis_of_a_group_alone_changes_the_function(self, case: Case) -> None:
        """So the table has no axis that does not belong to its group."""
        groups = case[0].table(case[1]).groups.values()
        assert all(group.size > 1 for group in groups), "a group of one channel cannot be permuted"
        changes = changes_of_logits(
            case, lambda table, state: {axis: rolled(table, state, [axis]) for axis in occurrences(table)}
        )
        assert {axis: change for axis, change in changes.items() if not change > CLEARLY} == {}

    def test_a_block_whose_silencers_are_zero_is_the_identity(self, case: Case) -> None:
        """Except for the first block of a stage, which may change the number of channels."""
        architecture, shape = case
        blocks = [block for stage in architecture.blocks() for block in stage[1:]]
        if not architecture.silencers() or not blocks:
            return
        model, x = network(architecture, shape=shape), images(shape=shape)
        for prefix in blocks:
            block = model.get_submodule(prefix)
            before, different = through(model, block, x)
            for parameter in architecture.silencers():
                block.get_parameter(parameter).data.zero_()
            after, same = through(model, block, x)
            assert (different - before).abs().max() > 1e-2, f"{prefix} was the identity before"
            assert torch.equal(same, after), f"{prefix} is not the identity"

    def test_growth_multiplies_the_sizes_of_an_axis(self, case: Case, axis: str) -> None:
        """No tensor shrinks, the count rises with the factor, and the table is that of the larger network."""
        base, shape = case
        assert base.grown(axis, 1.0) == base
        before = base.table(shape)
        counts, extents = [before.parameters()], [base.extent(axis)]
        for factor in (1.9, 3.3):
            grown = base.grown(axis, factor)
            table = grown.table(shape)
            assert before.tensors.keys() <= table.tensors.keys()
            counts.append(table.parameters())
            extents.append(grown.extent(axis))
            assert (grown.depth() > base.depth()) == (axis == "depth")
        assert counts == sorted(set(counts))
        assert extents == sorted(set(extents))
        assert {name: table.shape(name) for name in table.tensors} == state_shapes(skeleton(grown, shape))
        if axis != "depth" or base.silencers():  # a plain network's layers have other widths at other depths
            for name in before.tensors:
                sizes = zip(before.shape(name), table.shape(name), strict=True)
                assert all(small_size <= large_size for small_size, large_size in sizes), name

    def test_increments_are_larger_in_one_stage(self, case: Case, axis: str) -> None:
        """By one unit, once per stage; along depth there may be none."""
        base, shape = case
        before = base.sizes()
        grown = []
        for larger in base.increments(axis):
            (changed,) = [name for name, size in larger.sizes().items() if size != before[name]]
            sizes = zip(before[changed], larger.sizes()[changed], strict=True)
            ((stage, step),) = [(i, b - a) for i, (a, b) in enumerate(sizes) if a != b]
            assert step == base.unit(changed)
            assert larger.parameters(shape) > base.parameters(shape)
            assert larger.extent(axis) == base.extent(axis) + step
            grown.append((changed, stage))
        several = {n: before[n] for n in base.axes[axis] if isinstance(before[n], tuple)}
        stages = [(n, i) for n, size in several.items() for i in range(1 if axis == "first" else len(size))]
        assert grown == stages or (axis == "depth" and not grown)

    def test_an_axis_that_the_family_lacks_is_refused_with_the_reason(self, case: Case) -> None:
        """`UndefinedError` names the family, the axis, and the available axes."""
        base = case[0]
        all_axes = {axis for family in MODELS.names() for axis in MODELS[family].axes} | {"resolution"}
        for axis in all_axes - base.axes.keys():
            for use in (lambda a: base.grown(a, 2.0), lambda a: [*base.increments(a)], base.extent):
                with pytest.raises(UndefinedError) as caught:
                    use(axis)
                assert str(caught.value) == (
                    f"a network of the family {base.name!r} cannot grow along expansion.axis = {axis}: "
                    f"{base.missing(axis)}; it grows along {', '.join(base.axes)}"
                )

    def test_operations_are_counted_without_building_the_network(self, case: Case) -> None:
        """They are those of the network."""
        architecture, shape = case
        built = architecture.build(shape).eval()
        assert flops(architecture, shape) == count_flops(built, images(1, torch.float32, shape=shape)) > 0


def changes_of_logits(case: Case, states: Callable[[Table, dict[str, Tensor]], Mapping[Any, Any]]) -> dict[Any, float]:
    """How much the logits change when a network's state is replaced.

    Args:
        case: the network.
        states: returns, for its table and state, new states by any key; missing tensors do not change.

    Returns:
        max |change| in float64, by the same keys.
    """
    architecture, shape = case
    model, x = network(architecture, shape=shape), images(6, shape=shape)
    with torch.no_grad():
        logits = model(x)
        changed = states(architecture.table(shape), model.state_dict())
        return {key: float((functional_call(model, s, x) - logits).abs().max()) for key, s in changed.items()}


def through(model: nn.Module, block: nn.Module, x: Tensor) -> tuple[Tensor, Tensor]:
    """The input and the output of a block.

    Args:
        model: the network.
        block: one of its modules.
        x: images (N, C, H, W).

    Returns:
        Both, from a forward pass of the whole network.
    """
    passed: list[Tensor] = []
    handle = block.register_forward_hook(lambda _, inputs, output: passed.extend((inputs[0].clone(), output.clone())))
    with torch.no_grad():
        model(x)
    handle.remove()
    before, after = passed
    return before, after
