"""Norms, distances and margins: l2_norm, distance_from_expansion, path_norm, spectral_norm, margin."""

from __future__ import annotations

import copy
import math
from itertools import product

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d, cross_entropy

from mmbench import expand, measure, measure_all
from mmbench.errors import ConfigError, DataError, ScoreError, UndefinedError
from mmbench.metrics import margin as margin_module
from mmbench.metrics.subject import Subject
from mmbench.models.base import MODELS
from mmbench.testing.networks import images, network
from mmbench.training.loop import train
from mmbench.training.recipes import SGD


def value(model: nn.Module, name: str, count: int = 40, **options: object) -> float:
    data = images(count, next(model.parameters()).dtype)
    return measure(model, (data.images, data.labels), name, **options).value


# -- l2_norm -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", MODELS.names())
def test_l2_norm_is_that_of_the_flat_vector(family: str) -> None:
    model = network(family, torch.float64)
    flat = torch.cat([p.detach().flatten() for p in model.parameters()])
    assert value(model, "l2_norm") == pytest.approx(float(flat.norm()), rel=1e-14)
    layers = [float(p.detach().norm()) for p in model.parameters()]
    kernels = math.hypot(*[float(p.detach().norm()) for p in model.parameters() if p.dim() > 1])
    for mutant in (sum(layers), float(flat.square().sum()), float(flat.abs().sum()), kernels):
        assert mutant != pytest.approx(value(model, "l2_norm"), rel=1e-3)


# -- distance_from_expansion -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["mlp", "resnet"])
def test_the_distance_is_that_of_the_recipe_after_k_steps(family: str) -> None:
    model, data = network(family, torch.float64), images(40, torch.float64)
    recipe = SGD(steps=9, warmup_steps=2, batch_size=10)
    trained = copy.deepcopy(model)
    train(trained, data, recipe, Subject(model, data, seed=3).generator("training order"), stop_after=5)
    moves = [(a - b).detach().flatten() for a, b in zip(trained.parameters(), model.parameters(), strict=True)]
    truth = float(torch.cat(moves).norm())
    found = value(model, "distance_from_expansion", steps=5, training=recipe, seed=3)
    assert found == pytest.approx(truth, rel=1e-12)
    norm = value(model, "l2_norm")
    layers = sum(float(move.norm()) for move in moves)
    longer = value(model, "distance_from_expansion", steps=9, training=recipe, seed=3)
    for mutant in (truth**2, truth / norm, abs(value(trained, "l2_norm") - norm), layers, longer):
        assert mutant != pytest.approx(found, rel=1e-3)


@pytest.mark.parametrize("clip", [None, 0.01], ids=["as it is", "clipped"])
def test_one_step_on_all_images_moves_along_the_gradient(clip: float | None) -> None:
    model, data = network("mlp", torch.float64), images(40, torch.float64)
    loss = cross_entropy(model(data.images), data.labels)
    size = torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))]).norm().item()
    recipe = SGD(steps=4, warmup_steps=0, batch_size=40, lr=0.1, clip_norm=clip)
    assert value(model, "distance_from_expansion", steps=1, training=recipe) == pytest.approx(
        0.1 * min(size, clip or math.inf), rel=1e-9
    )


def test_the_distance_shares_its_training_with_the_loss_after_k_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr("mmbench.metrics.subject.train", lambda *given, **more: calls.append(train(*given, **more)))
    data = images()
    found = measure_all(network("mlp"), (data.images, data.labels), ["loss_after_k_steps", "distance_from_expansion"])
    assert len(calls) == 1
    assert found["distance_from_expansion"].stderr is None


def test_the_distance_is_taken_within_the_recipe() -> None:
    with pytest.raises(ConfigError, match=r"metric\.steps = 30 must not be larger than training\.steps = 20"):
        value(network("mlp"), "distance_from_expansion", training=SGD(steps=20))


# -- path_norm ---------------------------------------------------------------------------------------------------------


