"""The plain convolutional network and ResNet18 for small images, against networks built by hand."""

import itertools
import re
from pathlib import Path

import pytest
import torch
import yaml
from torch import nn

from mmbench.data.base import InputShape
from mmbench.errors import UndefinedError
from mmbench.models.base import MODELS
from mmbench.models.reading import architecture_of

COLOUR = InputShape(channels=3, image_size=32, classes=10)
RESNET18 = Path(__file__).parents[2] / "conf" / "model" / "resnet18.yaml"


def by_hand():
    """C(8) - C(32) - MaxPool2 - F(256) - 10."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * 16 * 16, 256),
        nn.ReLU(),
        nn.Linear(256, 10),
    )


def with_weights_of(model, source, rename=lambda name: name):
    """The model in float64 with the weights of another one, which has the same tensors in the same order or names."""
    names = {rename(name): tensor for name, tensor in source.state_dict().items()}
    model.load_state_dict(names, strict=True)
    return model.double().eval()


def pixels(seed=0, size=32):
    return torch.randn(4, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_the_default_is_the_papers_network():
    torch.manual_seed(0)
    model, mine = MODELS["cnn"]().build(COLOUR), by_hand()
    names = dict(zip(model.state_dict(), mine.state_dict(), strict=True))
    mine = with_weights_of(mine, model, names.get)
    with torch.no_grad():
        assert torch.equal(model.double().eval()(pixels()), mine(pixels()))
    assert [*model.state_dict()][::2] == ["conv1.weight", "conv2.weight", "fc1.weight", "head.weight"]
    assert MODELS["cnn"]().parameters(COLOUR) == sum(p.numel() for p in mine.parameters())


@pytest.mark.parametrize("size", [32, 29, 7])
@pytest.mark.parametrize("hidden", [(), (5,), (5, 4)])
@pytest.mark.parametrize("pools", [(), (2,), (1, 3)])
def test_the_parameter_count_in_closed_form(size, hidden, pools):
    architecture = MODELS["cnn"](channels=(3, 4, 2), pools=pools, hidden=hidden)
    shape = InputShape(channels=3, image_size=size, classes=10)
    convolutions = sum(b * (9 * a + 1) for a, b in ((3, 3), (3, 4), (4, 2)))
    side = size
    for _ in pools:
        side //= 2
    widths = [2 * side**2, *hidden, 10]
    linear = sum(b * (a + 1) for a, b in itertools.pairwise(widths))
    assert architecture.parameters(shape) == convolutions + linear
    model = architecture.build(shape)
    assert sum(p.numel() for p in model.parameters()) == convolutions + linear
    assert model(torch.zeros(2, 3, size, size)).shape == (2, 10)
    found, read = architecture_of(model)
    assert found == architecture
    assert found.table(read).tensors.keys() == architecture.table(shape).tensors.keys()
    assert read.image_size == side << len(pools), "the smallest image that the pools leave whole"


def test_an_image_too_small_for_the_pools_is_refused():
    architecture = MODELS["cnn"](channels=(2, 2, 2), pools=(1, 2, 3))
    message = r"images of 7 pixels are too small for model.pools = \[1, 2, 3\]: 3 halvings need at least 8 pixels"
    for use in (architecture.table, architecture.build, architecture.parameters):
        with pytest.raises(UndefinedError, match=message):
            use(InputShape(channels=3, image_size=7, classes=10))
    assert architecture.parameters(InputShape(channels=3, image_size=8, classes=10)) > 0


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("act1", nn.GELU()),
        ("pool2", nn.MaxPool2d(2, padding=1)),
        ("pool2", nn.MaxPool2d(3)),
        ("conv2", nn.Conv2d(8, 32, 5, padding=2)),
        ("conv2", nn.Conv2d(8, 32, 3, padding=1, bias=False)),
        ("conv2", nn.Conv2d(8, 32, 3, padding=1, padding_mode="circular")),
    ],
    ids=str,
)
def test_what_is_not_quite_a_cnn_is_refused_and_the_part_named(name, module):
    model = MODELS["cnn"]().build(COLOUR)
    setattr(model, name, module)
    with pytest.raises(UndefinedError, match=rf"not a plain network of the family 'cnn': .*{name}"):
        architecture_of(model)


def resnet18():
    options = yaml.safe_load(RESNET18.read_text())
    return MODELS.create(options)


def test_resnet18_has_the_parameters_of_the_literature():
    assert resnet18().parameters(COLOUR) == 11_173_962
    assert sum(p.numel() for p in resnet18().build(COLOUR).parameters()) == 11_173_962


def as_in_timm(name):
    """layer1.0.conv1.weight is stages.0.0.conv1.weight."""
    return re.sub(r"layer(\d)", lambda match: f"stages.{int(match[1]) - 1}", name)


def test_resnet18_is_torchvisions_with_the_small_stem():
    models = pytest.importorskip("torchvision.models")
    torch.manual_seed(0)
    theirs = models.resnet18(num_classes=10)
    theirs.conv1, theirs.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    for tensor in theirs.state_dict().values():  # statistics and scales that tell the layers apart
        if tensor.is_floating_point() and tensor.dim() == 1:
            tensor.uniform_(0.5, 1.5)
    mine = with_weights_of(resnet18().build(COLOUR), theirs, as_in_timm)
    theirs = theirs.double().eval()
    with torch.no_grad():
        assert (mine(pixels()) - theirs(pixels())).abs().max() < 1e-10
        for model in (mine, theirs):
            model.train()
        assert (mine(pixels()) - theirs(pixels())).abs().max() < 1e-10
