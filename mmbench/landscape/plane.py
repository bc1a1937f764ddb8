"""The loss on the plane through three networks, in the plane's own Euclidean coordinates.

With the flat parameters a, b, c of three networks of one architecture, u = (b - a) / |b - a| and v the unit vector of
what is left of c - a orthogonal to u, the plane is {a + x u + y v}. So distances in the picture are distances in weight
space, and the three networks lie at (0, 0), (|b - a|, 0) and (<c - a, u>, <c - a, v>). Source: Garipov et al. (2018,
arXiv:1802.10026, section 5), whose figures show planes through three points; figure 1 of the paper (arXiv:2405.15895)
shows the plane through three minima before and after widening.

Every point a + x u + y v is also an affine mixture of the networks with weights that add up to 1. Running statistics of
batch norms are mixed like weights, or recomputed from the images.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from mmbench.data.base import Split
from mmbench.errors import UndefinedError
from mmbench.landscape.paths import Place, place, set_place
from mmbench.landscape.surface import Surface
from mmbench.models.copies import copied

Statistics = Literal["keep", "recompute"]


class Plane(NamedTuple):
    """The loss on a grid of points of the plane; lengths are Euclidean distances of flat parameters."""

    corners: Tensor
    """x and y of the three networks, (3, 2)."""
    corner_losses: Tensor
    """Their losses in nats, (3,)."""
    x: Tensor
    """Of the grid's columns, (n,)."""
    y: Tensor
    """Of the grid's rows, (n,)."""
    losses: Tensor
    """Mean cross-entropy in nats, (n, n), a row for each y; not finite where the network's is not."""


def plane(
    networks: Sequence[nn.Module],
    images: Split,
    points: int = 25,
    span: float | None = None,
    statistics: Statistics = "recompute",
    each: Callable[[], None] = lambda: None,
) -> Plane:
    """The loss on the plane through three networks, on a square grid around them.

    Args:
        networks: three of one architecture, which do not lie on one line; they are not changed.
        images: on which the loss is taken.
        points: of the grid along each side, at least 2.
        span: the side of the square; by default 1.6 times the longest extent of the three networks.
        statistics: of batch norms at a point of the plane: mixed like weights, or recomputed from the images.
        each: called after each point.

    Returns:
        Coordinates and losses.

    Raises:
        UndefinedError: there are not three networks of one architecture, two of them are equal, or they lie on a line.
    """
    places = _places(networks)
    corners, shares = _coordinates(places)
    low, high = corners.min(0).values, corners.max(0).values
    side = 1.6 * float((high - low).max()) if span is None else span
    x, y = ((low + high) / 2 + side * torch.linspace(-0.5, 0.5, points, dtype=torch.float64)[:, None]).T
    surface = Surface(copied(networks[0]), images, batch_statistics=statistics == "recompute")

    def loss(point: Tensor) -> float:
        b, c = (shares @ point).tolist()
        first, second, third = places
        mixed = (first[i] * (1 - b - c) + second[i] * b + third[i] * c for i in (0, 1))
        set_place(surface, Place(*mixed))
        each()
        return surface.loss()

    losses = torch.tensor([[loss(torch.stack([across, up])) for across in x] for up in y], dtype=torch.float64)
    at_corners = []
    for corner in places:
        set_place(surface, corner)
        at_corners.append(surface.loss())
    return Plane(corners, torch.tensor(at_corners, dtype=torch.float64), x, y, losses)


def extent(networks: Sequence[nn.Module]) -> float:
    """The longest side of the box around three networks, in the coordinates of `plane`; errors as there."""
    corners, _ = _coordinates(_places(networks))
    return float((corners.max(0).values - corners.min(0).values).max())


def _places(networks: Sequence[nn.Module]) -> list[Place]:
    shapes = [[(name, tuple(tensor.shape)) for name, tensor in network.state_dict().items()] for network in networks]
    if len(networks) != 3 or shapes[1:] != shapes[:-1]:
        raise UndefinedError("a plane needs three networks of one architecture")
    return [place(network) for network in networks]


def _coordinates(places: Sequence[Place]) -> tuple[Tensor, Tensor]:
    """x and y of the three points (3, 2), and the matrix (2, 2) that turns (x, y) into the shares of b and c."""
    first, second, third = (p.parameters.double() for p in places)
    to_b, to_c = second - first, third - first
    width = float(to_b.norm())
    along = float(to_c @ to_b) / width if width else 0.0
    height = float((to_c - to_b * (along / width)).norm()) if width else 0.0
    if not height > 1e-6 * max(width, float(to_c.norm())):
        raise UndefinedError("the three networks lie on one line in weight space, or two of them are equal")
    corners = torch.tensor([[0.0, 0.0], [width, 0.0], [along, height]], dtype=torch.float64)
    return corners, torch.linalg.inv(corners[1:].T)
