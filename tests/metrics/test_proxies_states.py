"""The three states that a zero-cost proxy can be read in, and what the proxies share."""

from __future__ import annotations

import pytest
import torch

from mmbench import measure, measure_all
from mmbench.errors import ConfigError
from mmbench.landscape.surface import Surface
from mmbench.metrics._proxy import Proxy
from mmbench.metrics.base import METRICS
from mmbench.metrics.subject import Subject
from mmbench.testing.networks import images, network
from mmbench.training.loop import train
from mmbench.training.recipes import SGD

from .test_proxies import live

DATA = images(40, torch.float64)
RECIPE = SGD(steps=12, batch_size=16, warmup_steps=3, lr=0.2)
PROXIES = [name for name in METRICS.names() if issubclass(METRICS[name], Proxy)]
each = pytest.mark.parametrize("name", PROXIES)


def score(name: str, family: str = "mlp", **options: object) -> float:
    many = {"probes": 3000} if name == "zen" else {}
    return measure(live(family), (DATA.images, DATA.labels), name, training=RECIPE, **many, **options).value


def test_all_nine_are_here() -> None:
    assert PROXIES == ["fisher", "grad_norm", "grasp", "jacob_cov", "naswot", "snip", "swap", "synflow", "zen"]


@each
@pytest.mark.parametrize("family", ["mlp", "resnet", "vit"])
def test_trained_is_after_some_steps_of_the_recipe(name: str, family: str) -> None:
    model = live(family)
    train(model, DATA, RECIPE, Subject(model, DATA, seed=3).generator("training order"), stop_after=5)
    many = {"probes": 3000} if name == "zen" else {}
    by_hand = measure(model.eval(), (DATA.images, DATA.labels), name, seed=3, **many)
    found = score(name, family, state="trained", steps=5, seed=3)
    noise = 6 * (by_hand.stderr or 0) if name == "zen" else 0  # its draws are other ones in another state
    assert found == pytest.approx(by_hand.value, rel=1e-9, abs=noise)
    if name not in ("zen", "swap"):  # swap counts patterns: other states may have as many
        for other in ({}, {"state": "trained", "steps": 11}):
            assert found != pytest.approx(score(name, family, seed=3, **other), rel=1e-8)


@each
def test_random_knows_nothing_of_the_weights(name: str) -> None:
    model = live("mlp")
    other = live("mlp")
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.mul_(3).add_(0.1)
    values = [
        [measure(m, (DATA.images, DATA.labels), name, state="random", seed=seed).value for m in (model, other)]
        for seed in (0, 1)
    ]
    assert values[0][0] == values[0][1]
    assert values[0][0] != values[1][0]
    assert values[0][0] != measure(model, (DATA.images, DATA.labels), name).value


@each
def test_the_number_of_steps_matters_where_there_are_some(name: str) -> None:
    assert METRICS.create({"name": name, "training": RECIPE}).steps == 30
    assert METRICS.create({"name": name, "training": RECIPE, "state": "random"}).steps == 30
    with pytest.raises(ConfigError, match=r"metric\.steps = 30 must not be larger than training\.steps = 12"):
        METRICS.create({"name": name, "training": RECIPE, "state": "trained"})
    with pytest.raises(ConfigError, match=r"metric\.state = 'inherited' .*expanded, random, trained"):
        METRICS.create({"name": name, "state": "inherited"})


def test_they_share_one_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    calls, whole = [], Surface.loss_and_gradient
    monkeypatch.setattr(Surface, "loss_and_gradient", lambda surface: (calls.append(1), whole(surface))[1])
    found = measure_all(live("resnet"), (DATA.images, DATA.labels), ["snip", "grad_norm"])
    assert len(calls) == 1
    assert found["snip"].seconds > 0


@pytest.mark.parametrize("family", ["resnet", "vit"])
def test_no_hook_stays(family: str) -> None:
    subject = Subject(live(family), DATA)
    for name in PROXIES:
        METRICS.create({"name": name}).measure(subject)
    for count in (8, 256):
        modules = list(subject.surface(count).model.modules())
        assert not any(module._forward_hooks or module._forward_pre_hooks for module in modules)


@each
def test_only_the_images_asked_for_are_used(name: str) -> None:
    if "images" not in METRICS[name].model_fields:
        return
    data = images(30)
    alone = Subject(network("resnet"), data).images(10)
    few = measure(network("resnet"), (data.images, data.labels), name, images=10).value
    assert few == measure(network("resnet"), (alone.images, alone.labels), name).value
