"""Networks, states and calls out of the ordinary: kept exactly, or refused with the reason."""

from __future__ import annotations

import copy
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import timm
import torch
from torch import nn

from mmbench.errors import ConfigError, ScoreError, UndefinedError
from mmbench.expansions.apply import Expander, expand
from mmbench.expansions.base import EXPANSIONS
from mmbench.models.base import MODELS
from mmbench.models.reading import architecture_of
from mmbench.testing.cells import examples
from mmbench.testing.models import NETWORKS, SHAPE, difference, images, network

SPLITS = ["projection", "unequal", "paired"]


@pytest.mark.parametrize("split", SPLITS)
def test_rounding_does_not_grow_with_the_number_of_copies(split):
    """Fresh weights are far larger than W / r; unscaled, the rounding error of their sum is above 1e-3 here."""
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=10, depth=6, embed_dim=48).eval()
    x = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        large = expand(model, "net2wider", factor=8.0, split=split)
        assert (large(x) - model(x)).abs().max() < 2e-6 * (1 + model(x).abs().max())


@pytest.mark.parametrize("operator", [*({"split": split} for split in SPLITS), "hypercloning"], ids=str)
@pytest.mark.parametrize("share", [0.1, 0.5])
def test_dead_filters_stay_dead_in_training_mode(operator, share):
    """The batch norm after a filter of zeros divides by sqrt(eps): whatever does not cancel to zero is blown up."""
    base = network(MODELS["resnet"](channels=(4, 6), layers=(2, 2)))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for module in base.modules():
            if isinstance(module, nn.Conv2d):
                module.weight[torch.rand(len(module.weight), generator=generator) < share] = 0
    name, options = (operator, {}) if isinstance(operator, str) else ("net2wider", operator)
    large = expand(base, name, **options)
    assert difference(base, large, train=True) <= 1e-10
    assert difference(base, large) <= 1e-10


def test_every_way_to_lemon_refuses_a_norm_on_the_embeddings():
    base = MODELS["vit"](embed_dim=6, heads=2, hidden=7, patch_size=4, pre_norm=True)
    for options in ({"name": "lemon"}, {"name": "width_then_depth", "width": "lemon"}):
        with pytest.raises(UndefinedError, match=r"model\.pre_norm = true"):
            EXPANSIONS.create({**options, "factor": 1.5}).target(base, SHAPE)


def test_what_is_not_solved_for_is_part_of_the_description():
    def described(**options):
        return EXPANSIONS["width_then_depth"](**options).describe()

    assert described(budget=6.0, solve="depth", factor=1.5) != described(budget=6.0, solve="depth", factor=3.0)
    assert described(budget=6.0, solve="depth", depth_factor=3.0) == described(budget=6.0, solve="depth")
    assert described(budget=6.0, depth_factor=3.0) != described(budget=6.0)
    assert described(budget=6.0, factor=3.0) == described(budget=6.0)
    assert described(match="net2wider", factor=3.0) != described(match="net2wider")


def test_a_factor_stands_beside_a_budget_that_solves_for_the_depth():
    large = expand(network(NETWORKS["vit"]), "width_then_depth", axis="hidden", solve="depth", budget=6.0, factor=1.5,
                   tolerance=0.05)  # fmt: skip
    assert architecture_of(large)[0].hidden == 11


def test_counts_are_multiples_of_the_base_model_also_after_the_first_step():
    base = MODELS["vit"]()
    operator = EXPANSIONS["width_then_depth"](budget=20.5, solve="depth", tolerance=0.0)
    with pytest.raises(UndefinedError) as caught:
        operator.target(base, SHAPE)
    low, high = (float(part.split("x")[0]) for part in str(caught.value).split("(")[-2:])
    assert low < 20.5 < high


def test_mixed_precision_is_refused_with_the_tensor_named():
    model = network(NETWORKS["resnet"]).half()
    model.bn1.float()
    with pytest.raises(UndefinedError, match=r"'bn1\.weight' is torch\.float32"):
        expand(model, "net2wider")
    with pytest.raises(UndefinedError, match="no weights to expand"):
        expand(NETWORKS["vit"].build(SHAPE).to("meta"), "net2wider")


