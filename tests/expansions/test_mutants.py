"""The ways to get an expansion wrong: each must be far from exact, or the tests of exactness see nothing."""

import dataclasses

import pytest
import torch

from mmbench.expansions import copying, hypercloning, net2wider, widening
from mmbench.expansions.copying import Copying
from mmbench.expansions.gradmax import GradMax
from mmbench.expansions.identity_block import IdentityBlock
from mmbench.expansions.lemon import Lemon
from mmbench.expansions.net2deeper import Net2Deeper
from mmbench.expansions.net2wider import Net2Wider
from mmbench.expansions.sized import Sized
from mmbench.expansions.zero_pad import ZeroPad
from mmbench.models.base import MODELS
from mmbench.models.table import out
from mmbench.testing.cells import FAMILIES, Cell, wild_initialisation
from mmbench.testing.models import CLEARLY, difference

NORMED = ("vit", "mixer", "convnext")
"""The families with LayerNorms."""


def _filled(patch, operator, change):
    """Pass what an operator fills a tensor with through `change(growth, name, tensor)`."""
    original = operator.fill

    def fill(self, growth):
        for name, tensor in original(self, growth):
            yield name, change(growth, name, tensor)

    patch(operator, "fill", fill)


def _silenced(patch, *which):
    """Zero only those of a block's parameters whose name ends in one of `which`."""
    for family in FAMILIES:
        original = MODELS[family].silencers
        patch(MODELS[family], "silencers", lambda self, old=original: tuple(n for n in old(self) if n.endswith(which)))


def columns_are_copied_but_not_divided(patch):
    patch(net2wider, "split_columns", lambda _, tensor, fresh, index, *__: fresh.copy_(tensor.index_select(1, index)))


def columns_are_divided_by_the_mean_number_of_copies(patch):
    def split(_, tensor, fresh, index, *__):
        fresh.copy_(tensor.index_select(1, index) * tensor.shape[1] / len(index))

    patch(net2wider, "split_columns", split)


def projection_keeps_the_fresh_sums(patch):
    patch(net2wider, "split_columns", lambda *_: None)


def noise_does_not_cancel(patch):
    patch(copying, "_sum_to", lambda sums, values, index, count: values)


def rows_get_noise(patch):
    _filled(patch, Copying, lambda _, name, v: v * (1 + 0.01 * torch.randn_like(v)) if v.dim() > 1 else v)


def running_statistics_stay_fresh(patch):
    for operator in (Copying, widening.Padding, IdentityBlock):
        _filled(patch, operator, lambda growth, name, v: torch.full_like(v, 0.7) if name in growth.new.buffers else v)


def copies_of_a_layer_norm_stream_are_not_uniform(patch):
    for module, name in ((copying, "shuffled"), (hypercloning, "tiled")):
        patch(module, name, _all_of_the_first(getattr(module, name)))


def _all_of_the_first(original):
    def index_map(old, new, *generator):
        if old.coupled_by != "LayerNorm":
            return original(old, new, *generator)
        return torch.cat([torch.arange(old.size), torch.zeros(new.size - old.size, dtype=torch.long)])

    return index_map


def copies_are_not_whole(patch):
    patch(Net2Wider, "copies", False)


def heads_are_copied_channel_by_channel(patch):
    original = widening.entries

    def entries(axis, table, channels):
        if "head_dim" not in axis.parts:
            return original(axis, table, channels)
        *first, heads, head_dim = axis.parts
        return original(dataclasses.replace(axis, parts=(*first, head_dim, heads)), table, channels)

    patch(copying, "entries", entries)


def keys_are_mapped_unlike_queries(patch):
    original = widening.entries

    def entries(axis, table, channels):
        index = original(axis, table, channels)
        return torch.stack([q_k_v.roll(int(i == 1)) for i, q_k_v in enumerate(index.chunk(3))]).flatten()

    patch(copying, "entries", lambda *a: entries(*a) if a[0].parts[0] == 3 else original(*a))


def queries_are_not_divided(patch):
    patch(Copying, "_split_queries", lambda *_: None)


