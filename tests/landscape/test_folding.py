from __future__ import annotations

import copy

import pytest
import timm
import torch
from torch import nn

from mmbench.errors import UndefinedError
from mmbench.landscape.folding import fold_batch_norms

from .conftest import problem


class Net(nn.Module):
    """A biased convolution with a batch norm, a batch norm on its own, and a linear layer with one of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 3, 3, groups=1), nn.BatchNorm2d(3)
        self.lone = nn.BatchNorm2d(3)
        self.fc, self.last = nn.Linear(3, 4), nn.BatchNorm1d(4, affine=False)
        self.double()
        with torch.no_grad():
            for tensor in self.state_dict().values():
                if tensor.is_floating_point():
                    tensor.uniform_(0.5, 1.5, generator=torch.Generator().manual_seed(0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.lone(torch.relu(self.norm(self.conv(x))))
        return self.last(self.fc(x.mean((2, 3))))


def test_the_function_stays_and_folded_batch_norms_do_nothing() -> None:
    x = problem("mlp")[1].images
    model = Net().eval()
    folded = copy.deepcopy(model)
    assert fold_batch_norms(folded, x[:1]) == [folded.norm, folded.last]
    torch.testing.assert_close(folded(x), model(x))
    y = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    torch.testing.assert_close(folded.norm(y), y)
    scale, shift = folded.lone.weight.view(3, 1, 1), folded.lone.bias.view(3, 1, 1)
    torch.testing.assert_close(folded.lone(y), scale * y + shift)
    torch.testing.assert_close(folded.lone(y), model.lone(y))


def test_weight_and_bias_have_the_closed_form() -> None:
    model = Net().eval()
    folded = copy.deepcopy(model)
    fold_batch_norms(folded, problem("mlp")[1].images)
    norm = model.norm
    s = norm.weight / (norm.running_var + norm.eps).sqrt()
    torch.testing.assert_close(folded.conv.weight, s.view(3, 1, 1, 1) * model.conv.weight)
    torch.testing.assert_close(folded.conv.bias, norm.bias + s * (model.conv.bias - norm.running_mean))


@pytest.mark.parametrize("name", ["resnet10t.c3_in1k", "mobilenetv2_035"])
def test_networks_of_timm_are_folded(name: str) -> None:
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=3).double()
    x = torch.randn(4, 3, 32, 32, dtype=torch.float64)
    model(x)
    model.eval()
    folded = copy.deepcopy(model)
    norms = [module for module in folded.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    assert set(fold_batch_norms(folded, x[:1])) == set(norms)
    torch.testing.assert_close(folded(x), model(x))


def test_a_resnet_is_folded_whole() -> None:
    model, data = problem("resnet")
    x = data.images
    folded = copy.deepcopy(model)
    assert len(fold_batch_norms(folded, x[:1])) == sum(isinstance(m, nn.BatchNorm2d) for m in model.modules()) == 6
    torch.testing.assert_close(folded(x), model(x))


def test_a_layer_that_is_used_twice_keeps_its_weight() -> None:
    class Twice(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x) + self.conv(x).mean((2, 3)).sum(1, keepdim=True)

    model, x = Twice().eval(), problem("mlp")[1].images
    folded = copy.deepcopy(model)
    assert fold_batch_norms(folded, x[:1]) == [folded.last]
    torch.testing.assert_close(folded(x), model(x))


def test_an_output_that_goes_elsewhere_as_well_is_refused() -> None:
    class Elsewhere(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            made = self.conv(x)
            x = self.lone(torch.relu(self.norm(made))) + made
            return self.last(self.fc(x.mean((2, 3))))

    with pytest.raises(UndefinedError, match="cannot be folded"):
        fold_batch_norms(Elsewhere().eval(), problem("mlp")[1].images)


def test_a_batch_norm_without_statistics_is_refused() -> None:
    model = Net().eval()
    model.lone = nn.BatchNorm2d(3, track_running_stats=False).double()
    with pytest.raises(UndefinedError, match="no running statistics"):
        fold_batch_norms(model, problem("mlp")[1].images)
