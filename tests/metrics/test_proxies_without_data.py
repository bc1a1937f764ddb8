"""SynFlow and Zen, which look at no data."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from timm.models.vision_transformer import Attention
from torch import Tensor, nn

from mmbench import measure
from mmbench.data.base import Split
from mmbench.errors import MmbenchError, ScoreError, UndefinedError
from mmbench.metrics import synflow
from mmbench.metrics.base import Estimate
from mmbench.metrics.subject import Subject
from mmbench.models.base import MODELS
from mmbench.testing.networks import SHAPE, images, network

from .conftest import Linear
from .test_proxies import LAYERS, families, kernels, live, sequential

DATA = images(12, torch.float64)
NORMS = (nn.BatchNorm2d, nn.LayerNorm)


def estimate(name: str, model: nn.Module, data: Split = DATA, **options: object) -> Estimate:
    return measure(model, (data.images, data.labels), name, **options)


class Uniform(nn.Module):
    """Attention that attends to all tokens alike."""

    def __init__(self, attention: Attention) -> None:
        super().__init__()
        self.qkv, self.proj = attention.qkv, attention.proj

    def forward(self, x: Tensor, **options: object) -> Tensor:
        value = self.qkv(x).chunk(3, -1)[2]
        return self.proj(value.mean(1, keepdim=True).expand_as(value))


def without(model: nn.Module, *kinds: type[nn.Module]) -> nn.Module:
    """A copy whose modules of these kinds do nothing, or attend alike."""
    model = copy.deepcopy(model)
    for parent in list(model.modules()):
        for name, child in parent.named_children():
            if isinstance(child, kinds):
                setattr(parent, name, Uniform(child) if isinstance(child, Attention) else nn.Identity())
    return model


def positive(model: nn.Module) -> nn.Module:
    model = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.abs_()
    return model


def saliency(model: nn.Module, weights: list[nn.Parameter] | None = None) -> float:
    weights = list(kernels(model).values()) if weights is None else weights
    total = model(torch.ones(1, 1, 8, 8, dtype=torch.float64)).sum()
    parts = torch.autograd.grad(total, weights, materialize_grads=True)
    return math.log(sum((w * g).abs().sum() for w, g in zip(weights, parts, strict=True)).item())


@families
def test_synflow_is_the_saliency_of_the_twin_and_none_of_its_slips(family: str) -> None:
    model = live(family)
    value = estimate("synflow", model).value
    kinds = (*NORMS, nn.ReLU, nn.GELU, Attention)
    twin = positive(without(model, *kinds))
    assert value == pytest.approx(saliency(twin), rel=1e-12)
    bare = copy.deepcopy(twin)
    with torch.no_grad():
        for name, parameter in bare.named_parameters():
            if name.endswith("bias"):
                parameter.zero_()
    slips = {
        "signed weights": saliency(without(model, *kinds)),
        "not in logarithms": math.exp(value),
        "the logits' sum itself": math.log(twin(torch.ones_like(DATA.images[:1])).sum().item()),
    }
    if family != "resnet":  # whose only bias is the classifier's
        slips["without biases"] = saliency(bare)
    if any(isinstance(module, NORMS) for module in model.modules()):
        slips["with normalisation"] = saliency(positive(without(model, nn.ReLU, nn.GELU, Attention)))
        slips["an image of noise"] = math.log(twin(DATA.images[:1].abs()).sum().item())
    if family == "vit":
        slips["with softmax"] = saliency(positive(without(model, *NORMS, nn.GELU)))
        slips["with GELU"] = saliency(positive(without(model, *NORMS, Attention)))
        slips["tokens and tables, too"] = saliency(twin, list(twin.parameters()))
    for slip, wrong in slips.items():
        assert not math.isclose(wrong, value, rel_tol=1e-9), slip


def test_synflow_of_a_chain_is_layers_times_paths() -> None:
    """Without biases every layer has the same saliency, R = 1' |W3| |W2| |W1| 1."""
    model = sequential(nn.Flatten(), *(nn.Linear(a, b, bias=False) for a, b in ((64, 5), (5, 4), (4, 3))))
    paths = torch.ones(64, dtype=torch.float64)
    for layer in model[1:]:
        paths = layer.weight.abs() @ paths
    assert estimate("synflow", model).value == pytest.approx(math.log(3 * paths.sum().item()), rel=1e-12)
    assert estimate("synflow", model, images(5, torch.float64, seed=9)).value == estimate("synflow", model).value


def deep(depth: int) -> tuple[nn.Module, float]:
    """Layers of two units with weights 8 and biases 3, and the score in whole numbers."""
    model = sequential(nn.Flatten(), nn.Linear(64, 2), *(nn.Linear(2, 2) for _ in range(depth - 1)))
    for name, parameter in model.named_parameters():
        nn.init.constant_(parameter, -8.0 if "weight" in name else -3.0)
    unit, total = 0, 0
    for layer in range(depth):
        through = 16 * unit if layer else 8 * 64
        unit = through + 3
        total += through * 2 * 16 ** (depth - 1 - layer)
    return model, math.log(total)


@pytest.mark.parametrize("depth", [2, 60, 250, 257, 258, 400, 490])
def test_synflow_does_not_overflow(depth: int) -> None:
    """16^depth leaves float64 at 256 layers and the scaled one at 500."""
    model, truth = deep(depth)
    found = estimate("synflow", model.float())
    assert found.value == pytest.approx(truth, rel=1e-12)
    assert found.stderr == 0


def test_synflow_is_never_infinite() -> None:
    with pytest.raises(ScoreError, match="not a finite number"):
        estimate("synflow", deep(600)[0])