def all_paths(mlp: nn.Module) -> float:
    """Every path from a pixel or a bias to a logit, one by one."""
    layers = [(m.weight.tolist(), m.bias.tolist()) for m in mlp.modules() if isinstance(m, nn.Linear)]
    total = 0.0
    for first in range(len(layers)):  # the layer that a path begins at: its bias or, for the first, any pixel
        later = [range(len(bias)) for _, bias in layers[first:]]
        for units in product(*later):
            rest = math.prod(layers[first + i + 1][0][units[i + 1]][units[i]] ** 2 for i in range(len(units) - 1))
            start = layers[first][1][units[0]] ** 2
            if first == 0:
                start += sum(weight**2 for weight in layers[0][0][units[0]])
            total += start * rest
    return total


def resnet_paths(model: nn.Module, fold: bool = True, power: int = 2, biased: bool = True) -> float:
    """By the definition, for the small residual network: folded by hand, squared, summed."""

    def layer(x: torch.Tensor, conv: nn.Conv2d, norm: nn.BatchNorm2d) -> torch.Tensor:
        scale = norm.weight / (norm.running_var + norm.eps).sqrt() if fold else torch.ones_like(norm.weight)
        shift = norm.bias - norm.running_mean * scale if fold else torch.zeros_like(norm.bias)
        weight = (conv.weight * scale.view(-1, 1, 1, 1)).abs() ** power
        bias = shift.abs() ** power if biased else None
        return conv2d(x, weight, bias, conv.stride, conv.padding)

    with torch.no_grad():
        x = layer(torch.ones(1, 1, 8, 8, dtype=torch.float64), model.conv1, model.bn1)
        for block in [block for stage in model.stages for block in stage]:
            way = x if block.downsample is None else layer(x, *block.downsample)
            x = way + layer(layer(x, block.conv1, block.bn1), block.conv2, block.bn2)
        return float((x.mean((2, 3)) @ (model.fc.weight.abs() ** power).T + model.fc.bias.abs() ** power).sum())


def test_path_norm_is_the_sum_over_all_paths_of_an_mlp() -> None:
    model = network("mlp", torch.float64)
    assert value(model, "path_norm") == pytest.approx(math.log(all_paths(model)), rel=1e-12)


def test_path_norm_of_a_resnet_is_that_of_its_folded_layers() -> None:
    model = network("resnet", torch.float64)
    found = value(model, "path_norm")
    assert found == pytest.approx(math.log(resnet_paths(model)), rel=1e-12)
    for mutant in ({"fold": False}, {"power": 1}, {"biased": False}):
        assert math.log(resnet_paths(model, **mutant)) != pytest.approx(found, rel=1e-3)
    assert found / 2 != pytest.approx(found, rel=1e-3)


def test_path_norm_does_not_look_at_the_images() -> None:
    model = network("mlp", torch.float64)
    data = images(40, torch.float64)
    assert measure(model, (7 * data.images, data.labels), "path_norm").value == value(model, "path_norm")


@pytest.mark.parametrize("size", [1e-5, 1.0, 1e5], ids="{:g}".format)
def test_path_norm_neither_over_nor_underflows(size: float) -> None:
    """40 layers of one unit with weight s: paths of weight s^80, which is 1e400 or 1e-400."""
    layers = [nn.Flatten(), nn.Linear(64, 1)]
    for _ in range(39):
        layers += [nn.ReLU(), nn.Linear(1, 1, bias=False)]
    model = nn.Sequential(*layers, nn.Linear(1, 3, bias=False)).double()
    for parameter in model.parameters():
        nn.init.constant_(parameter, size)
    nn.init.ones_(model[-1].weight)
    data = images(8, torch.float64)
    found = measure(model, (data.images.abs(), data.labels), "path_norm").value
    assert found == pytest.approx(math.log(3 * 65) + 80 * math.log(size), rel=1e-12)


@pytest.mark.parametrize("family", ["vit", "mixer", "convnext"])
def test_path_norm_is_for_piecewise_linear_networks(family: str) -> None:
    with pytest.raises(UndefinedError, match="piecewise linear"):
        value(network(family), "path_norm")


