"""The loss on the plane through three networks."""

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from mmbench.data.base import Split
from mmbench.errors import UndefinedError
from mmbench.landscape.plane import extent, plane
from mmbench.landscape.surface import Surface
from mmbench.models.copies import copied

from .conftest import problem


def linear(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Flatten(), nn.Linear(4, 3, bias=False)).double()


@pytest.fixture
def data():
    torch.manual_seed(9)
    return Split(torch.randn(30, 1, 2, 2, dtype=torch.float64), torch.arange(30) % 3)


def test_a_linear_network_has_the_loss_of_its_closed_form_everywhere(data):
    networks = [linear(seed) for seed in (0, 1, 2)]
    found = plane(networks, data, points=5)
    a, b, c = (network[1].weight.detach() for network in networks)
    u = (b - a) / (b - a).norm()
    v = (c - a) - ((c - a) * u).sum() * u
    v /= v.norm()
    assert found.losses.shape == (5, 5)
    for row, y in enumerate(found.y):
        for column, x in enumerate(found.x):
            weight = a + x * u + y * v
            expected = cross_entropy(data.images.flatten(1) @ weight.T, data.labels)
            assert float(found.losses[row, column]) == pytest.approx(float(expected), abs=1e-12)


def test_the_picture_is_to_scale(data):
    networks = [linear(seed) for seed in (0, 1, 2)]
    found = plane(networks, data, points=4)
    weights = [network[1].weight.detach().flatten() for network in networks]
    for i in range(3):
        for j in range(3):
            apart = float((weights[i] - weights[j]).norm())
            assert float((found.corners[i] - found.corners[j]).norm()) == pytest.approx(apart, abs=1e-12)
    side = 1.6 * extent(networks)
    assert float(found.x[-1] - found.x[0]) == pytest.approx(side)
    assert float(found.y[-1] - found.y[0]) == pytest.approx(side)
    wide = plane(networks, data, points=4, span=3 * side)
    assert float(wide.x[-1] - wide.x[0]) == pytest.approx(3 * side)
    middle = (found.corners.max(0).values + found.corners.min(0).values) / 2
    assert torch.allclose(torch.stack([wide.x, wide.y], 1).mean(0), middle)


@pytest.mark.parametrize("family", ["mlp", "resnet"])
def test_the_corners_have_the_networks_own_losses_and_the_networks_stay(family):
    model, data = problem(family)
    networks = [model, copied(model), copied(model)]
    torch.manual_seed(3)
    with torch.no_grad():
        for network in networks[1:]:
            for tensor in network.state_dict().values():
                if tensor.is_floating_point():
                    tensor += 0.1 * torch.rand_like(tensor)
    before = [{name: tensor.clone() for name, tensor in network.state_dict().items()} for network in networks]
    found = plane(networks, data, points=2, statistics="keep")
    own = [Surface(copied(network), data).loss() for network in networks]
    assert found.corner_losses.tolist() == own  # exactly
    for network, state in zip(networks, before, strict=True):
        assert all(torch.equal(network.state_dict()[name], tensor) for name, tensor in state.items())
    recomputed = plane(networks, data, points=2).corner_losses.tolist()
    batch = [Surface(copied(network), data, batch_statistics=True).loss() for network in networks]
    assert recomputed == batch
    assert (recomputed == own) == (family == "mlp")  # which has no batch norm


def test_the_grid_meets_the_corners():
    """A grid through the corners, by a right angle: the losses there are the networks' own."""
    networks = [linear(0), linear(0), linear(0)]
    with torch.no_grad():
        networks[1][1].weight[0, 0] += 2.0
        networks[2][1].weight[1, 1] += 2.0
    images = Split(torch.randn(10, 1, 2, 2, dtype=torch.float64), torch.arange(10) % 3)
    calls = []
    found = plane(networks, images, points=2, span=2.0, each=lambda: calls.append(1))
    assert found.losses[0].tolist() == pytest.approx(found.corner_losses[:2].tolist(), abs=1e-12)
    assert float(found.losses[1, 0]) == pytest.approx(float(found.corner_losses[2]), abs=1e-12)
    assert len(calls) == 4


def test_three_networks_that_span_no_plane_are_refused(data):
    one, two = linear(0), linear(1)
    middle = linear(0)
    with torch.no_grad():
        middle[1].weight.copy_((one[1].weight + two[1].weight) / 2)
    with pytest.raises(UndefinedError, match="on one line"):
        plane([one, two, middle], data)
    with pytest.raises(UndefinedError, match="two of them are equal"):
        plane([one, one, two], data)
    with pytest.raises(UndefinedError, match="three networks of one architecture"):
        plane([one, two], data)
    with pytest.raises(UndefinedError, match="three networks of one architecture"):
        plane([one, two, nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).double()], data)
