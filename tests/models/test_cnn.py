"""The plain convolutional network of the paper, and ResNet18 with the stem for small images."""

from __future__ import annotations

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from mmbench.data.base import InputShape
from mmbench.errors import ConfigError, UndefinedError
from mmbench.models.base import MODELS
from mmbench.models.cnn import CNN
from mmbench.models.reading import architecture_of
from mmbench.paths import root

CIFAR = InputShape(3, 32, 10)


def by_hand() -> nn.Module:
    """C(8) - C(32) - MaxPool2 - F(256) - 10."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(32 * 16 * 16, 256), nn.ReLU(), nn.Linear(256, 10),
    )  # fmt: skip


def test_by_default_it_is_the_papers_network() -> None:
    ours, theirs = CNN().build(CIFAR), by_hand()
    theirs.load_state_dict(dict(zip(theirs.state_dict(), ours.state_dict().values(), strict=True)))
    pixels = torch.randn(5, 3, 32, 32)
    assert torch.equal(ours(pixels), theirs(pixels))
    count = 3 * 8 * 9 + 8 + 8 * 32 * 9 + 32 + 32 * 256 * 256 + 256 + 256 * 10 + 10
    assert CNN().parameters(CIFAR) == count == 2_102_538


@pytest.mark.parametrize(
    "options",
    [{}, {"channels": (4, 6, 6), "pools": (1, 3)}, {"pools": ()}, {"hidden": ()}, {"hidden": (9, 7), "kernel_size": 5}],
    ids=str,
)
def test_a_network_is_read_as_what_it_was_built_from(options: dict[str, object]) -> None:
    architecture = CNN(**options)  # type: ignore[arg-type]
    model = architecture.build(InputShape(1, 8, 3))
    assert architecture_of(model) == (architecture, InputShape(1, 8, 3))
    assert architecture.parameters(InputShape(1, 8, 3)) == sum(p.numel() for p in model.parameters())


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(UndefinedError, match=r"images of 3 pixels are too small for model\.pools = \[1, 2\]"):
        CNN(pools=(1, 2)).table(InputShape(1, 3, 10))
    for wrong in ({"pools": [3]}, {"pools": [2, 1]}):
        with pytest.raises(ConfigError, match=r"model\.pools = .* must be ascending numbers from 1 to 2"):
            MODELS.create({"name": "cnn", **wrong})
    with pytest.raises(ConfigError, match=r"model\.kernel_size = 4 must be odd"):
        MODELS.create({"name": "cnn", "kernel_size": 4})


def test_resnet18_is_torchvisions_with_the_stem_for_small_images() -> None:
    torchvision = pytest.importorskip("torchvision")
    options = OmegaConf.to_container(OmegaConf.load(root() / "conf" / "model" / "resnet18.yaml"))
    ours = MODELS.create(options).build(CIFAR).double().eval()
    theirs = torchvision.models.resnet18(num_classes=10)
    theirs.conv1, theirs.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    theirs = theirs.double().eval()
    with torch.no_grad():
        for buffer in ours.buffers():  # fresh statistics would hide a batch norm in the wrong place
            if buffer.is_floating_point():
                buffer.uniform_(0.5, 1.5)
    names = {
        name: name.replace("stages.0", "layer1")
        .replace("stages.1", "layer2")
        .replace("stages.2", "layer3")
        .replace("stages.3", "layer4")
        for name in ours.state_dict()
    }
    theirs.load_state_dict({names[name]: tensor for name, tensor in ours.state_dict().items()}, strict=True)
    pixels = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    torch.testing.assert_close(ours(pixels), theirs(pixels), rtol=1e-10, atol=1e-10)
    assert sum(p.numel() for p in ours.parameters()) == 11_173_962
