from __future__ import annotations

import copy
import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from mmbench import measure
from mmbench.errors import ConfigError, DivergedError
from mmbench.metrics.subject import Subject
from mmbench.models.base import MODELS
from mmbench.testing.networks import images, network
from mmbench.training.loop import train
from mmbench.training.recipes import SGD, AdamW, Training

RECIPE = SGD(steps=12, batch_size=16, warmup_steps=3, lr=0.2, clip_norm=None)


@pytest.mark.parametrize("family", MODELS.names())
def test_it_is_the_loss_after_k_steps_by_hand(family: str) -> None:
    """Five steps of torch's own SGD on the recipe's schedule: two epochs of two batches and one of a third."""
    model, data = network(family, torch.float64), images(40, torch.float64)
    estimate = measure(
        model, (data.images, data.labels), "loss_after_k_steps", seed=5, steps=5, images=25, training=RECIPE
    )
    subject = Subject(model, data, seed=5)
    generator, chosen = subject.generator("training order"), subject.images(25)
    orders = [torch.randperm(40, generator=generator) for _ in range(3)]
    hand = copy.deepcopy(model).train()
    optimizer = torch.optim.SGD(hand.parameters(), lr=1.0, momentum=0.9)
    for step in range(5):
        batch = orders[step // 2][16 * (step % 2) :][:16]
        rate = 0.2 * (step + 1) / 3 if step < 3 else 0.2 * (1 + math.cos(math.pi * (step - 3) / 9)) / 2
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        cross_entropy(hand(data.images[batch]), data.labels[batch]).backward()
        optimizer.step()
    with torch.no_grad():
        losses = cross_entropy(hand.eval()(chosen.images), chosen.labels, reduction="none")
    assert estimate.value == pytest.approx(losses.mean().item(), rel=1e-9)
    assert estimate.stderr == pytest.approx(losses.std().item() / 5, rel=1e-9)


@pytest.mark.parametrize("recipe", [RECIPE, AdamW(steps=12, batch_size=16, warmup_steps=3)], ids=["sgd", "adamw"])
def test_all_steps_are_the_whole_recipe(recipe: Training) -> None:
    model, data = network("mlp", torch.float64), images(40, torch.float64)
    value = measure(model, (data.images, data.labels), "loss_after_k_steps", steps=12, training=recipe).value
    train(model, data, recipe, Subject(model, data).generator("training order"))
    with torch.no_grad():
        assert value == pytest.approx(cross_entropy(model(data.images), data.labels).item(), rel=1e-12)


def test_the_seed_decides_the_order_of_the_images() -> None:
    model, data = network("mlp", torch.float64), images(40, torch.float64)
    values = {
        measure(model, (data.images, data.labels), "loss_after_k_steps", seed=s, steps=4, training=RECIPE).value
        for s in range(4)
    }
    assert len(values) == 4


def test_it_can_be_given_as_a_mapping() -> None:
    """As Hydra gives it: the recipe is a name and options."""
    model, data = network("mlp"), images(40)
    options = {"name": "sgd", "steps": 12, "batch_size": 16, "warmup_steps": 3, "lr": 0.2, "clip_norm": None}
    values = [
        measure(model, (data.images, data.labels), "loss_after_k_steps", steps=4, training=recipe).value
        for recipe in (options, RECIPE)
    ]
    assert values[0] == values[1]


def test_k_is_at_most_the_steps_of_the_recipe() -> None:
    data = images(40)
    with pytest.raises(ConfigError, match=r"metric\.steps = 30 must not be larger than training\.steps = 12"):
        measure(network("mlp"), (data.images, data.labels), "loss_after_k_steps", training=RECIPE)


def test_divergence_is_an_error_with_its_step() -> None:
    data = images(40)
    wild = SGD(steps=12, batch_size=16, warmup_steps=0, lr=1e30, clip_norm=None)
    with pytest.raises(DivergedError, match=r"diverged at step [1-4]: "):
        measure(network("mlp"), (data.images, data.labels), "loss_after_k_steps", steps=8, training=wild)
