from __future__ import annotations

import pytest
import torch
from torch import nn

from mmbench.landscape.operator_norm import squared_norm

CONVOLUTIONS = {
    "plain": ({"padding": 1}, (1, 3, 6, 6)),
    "without padding": ({}, (1, 3, 6, 6)),
    "stride": ({"padding": 1, "stride": 2}, (1, 3, 7, 6)),
    "groups": ({"padding": 1, "groups": 3, "out_channels": 6}, (1, 3, 5, 5)),
    "dilation": ({"padding": 2, "dilation": 2}, (1, 3, 6, 6)),
    "circular": ({"padding": 1, "padding_mode": "circular"}, (1, 3, 6, 6)),
    "reflect": ({"padding": 1, "padding_mode": "reflect"}, (1, 3, 6, 6)),
    "same": ({"padding": "same"}, (1, 3, 6, 6)),
    "patches": ({"kernel_size": 2, "stride": 2}, (1, 3, 6, 6)),
    "patches with a rest": ({"kernel_size": 2, "stride": 3}, (1, 3, 7, 8)),
    "pixels, thinned": ({"kernel_size": 1, "stride": 2}, (1, 3, 6, 6)),
    "grouped patches": ({"kernel_size": 2, "stride": 2, "groups": 3, "out_channels": 6}, (1, 3, 4, 4)),
    "padded patches": ({"kernel_size": 2, "stride": 2, "padding": 1}, (1, 3, 4, 4)),
    "one pixel of image": ({"padding": 1}, (1, 3, 1, 1)),
}


def convolution(**options: object) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(3, **{"out_channels": 4, "kernel_size": 3, **options}).double()


def dense(layer: nn.Module, shape: tuple[int, ...]) -> torch.Tensor:
    """The matrix (outputs, inputs) of the layer without its bias."""
    basis = torch.eye(torch.Size(shape).numel(), dtype=torch.float64).view(-1, *shape[1:])
    with torch.no_grad():
        return (layer(basis) - layer(torch.zeros_like(basis[:1]))).flatten(1).T


def measured(layer: nn.Module, shape: tuple[int, ...], tolerance: float = 1e-6, seed: int = 0) -> tuple[float, float]:
    return squared_norm(layer, torch.Size(shape), torch.Generator().manual_seed(seed), tolerance)


def by_fourier(conv: nn.Conv2d, side: int) -> float:
    """The largest singular value of the kernel's transforms (Sedghi et al., 2019), squared."""
    transforms = torch.fft.fft2(conv.weight.detach(), (side, side)).permute(2, 3, 0, 1)
    return float(torch.linalg.matrix_norm(transforms, 2).max()) ** 2


def by_reshaping(conv: nn.Conv2d) -> float:
    return float(torch.linalg.matrix_norm(conv.weight.detach().flatten(1), 2)) ** 2


@pytest.mark.parametrize(("options", "shape"), CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_a_convolution_is_the_operator_that_it_is(options: dict[str, object], shape: tuple[int, ...]) -> None:
    conv = convolution(**options)
    truth = float(torch.linalg.matrix_norm(dense(conv, shape), 2)) ** 2
    value, bound = measured(conv, shape)
    assert value == pytest.approx(truth, rel=1e-6)
    assert bound <= 1e-6


@pytest.mark.parametrize("seed", range(20))
def test_the_error_is_within_its_bound(seed: int) -> None:
    conv, shape = convolution(padding=1), (1, 3, 9, 9)
    truth = float(torch.linalg.matrix_norm(dense(conv, shape), 2)) ** 2
    value, bound = measured(conv, shape, 0.01, seed)
    assert 1e-4 < bound <= 0.01
    assert abs(value / truth - 1) <= bound


def test_a_linear_layer_is_its_matrix() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(5, 3).double()
    assert measured(layer, (1, 7, 5)) == (
        pytest.approx(float(torch.linalg.matrix_norm(layer.weight.detach(), 2)) ** 2, rel=1e-12),
        0.0,
    )


def test_the_fourier_transform_is_right_for_circular_padding_only() -> None:
    circular, zeros = convolution(padding=1, padding_mode="circular"), convolution(padding=1)
    assert by_fourier(circular, 6) == pytest.approx(measured(circular, (1, 3, 6, 6))[0], rel=1e-6)
    value = measured(zeros, (1, 3, 6, 6))[0]
    assert by_fourier(zeros, 6) > 1.01 * value
    assert (
        by_fourier(convolution(padding=1, stride=2), 6)
        > 1.01 * measured(convolution(padding=1, stride=2), (1, 3, 6, 6))[0]
    )


def test_reshaping_the_kernel_gives_another_number() -> None:
    conv = convolution(padding=1)
    assert by_reshaping(conv) != pytest.approx(measured(conv, (1, 3, 6, 6))[0], rel=0.01)


def test_the_norm_depends_on_the_size_of_the_image() -> None:
    conv = convolution(padding=1)
    assert measured(conv, (1, 3, 3, 3))[0] < measured(conv, (1, 3, 12, 12))[0] * 0.95


@pytest.mark.parametrize("size", [0.0, 1e-30], ids="{}".format)
def test_a_layer_that_is_zero_has_norm_zero(size: float) -> None:
    conv = convolution(padding=1)
    nn.init.constant_(conv.weight, size)
    truth = float(torch.linalg.matrix_norm(dense(conv, (1, 3, 6, 6)), 2)) ** 2
    assert measured(conv, (1, 3, 6, 6))[0] == pytest.approx(truth, rel=1e-6, abs=0)