def queries_are_divided_by_the_number_of_copies(patch):
    def divided(self, growth, name, maps, small, rows):
        rows[: len(rows) // 3] *= growth.old.groups["head_dim"].size / growth.new.groups["head_dim"].size

    patch(Copying, "_split_queries", divided)


def only_the_weights_of_queries_are_divided(patch):
    original = Copying.rows

    def rows(self, growth, name, maps):
        tensor = original(self, growth, name, maps)
        if name.endswith("qkv.bias"):
            tensor[: len(tensor) // 3] *= 2**0.5
        return tensor

    patch(Copying, "rows", rows)


def a_coupled_group_is_padded(patch):
    patch(ZeroPad, "check", Sized.check)


def new_columns_are_random(patch):
    patch(ZeroPad, "new_entries", lambda self, tensor, axes, kept: None)


def _lemon(patch, change):
    """`change(growth, name, tensor, whole)` in place what LEMON makes of a tensor with channels of the stream."""
    original = Lemon.rows

    def rows(self, growth, name, maps):
        tensor = original(self, growth, name, maps).clone()
        if out("stream") in growth.new.tensors[name]:
            change(growth, name, tensor.movedim(growth.new.tensors[name].index(out("stream")), 0), len(maps["stream"]))
        return tensor

    patch(Lemon, "rows", rows)


def gamma_is_not_scaled(patch):
    def change(growth, name, rows, whole):
        if "norm" in name and name.endswith("weight"):
            rows[:whole] *= (len(rows) / whole) ** 0.5

    _lemon(patch, change)


def epsilon_is_not_scaled(patch):
    build = MODELS["vit"].build
    patch(MODELS["vit"], "build", lambda self, shape: build(self.of({**self.sizes(), "eps": 0.05}), shape))


def extra_rows_are_zero(patch):
    _lemon(patch, lambda growth, name, rows, whole: "norm" in name or rows[whole:].fill_(0))


def extra_rows_of_biases_are_zero(patch):
    _lemon(patch, lambda growth, name, rows, whole: "norm" in name or rows.dim() > 1 or rows[whole:].fill_(0))


def beta_of_extra_channels_is_not_zero(patch):
    _lemon(patch, lambda growth, name, rows, whole: name.endswith("norm1.bias") and rows[whole:].fill_(1))


def the_mean_ignores_the_layer_scale(patch):
    original = Lemon.rows

    def rows(self, growth, name, maps):
        without = {k: v for k, v in growth.small.items() if not k.endswith("gamma") or k == name}
        return original(self, dataclasses.replace(growth, small=without), name, maps)

    patch(Lemon, "rows", rows)


def only_weights_are_zeroed(patch):
    _silenced(patch, ".weight")


def only_biases_are_zeroed(patch):
    _silenced(patch, ".bias")


def only_the_last_branch_is_silenced(patch):
    _silenced(patch, "mlp.fc2.weight", "mlp.fc2.bias", "channels.fc2.weight", "channels.fc2.bias", "ls2.gamma")


def old_blocks_change_their_order(patch):
    original = IdentityBlock.arrange

    def arrange(self, old, new, tables):
        swapped = dict(zip(old, reversed(old), strict=True))
        return [block and swapped[block] for block in original(self, old, new, tables)]

    patch(IdentityBlock, "arrange", arrange)


def new_blocks_are_copies(patch):
    patch(IdentityBlock, "arrange", lambda self, old, new, _: [*old, *[old[-1]] * (len(new) - len(old))])


def the_kernel_is_off_centre(patch):
    original = widening.kept_entries
    patch(widening, "kept_entries", lambda old, *rest: original(old, *rest) + (old.role == "kernel"))


def the_identity_is_shifted(patch):
    _filled(patch, Net2Deeper, lambda growth, name, v: v if growth.source(name) or v.dim() < 2 else v.roll(1, 0))


def the_identity_has_noise(patch):
    _filled(patch, Net2Deeper, lambda growth, name, v: v if growth.source(name) else v + 0.01 * torch.randn_like(v))


def the_constant_of_new_units_is_not_subtracted(patch):
    def change(growth, name, tensor):
        if name.endswith("bias"):
            tensor[: len(growth.small[name])] = growth.small[name]
        return tensor

    _filled(patch, GradMax, change)


def new_units_have_incoming_weights(patch):
    def change(growth, name, tensor):
        small = growth.small[name]
        if tensor.dim() > 1 and len(tensor) > len(small):
            tensor[len(small) :] = 0.1
        return tensor

    _filled(patch, GradMax, change)


WITHOUT_SCALE = ("resnet", "vit", "mixer", "convnext without layer scale")
HEAD_DIM = [Cell(operator, {"axis": "head_dim"}, "vit") for operator in ("net2wider", "hypercloning")]
WIDER = [Cell("lemon", {"axis": "stream", "factor": 1.5}, name) for name in ("vit", "vit with options")]
MUTANTS = {
    columns_are_copied_but_not_divided: [Cell("net2wider", {}, family) for family in FAMILIES],
    projection_keeps_the_fresh_sums: [Cell("net2wider", {}, family) for family in FAMILIES],
    noise_does_not_cancel: [
        Cell(operator, options, family)
        for operator, options in (("net2wider", {"split": "paired"}), ("net2wider", {}), ("hypercloning", {}))
        for family in FAMILIES
    ],
    rows_get_noise: [Cell("net2wider", {}, family) for family in FAMILIES],
    # x2 of everything has two copies of each: only an uneven factor tells the two divisions apart.
    columns_are_divided_by_the_mean_number_of_copies: [
        *(Cell("net2wider", {"factor": 1.5}, family) for family in ("mlp", "resnet")),
        *(Cell("net2wider", {"axis": "hidden", "factor": 1.5}, family) for family in NORMED),
        Cell("net2wider", {"axis": "heads", "factor": 1.5}, "vit"),
    ],
    running_statistics_stay_fresh: [
        Cell(operator, {}, name)
        for operator in ("net2wider", "hypercloning", "zero_pad", "kernel_pad", "identity_block", "width_then_depth")
        for name in ("resnet", "resnet of bottlenecks")
    ],
    copies_of_a_layer_norm_stream_are_not_uniform: [
        Cell(operator, {}, family) for operator in ("net2wider", "hypercloning") for family in NORMED
    ],
    copies_are_not_whole: [Cell("net2wider", {"factor": 1.5}, family) for family in NORMED],
    heads_are_copied_channel_by_channel: [Cell("net2wider", {}, "vit"), Cell("net2wider", {"axis": "heads"}, "vit")],
    keys_are_mapped_unlike_queries: [Cell("net2wider", {}, "vit"), *HEAD_DIM],
    queries_are_not_divided: HEAD_DIM,
    queries_are_divided_by_the_number_of_copies: HEAD_DIM,
    only_the_weights_of_queries_are_divided: HEAD_DIM,
    a_coupled_group_is_padded: [Cell("zero_pad", {}, family) for family in NORMED],
    new_columns_are_random: [
        *(Cell("zero_pad", {}, family) for family in ("mlp", "resnet")),
        *(Cell("zero_pad", {"axis": "hidden"}, family) for family in FAMILIES),
        Cell("zero_pad", {"axis": "heads"}, "vit"),
    ],
    gamma_is_not_scaled: WIDER,
    epsilon_is_not_scaled: [Cell("lemon", {"factor": 1.5}, "vit of other biases")],
    extra_rows_are_zero: WIDER,
    extra_rows_of_biases_are_zero: WIDER,
    beta_of_extra_channels_is_not_zero: WIDER,
    the_mean_ignores_the_layer_scale: WIDER[1:],
    only_weights_are_zeroed: [
        Cell("identity_block", options, name) for options in ({}, {"content": "copy"}) for name in WITHOUT_SCALE
    ],
    only_biases_are_zeroed: [Cell("identity_block", {}, name) for name in WITHOUT_SCALE],
    only_the_last_branch_is_silenced: [
        Cell("identity_block", {}, name) for name in ("vit", "mixer", "vit with options")
    ],
    old_blocks_change_their_order: [Cell("identity_block", {}, name) for name in ("vit", "mixer", "convnext")],
    new_blocks_are_copies: [Cell("identity_block", {}, name) for name in ("resnet", *NORMED)],
    the_kernel_is_off_centre: [Cell("kernel_pad", {}, name) for name in ("resnet", "convnext")],
    the_identity_is_shifted: [Cell("net2deeper", {}, name) for name in ("mlp", "mlp of equal layers")],
    the_identity_has_noise: [Cell("net2deeper", {}, name) for name in ("mlp", "mlp of equal layers")],
    the_constant_of_new_units_is_not_subtracted: [Cell("gradmax", {}, "mlp")],
    new_units_have_incoming_weights: [Cell("gradmax", {}, name) for name in ("mlp", *NORMED)],
}


@pytest.mark.parametrize(
    ("mutant", "cell"),
    [(mutant, cell) for mutant, cells in MUTANTS.items() for cell in cells],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_a_mutant_is_seen(mutant, cell, monkeypatch):
    wild_initialisation(monkeypatch)
    base = cell.base()
    mutant(monkeypatch.setattr)
    assert difference(base, cell.expand(base)) > CLEARLY