def test_frozen_batch_norms_and_parameters_stay_frozen():
    base = network(MODELS["resnet"](channels=(4, 6), layers=(2, 2))).train()
    base.bn1.eval()
    base.stages[0][1].bn2.eval()
    base.conv1.requires_grad_(False)
    for operator in ("net2wider", "identity_block"):
        large = expand(base, operator)
        assert large.training
        assert not large.bn1.training
        assert not large.conv1.weight.requires_grad
        assert large.fc.weight.requires_grad
        moved = large.stages[0][2 if operator == "identity_block" else 1]
        assert (moved.training, moved.bn2.training, moved.bn1.training) == (True, False, True)
        with torch.no_grad():
            assert (copy.deepcopy(large)(images()) - copy.deepcopy(base)(images())).abs().max() < 1e-10


@pytest.mark.parametrize("family", ["mlp", "vit", "mixer", "convnext"])
def test_gradmax_grows_a_frozen_network_alike(family):
    base = network(NETWORKS[family])
    free = expand(base, "gradmax", data=examples())
    frozen = expand(copy.deepcopy(base).requires_grad_(False), "gradmax", data=examples())
    for name, tensor in free.state_dict().items():
        assert torch.allclose(tensor, frozen.state_dict()[name], rtol=0, atol=1e-12), name


@pytest.mark.parametrize("operator", ["net2wider", "gradmax", "identity_block"])
def test_what_is_grown_in_inference_mode_can_be_trained(operator):
    base = network(NETWORKS["vit"])
    with torch.inference_mode():
        large = expand(base, operator, data=examples())
    large(images()).sum().backward()
    assert large.head.weight.grad is not None


def test_threads_do_not_share_their_draws():
    base = network(NETWORKS["vit"])
    alone = expand(base, "net2wider", seed=1).state_dict()
    with ThreadPoolExecutor(6) as pool:
        for large in pool.map(lambda _: expand(base, "net2wider", seed=1), range(12)):
            assert all(torch.equal(tensor, alone[name]) for name, tensor in large.state_dict().items())


@pytest.mark.parametrize("method", ["forward_features", "forward_head", "_pos_embed"])
def test_a_network_with_a_method_replaced_is_refused(method):
    model = NETWORKS["vit"].build(SHAPE)
    setattr(model, method, lambda *_: None)
    with pytest.raises(UndefinedError, match=f"it has its own {method}"):
        expand(model, "net2wider")


@pytest.mark.parametrize("seed", [1.5, None, True, "a", -1, 2**64], ids=str)
def test_a_wrong_seed_is_refused(seed):
    with pytest.raises(ConfigError, match="seed = "):
        expand(network(NETWORKS["mlp"]), "net2wider", seed=seed)


@pytest.mark.parametrize("operator", [None, EXPANSIONS["net2wider"], 3], ids=repr)
def test_what_is_no_operator_is_refused(operator):
    with pytest.raises(ConfigError, match=r"expansion = .* is not allowed: must be a name .*net2wider"):
        expand(network(NETWORKS["mlp"]), operator)


def test_new_rows_of_aki_are_those_of_the_channels_that_share_their_columns():
    base = network(MODELS["vit"](embed_dim=6, heads=2, hidden=9, layers=2, patch_size=4))
    large = expand(base, "bert2bert_aki", axis="hidden", factor=1.5)
    rows, above = (base.blocks[i].mlp.fc1.weight for i in (0, 1))
    new, columns = large.blocks[0].mlp.fc1.weight, large.blocks[0].mlp.fc2.weight
    assert torch.equal(new[:9], rows)
    for c in range(9, len(new)):
        original = next(i for i in range(9) if torch.equal(new[c], above[i]))
        shared = columns[:, original] + columns[:, c]
        assert torch.allclose(shared, base.blocks[0].mlp.fc2.weight[:, original], rtol=0, atol=1e-12)