def test_path_norm_is_not_for_networks_that_saturate() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.ReLU6(), nn.Linear(8, 3))
    assert math.isfinite(value(model, "path_norm"))  # nothing reaches 6 at these weights
    nn.init.constant_(model[1].weight, 2.0)
    with pytest.raises(UndefinedError, match="saturates"):
        value(model, "path_norm")


# -- spectral_norm -----------------------------------------------------------------------------------------------------


def dense_norms(model: nn.Module, image: torch.Tensor) -> dict[str, float]:
    """Spectral norm of every layer as a dense matrix, the scale of its batch norm multiplied in."""
    uses: list[tuple[nn.Module, torch.Size]] = []
    kinds = (nn.Conv2d, nn.Linear, nn.BatchNorm2d)
    handles = [
        module.register_forward_hook(lambda module, inputs, output: uses.append((module, inputs[0].shape)))
        for module in model.modules()
        if isinstance(module, kinds)
    ]
    names, found = {module: name for name, module in model.named_modules()}, {}
    with torch.no_grad():
        model(image)
        for handle in handles:
            handle.remove()
        for i, (layer, shape) in enumerate(uses):
            if isinstance(layer, nn.BatchNorm2d):
                continue
            matrix = layer.weight
            if isinstance(layer, nn.Conv2d):
                basis = torch.eye(shape.numel(), dtype=torch.float64).view(-1, *shape[1:])
                out = layer(basis) - layer(torch.zeros_like(basis[:1]))
                if isinstance(norm := uses[i + 1][0], nn.BatchNorm2d):
                    out = out * (norm.weight / (norm.running_var + norm.eps).sqrt()).view(1, -1, 1, 1)
                matrix = out.flatten(1)
            found[names[layer]] = float(torch.linalg.matrix_norm(matrix, 2))
    return found


@pytest.mark.parametrize("family", ["mlp", "resnet", "vit", "convnext"])
def test_spectral_norm_is_that_of_the_dense_operators(family: str) -> None:
    model, data = network(family, torch.float64), images(40, torch.float64)
    norms = dense_norms(model, data.images[:1])
    estimate = measure(model, (data.images, data.labels), "spectral_norm")
    truth = sum(2 * math.log(norm) for norm in norms.values())
    assert abs(estimate.value - truth) <= max(estimate.stderr, 1e-9)
    assert estimate.stderr <= 1e-6 * len(norms)
    assert estimate.details == {"layers": len(norms)}
    frobenius = sum(float(p.detach().square().sum().log()) for p in model.parameters() if p.dim() > 1)
    for mutant in (truth / 2, sum(norm**2 for norm in norms.values()), frobenius):
        assert mutant != pytest.approx(truth, rel=1e-3)


def fourier(weight: torch.Tensor, side: int) -> float:
    """As if every padding were circular (Sedghi et al., 2019)."""
    transforms = torch.fft.fft2(weight, (side, side)).permute(2, 3, 0, 1)
    return float(torch.linalg.matrix_norm(transforms, 2).max())


def test_common_shortcuts_give_another_spectral_norm() -> None:
    model, data = network("resnet", torch.float64), images(40, torch.float64)
    truth, image = value(model, "spectral_norm"), data.images[:1]
    plain = copy.deepcopy(model)
    for module in plain.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.constant_(module.weight, 1.0)
            module.running_var.fill_(1 - module.eps)
    unfolded = sum(2 * math.log(norm) for norm in dense_norms(plain, image).values())
    kernels = {name: p.detach() for name, p in plain.named_parameters() if p.dim() > 1}
    reshaped = sum(2 * float(torch.linalg.matrix_norm(w.flatten(1), 2).log()) for w in kernels.values())
    circular = sum(
        2 * math.log(fourier(w, 8) if w.dim() == 4 else float(torch.linalg.matrix_norm(w, 2))) for w in kernels.values()
    )
    for wrong, right in ((unfolded, truth), (reshaped, unfolded), (circular, unfolded)):
        assert abs(wrong - right) > 0.01


