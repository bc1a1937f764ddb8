"""What the tests of the expansions share."""

import pytest
import torch

from mmbench.models.base import MODELS
from tests.models.networks import FAMILIES, randomise


@pytest.fixture
def wild_initialisation(monkeypatch):
    """Fresh networks with weights, biases and running statistics of order one, none of them zero.

    An operator that forgets to silence a bias would pass with the families' own initialisation, where it is zero. With
    `wild_initialisation(draw)` the fresh weights change with `draw`, while the operator's own draws stay.
    """

    def use(draw: int = 0) -> None:
        for family, build in builds.items():

            def wild(architecture, shape, build=build):
                torch.rand(draw)
                return randomise(build(architecture, shape))

            monkeypatch.setattr(MODELS[family], "build", wild)

    builds = {family: MODELS[family].build for family in FAMILIES}
    use()
    return use