@families
def test_scaling_the_inputs_of_synflow_scales_r_and_nothing_else(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Layer scales and class, register and position tokens are among what is scaled or is not."""
    model = live(family)
    if family == "vit":
        sizes = {"embed_dim": 6, "hidden": 8, "layers": 2, "patch_size": 4, "registers": 2, "layer_scale": True}
        model = MODELS.create({"name": "vit", **sizes}).build(SHAPE).double()
    truth = estimate("synflow", model).value
    monkeypatch.setattr(synflow, "EXPONENTS", (-200,))
    assert estimate("synflow", model).value == pytest.approx(truth, rel=1e-12)


def test_synflow_without_paths_says_so() -> None:
    zero_head = live("mlp")
    nn.init.zeros_(zero_head.head.weight)
    with pytest.raises(MmbenchError, match="are zero"):
        estimate("synflow", zero_head)
    with pytest.raises(UndefinedError, match=r"nn\.MultiheadAttention"):
        layer = nn.TransformerEncoderLayer(8, 2, 8, batch_first=True)
        estimate("synflow", sequential(nn.Flatten(2), nn.Unflatten(2, (8, 8)), nn.Flatten(1, 2), layer))


# zen


def features(family: str, model: nn.Module, x: Tensor) -> Tensor:
    if family in ("mlp", "cnn"):
        return model[:-1](x)
    if family == "resnet":
        return model.stages(model.act1(model.bn1(model.conv1(x))))
    return model.forward_features(x)


@families
def test_zen_is_its_formula_and_none_of_its_slips(family: str) -> None:
    model = live(family)
    generator = Subject(model, DATA, seed=4).generator("zen")
    x, e = (torch.randn(300, 1, 8, 8, generator=generator, dtype=torch.float64) for _ in range(2))
    with torch.no_grad():
        answer = (features(family, model, x) - features(family, model, x + 0.02 * e)).flatten(1)
    norms = answer.norm(dim=1)
    batch_norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    scales = sum((norm.running_var.mean() + norm.eps).log().item() / 2 for norm in batch_norms)
    found = estimate("zen", model, seed=4, probes=300, alpha=0.02)
    assert found.value == pytest.approx(norms.mean().log().item() + scales, rel=1e-12)
    assert found.stderr == pytest.approx((norms.std() / 300**0.5 / norms.mean()).item(), rel=1e-9)
    slips = {
        "mean of logarithms": norms.log().mean().item() + scales,
        "all images in one norm": answer.norm().log().item() + scales,
        "sum of absolute values": answer.abs().sum(1).mean().log().item() + scales,
        "logits": (model(x) - model(x + 0.02 * e)).norm(dim=1).mean().log().item() + scales,
    }
    if batch_norms:
        slips["without batch norms"] = norms.mean().log().item()
        slips["variances without the root"] = norms.mean().log().item() + 2 * scales
        slips["mean of roots"] = norms.mean().log().item() + sum(
            norm.running_var.sqrt().mean().log().item() for norm in batch_norms
        )
    for slip, wrong in slips.items():
        assert not math.isclose(wrong, found.value, rel_tol=1e-7), slip


def test_zen_of_softmax_regression_is_the_norm_of_noise() -> None:
    """Features are the 64 pixels, and the mean norm of e is that of the chi distribution."""
    mean = math.sqrt(2) * math.exp(math.lgamma(32.5) - math.lgamma(32))
    found = estimate("zen", Linear(), probes=4000, alpha=0.3)
    assert found.stderr == pytest.approx((64 / mean**2 - 1) ** 0.5 / 4000**0.5, rel=0.05)
    assert found.value == pytest.approx(math.log(0.3 * mean), abs=4 * found.stderr)
    assert estimate("zen", Linear(), probes=1).stderr is None


def test_the_error_of_zen_covers() -> None:
    model = live("mlp")
    truth = estimate("zen", model, probes=100_000, seed=999).value
    found = [estimate("zen", model, probes=60, seed=seed) for seed in range(150)]
    z = torch.tensor([(f.value - truth) / f.stderr for f in found])
    assert abs(z.mean()) < 0.35
    assert 0.8 < z.std() < 1.25


def test_the_scale_of_batch_norms_does_not_matter_to_zen() -> None:
    """What a batch norm divides by, the second term gives back."""
    norm = nn.BatchNorm2d(4, eps=0.0)
    nn.init.uniform_(norm.running_var, 0.5, 2.0)
    model = sequential(nn.Conv2d(1, 4, 3, bias=False), norm, nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    truth = estimate("zen", model).value
    norm.running_var *= 9
    assert estimate("zen", model).value == pytest.approx(truth, rel=1e-12)


def test_zen_of_what_has_no_score() -> None:
    blind = sequential(nn.Flatten(), nn.Linear(64, 4), nn.ReLU(), nn.Linear(4, 3))
    with torch.no_grad():
        blind[1].weight.zero_()
    with pytest.raises(MmbenchError, match="dead"):
        estimate("zen", blind)
    norm = nn.BatchNorm2d(4, track_running_stats=False)
    with pytest.raises(UndefinedError, match="keep no running statistics"):
        estimate("zen", sequential(nn.Conv2d(1, 4, 3), norm, nn.Flatten(), nn.Linear(144, 3)))
    assert not any(isinstance(module, LAYERS) for module in Bare().modules())
    with pytest.raises(UndefinedError, match="features"):
        estimate("zen", Bare())


class Bare(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.eye(64, 3, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.table


def test_zen_in_float32_is_that_in_float64() -> None:
    assert estimate("zen", network("resnet"), images()).value == pytest.approx(
        estimate("zen", network("resnet").double(), images()).value, abs=1e-3
    )