def test_ligo_says_what_went_wrong():
    base, (x, y) = network(MODELS["resnet"](channels=(3, 4), layers=(1, 1))), examples()
    with pytest.raises(ScoreError, match=r"lower expansion\.learning_rate = 1e\+30"):
        expand(network(NETWORKS["mlp"], torch.float32), "ligo", data=(x, y), learning_rate=1e30)
    with pytest.raises(ConfigError, match="at least 2 images"):
        expand(base, "ligo", data=(x[:1], y[:1]))
    many = torch.cat([x] * 20)[:129], torch.cat([y] * 20)[:129]
    grown = expand(base, "ligo", data=many, learning_steps=2)
    assert all(tensor.isfinite().all() for tensor in grown.state_dict().values())
    with pytest.raises(ScoreError, match="not finite"):
        expand(network(NETWORKS["vit"]), "gradmax", data=(x * float("nan"), y))


def shared_parameter(model):
    model.blocks[1].mlp.fc1.weight = model.blocks[0].mlp.fc1.weight


def shared_module(model):
    model.blocks[1].mlp = model.blocks[0].mlp


def shared_memory(model):
    model.blocks[1].mlp.fc1.weight.data = model.blocks[0].mlp.fc1.weight.data


@pytest.mark.parametrize("operator", ["net2wider", "identity_block", "none"])
@pytest.mark.parametrize("share", [shared_parameter, shared_module, shared_memory])
def test_tied_weights_are_refused_and_not_untied(share, operator):
    model = network(NETWORKS["vit"])
    share(model)
    with pytest.raises(UndefinedError, match=r"'blocks.0.mlp.fc1.weight' and 'blocks.1.mlp.fc1.weight' are one"):
        expand(model, operator)


def test_shared_statistics_are_refused_and_views_of_one_buffer_are_not():
    model = network(NETWORKS["resnet"])
    model.stages[0][0].bn2.running_mean = model.stages[0][0].bn1.running_mean
    with pytest.raises(UndefinedError, match=r"bn1\.running_mean' and .*bn2\.running_mean' are one in memory"):
        expand(model, "net2wider")
    model = network(NETWORKS["vit"])
    flat = torch.cat([p.detach().flatten() for p in model.parameters()])
    for p, part in zip(model.parameters(), flat.split([p.numel() for p in model.parameters()]), strict=True):
        p.data = part.view(p.shape)
    assert difference(model, expand(model, "net2wider")) <= 1e-10


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["conv1.weight", "bn1.running_var"])
@pytest.mark.parametrize("operator", ["net2wider", "none", "scratch"])
def test_weights_that_are_not_finite_are_refused(value, name, operator):
    model = network(NETWORKS["resnet"])
    sound, tensor = Expander(copy.deepcopy(model), operator), model.state_dict()[name]
    tensor.view(-1)[1] = value
    for grow in (lambda: expand(model, operator), lambda: sound(model)):
        with pytest.raises(
            UndefinedError, match=rf"tensor '{name}' has 1 of {tensor.numel()} values that are infinite"
        ):
            grow()


TIMM = {
    "resnet": MODELS["resnet"](channels=(4, 4, 4, 4), layers=(1, 1, 1, 1), stem="7x7"),
    **{family: NETWORKS[family] for family in ("vit", "mixer", "convnext")},
}


def checkpointing(model):
    return {name: m.grad_checkpointing for name, m in model.named_modules() if hasattr(m, "grad_checkpointing")}


@pytest.mark.parametrize("on", [True, False])
@pytest.mark.parametrize("operator", ["net2wider", "identity_block"])
@pytest.mark.parametrize("family", TIMM)
def test_gradient_checkpointing_is_kept(family, operator, on):
    model = network(TIMM[family])
    model.set_grad_checkpointing(on)
    assert on in checkpointing(model).values()
    large = expand(model, operator)
    assert checkpointing(large) == checkpointing(model)
    large.train()(images()).sum().backward()


