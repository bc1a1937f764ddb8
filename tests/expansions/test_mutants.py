"""The ways to get an expansion wrong: each must be far from exact, or the tests of exactness see nothing."""

import pytest
import torch
from models.networks import FAMILIES, difference, network, small

from expansions.cells import Cell
from mmbench.expansions import net2wider, widening
from mmbench.expansions.base import Sized
from mmbench.expansions.identity_block import IdentityBlock
from mmbench.expansions.net2wider import Net2Wider
from mmbench.expansions.zero_pad import ZeroPad
from mmbench.models.resnet import ResNet
from mmbench.models.vit import ViT


def columns_are_copied_but_not_divided(patch):
    patch(Net2Wider, "_split", lambda self, tensor, fresh, dim, index, generator: tensor.index_select(dim, index))


def columns_are_divided_by_the_mean_number_of_copies(patch):
    def split(self, tensor, fresh, dim, index, generator):
        return tensor.index_select(dim, index) * tensor.shape[dim] / len(index)

    patch(Net2Wider, "_split", split)


def projection_keeps_the_fresh_sums(patch):
    patch(Net2Wider, "_split", lambda self, tensor, fresh, dim, index, generator: fresh)


def rows_get_noise(patch):
    original = Net2Wider.fill

    def fill(self, growth):
        state = original(self, growth)
        return {k: v * (1 + 0.01 * torch.randn_like(v)) if v.dim() > 1 else v for k, v in state.items()}

    patch(Net2Wider, "fill", fill)


def running_statistics_stay_fresh(patch):
    original = Net2Wider.fill

    def fill(self, growth):
        return {k: growth.fresh[k] if "running" in k else v for k, v in original(self, growth).items()}

    patch(Net2Wider, "fill", fill)


def copies_of_a_layer_norm_stream_are_not_uniform(patch):
    original = net2wider._index_map

    def index_map(old, new, generator):
        if not old.layer_norm:
            return original(old, new, generator)
        extra = torch.zeros(new.size - old.size, dtype=torch.long)
        return torch.cat([torch.arange(old.size), extra])

    patch(net2wider, "_index_map", index_map)


def copies_of_a_layer_norm_stream_are_not_whole(patch):
    patch(Net2Wider, "check", Sized.check)
    original = net2wider._index_map
    patch(net2wider, "_index_map", lambda old, new, generator: original(old, new, generator)[: new.size])


def heads_are_copied_channel_by_channel(patch):
    original = widening.entries

    def entries(axis, channels, size):
        if axis.unit == 1:
            return original(axis, channels, size)
        blocks = torch.arange(axis.repeat) * size * axis.unit
        return (blocks[:, None, None] + torch.arange(axis.unit)[None, :, None] * size + channels).flatten()

    patch(net2wider, "entries", entries)


def keys_are_mapped_unlike_queries(patch):
    original = widening.entries

    def entries(axis, channels, size):
        index = original(axis, channels, size)
        return index.view(3, -1).roll(axis.unit, dims=1).flatten() if axis.repeat == 3 else index

    patch(net2wider, "entries", entries)


def a_layer_norm_stream_is_padded(patch):
    patch(ZeroPad, "check", Sized.check)


def new_columns_are_random(patch):
    patch(ZeroPad, "new_entries", lambda self, tensor, axes, kept: None)


def only_weights_are_zeroed(patch):
    patch(ResNet, "zero_to_silence", ("bn2.weight",))
    patch(ViT, "zero_to_silence", ("attn.proj.weight", "mlp.fc2.weight"))


def only_biases_are_zeroed(patch):
    patch(ResNet, "zero_to_silence", ("bn2.bias",))
    patch(ViT, "zero_to_silence", ("attn.proj.bias", "mlp.fc2.bias"))


def the_attention_is_not_silenced(patch):
    patch(ViT, "zero_to_silence", ("mlp.fc2.weight", "mlp.fc2.bias"))


def old_blocks_change_their_order(patch):
    original = IdentityBlock.arrange

    def arrange(self, old, new):
        swapped = dict(zip(old, reversed(old), strict=True))
        return [block and swapped[block] for block in original(self, old, new)]

    patch(IdentityBlock, "arrange", arrange)


def new_blocks_are_copies(patch):
    patch(IdentityBlock, "arrange", lambda self, old, new: [*old, *[old[-1]] * (len(new) - len(old))])


MUTANTS = [
    *((columns_are_copied_but_not_divided, Cell("net2wider", {}, family)) for family in FAMILIES),
    *((projection_keeps_the_fresh_sums, Cell("net2wider", {}, family)) for family in FAMILIES),
    *((rows_get_noise, Cell("net2wider", {}, family)) for family in FAMILIES),
    # x2 of everything has two copies of each: only an uneven factor tells the two divisions apart.
    *((columns_are_divided_by_the_mean_number_of_copies, Cell("net2wider", {"factor": 1.5}, f)) for f in FAMILIES[:2]),
    (columns_are_divided_by_the_mean_number_of_copies, Cell("net2wider", {"axis": "hidden", "factor": 1.5}, "vit")),
    (running_statistics_stay_fresh, Cell("net2wider", {}, "resnet")),
    (copies_of_a_layer_norm_stream_are_not_uniform, Cell("net2wider", {}, "vit")),
    (copies_of_a_layer_norm_stream_are_not_whole, Cell("net2wider", {"factor": 1.5}, "vit")),
    (heads_are_copied_channel_by_channel, Cell("net2wider", {}, "vit")),
    (keys_are_mapped_unlike_queries, Cell("net2wider", {}, "vit")),
    (a_layer_norm_stream_is_padded, Cell("zero_pad", {}, "vit")),
    *((new_columns_are_random, Cell("zero_pad", {}, family)) for family in ("mlp", "resnet")),
    (new_columns_are_random, Cell("zero_pad", {"axis": "hidden"}, "vit")),
    *((only_weights_are_zeroed, Cell("identity_block", {}, family)) for family in ("resnet", "vit")),
    *((only_biases_are_zeroed, Cell("identity_block", {}, family)) for family in ("resnet", "vit")),
    (the_attention_is_not_silenced, Cell("identity_block", {}, "vit")),
    (old_blocks_change_their_order, Cell("identity_block", {}, "vit")),
    *((new_blocks_are_copies, Cell("identity_block", {}, family)) for family in ("resnet", "vit")),
]


@pytest.mark.parametrize(("mutant", "cell"), MUTANTS, ids=lambda value: getattr(value, "__name__", str(value)))
def test_a_mutant_is_seen(mutant, cell, wild_initialisation, monkeypatch):
    mutant(monkeypatch.setattr)
    base = network(small(cell.family))
    assert difference(base, cell.expand(base)) > 1e-3