def test_a_shared_layer_counts_each_time_and_an_unused_one_never() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.head, self.unused = nn.Linear(64, 64), nn.Linear(64, 3), nn.Linear(2, 2)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.layer(torch.relu(self.layer(x.flatten(1)))))

    model = Shared().double()
    norms = [float(torch.linalg.matrix_norm(p.detach(), 2)) for p in (model.layer.weight, model.head.weight)]
    assert value(model, "spectral_norm") == pytest.approx(4 * math.log(norms[0]) + 2 * math.log(norms[1]), rel=1e-9)


def test_a_layer_that_is_zero_has_no_logarithm() -> None:
    grown = expand(network("resnet"), "identity_block", axis="depth", factor=2.0)
    with pytest.raises(UndefinedError, match=r"the weights of layer 'stages\.0\.1\.conv2' are zero"):
        value(grown, "spectral_norm")


# -- margin ------------------------------------------------------------------------------------------------------------


def test_margin_is_the_tenth_percentile() -> None:
    model, data = network("convnext", torch.float64), images(40, torch.float64)
    with torch.no_grad():
        model.head.fc.weight *= 20
        logits = model(data.images).numpy()
    labels = data.labels.tolist()
    margins = [row[y] - np.delete(row, y).max() for row, y in zip(logits, labels, strict=True)]
    found = value(model, "margin")
    assert found == pytest.approx(np.percentile(margins, 10), rel=1e-12)
    most = value(model, "margin", percentile=90.0)
    assert most == pytest.approx(np.percentile(margins, 90), rel=1e-12)
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    probabilities = [row[y] - np.delete(row, y).max() for row, y in zip(shares, labels, strict=True)]
    for mutant in (min(margins), np.mean(margins), -found, most, np.percentile(probabilities, 10)):
        assert mutant != pytest.approx(found, rel=1e-3)
    with_own = [row[y] - row.max() for row, y in zip(logits, labels, strict=True)]
    assert np.percentile(with_own, 90) != pytest.approx(most, rel=1e-3)


def test_the_error_of_the_margin_is_the_bootstrap_s() -> None:
    draws = torch.rand(60, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    rng = np.random.default_rng(0)
    rank = int(60 * 0.1 + 0.5)  # the order statistic that the formula is exact for
    replicas = np.sort(rng.choice(draws.numpy(), (20000, 60)), 1)[:, rank - 1]
    assert margin_module._error(draws, 0.1) == pytest.approx(replicas.std(), rel=0.03)


def test_the_error_of_the_margin_covers() -> None:
    """Normal margins: the true percentile lies within two errors about nineteen times in twenty."""
    generator, truth = torch.Generator().manual_seed(0), -1.2815515655446004
    samples = torch.randn(400, 200, dtype=torch.float64, generator=generator)
    hits = [abs(float(x.quantile(0.1)) - truth) < 2 * margin_module._error(x, 0.1) for x in samples]
    assert 0.9 < np.mean(hits) < 0.99


@pytest.mark.parametrize("count", [1, 2, 5])
def test_the_margin_of_few_images(count: int) -> None:
    data = images(count)
    estimate = measure(network("mlp"), (data.images, data.labels), "margin")
    assert (estimate.stderr is None) == (count == 1)


def test_one_class_has_no_margin() -> None:
    data, model = images(4), nn.Sequential(nn.Flatten(), nn.Linear(64, 1))
    with pytest.raises(DataError, match="at least two classes"):
        measure(model, (data.images, torch.zeros(4, dtype=torch.long)), "margin")


def test_a_dead_network_has_no_path() -> None:
    model = network("mlp", torch.float64)
    nn.init.zeros_(model.fc2.weight)
    nn.init.zeros_(model.head.bias)
    nn.init.zeros_(model.fc2.bias)
    with pytest.raises(ScoreError, match="dead"):
        value(model, "path_norm")