def test_the_way_in_which_attention_is_computed_is_kept_in_new_blocks_too():
    model = network(NETWORKS["vit"])
    for block in model.blocks:
        block.attn.fused_attn = False
    assert not any(block.attn.fused_attn for block in expand(model, "identity_block").blocks)


def layouts(model):
    """For each kernel whose shape tells, whether it is laid out with the channels last."""
    cl = torch.channels_last
    kernels = {name: p for name, p in model.named_parameters() if p.dim() == 4}
    return {
        name: p.is_contiguous(memory_format=cl)
        for name, p in kernels.items()
        if p.is_contiguous() != p.is_contiguous(memory_format=cl)
    }


@pytest.mark.parametrize("operator", ["net2wider", "identity_block", "kernel_pad", "scratch"])
@pytest.mark.parametrize("family", ["cnn", "resnet", "convnext"])
def test_channels_last_is_kept(family, operator):
    model = network(NETWORKS[family])
    operator = "net2deeper" if (family, operator) == ("cnn", "identity_block") else operator
    assert set(layouts(expand(model, operator)).values()) == {False}
    assert set(layouts(expand(model.to(memory_format=torch.channels_last), operator)).values()) == {True}


def test_a_layout_of_a_part_of_the_network_is_that_of_what_grew_from_it():
    model = network(NETWORKS["resnet"])
    model.stages[1].to(memory_format=torch.channels_last)
    for name, last in layouts(expand(model, "net2wider")).items():
        assert last == name.startswith("stages.1"), name


@pytest.mark.parametrize("seed", [np.int64(3), np.uint8(3), torch.tensor(3)], ids=repr)
def test_an_integer_of_another_library_is_a_seed(seed):
    base = network(NETWORKS["vit"])
    expected = expand(base, "net2wider", seed=3).state_dict()
    assert all(torch.equal(expected[k], v) for k, v in expand(base, "net2wider", seed=seed).state_dict().items())


def test_integers_of_numpy_are_sizes():
    large = expand(network(NETWORKS["vit"]), "net2wider", to={"hidden": np.int64(9), "embed_dim": 12})
    assert architecture_of(large)[0].hidden == 9


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda model: expand("net2wider", model), "model must be a network (nn.Module): got str"),
        (
            lambda model: expand(model, ["net2wider"]),
            "expansion = ['net2wider'] is not allowed",
        ),
        (lambda model: expand(model, "net2wider", name="lemon"), "two operators are given, net2wider and name = lemon"),
        (lambda model: expand(model, "net2wider", expansions="lemon"), "expansions = 'expansions' is unknown"),
    ],
)
def test_slips_are_named(call, message):
    with pytest.raises((ConfigError, UndefinedError)) as caught:
        call(network(NETWORKS["vit"]))
    assert message in str(caught.value)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize(("name", "operator"), [("vit", "net2wider"), ("resnet", "random_pad"), ("mlp", "none")])
def test_what_grew_is_told_with_the_measured_change(name, operator, train):
    base = network(NETWORKS[name]).train(train)
    large = expand(base, operator)
    told, before = large.expansion, architecture_of(base)[0].sizes()
    for size, after in architecture_of(large)[0].sizes().items():
        numbers = [",".join(map(str, n)) if isinstance(n, tuple) else str(n) for n in (before[size], after)]
        assert (f"{size} {numbers[0]} -> {numbers[1]}" in told) == (before[size] != after), size
    counts = [sum(p.numel() for p in model.parameters()) for model in (base, large)]
    assert f"{counts[0]:,} -> {counts[1]:,} parameters ({counts[1] / counts[0]:.2f}x)" in told
    change = float(told.rsplit("by up to ", 1)[1])
    with torch.no_grad():
        x = torch.randn(2, SHAPE.channels, 8, 8, generator=torch.Generator().manual_seed(0)).double()
        if name == "vit":  # the others have lost the shape of their input
            assert change == pytest.approx(float((large.eval()(x) - base.eval()(x)).abs().max()), rel=0.1)
    assert (change < 1e-10) == (operator != "random_pad")
