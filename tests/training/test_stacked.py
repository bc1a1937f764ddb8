"""Trainings with stacked weights against the same trainings one after the other."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from mmbench.data.base import InputShape, Split
from mmbench.errors import DivergedError
from mmbench.models.base import MODELS
from mmbench.training import stacked
from mmbench.training.loop import History, train
from mmbench.training.recipes import SGD, AdamW, Training
from mmbench.training.stacked import train_all, train_together

SMALL: dict[str, dict[str, Any]] = {
    "mlp": {"hidden": (6, 5)},
    "resnet": {"channels": (3, 4), "layers": (1, 1)},
    "vit": {"embed_dim": 6, "heads": 2, "hidden": 8, "layers": 1, "patch_size": 4},
    "mixer": {"embed_dim": 6, "token_hidden": 5, "channel_hidden": 8, "layers": 1, "patch_size": 4},
    "convnext": {"channels": (3, 4, 5, 6), "layers": (1, 1, 1, 1), "kernel_size": 3},
}
RECIPES = {
    "sgd": SGD(steps=9, batch_size=8, warmup_steps=2, weight_decay=0.05, clip_norm=0.3),
    "adamw": AdamW(steps=9, batch_size=8, warmup_steps=2, weight_decay=0.1, clip_norm=None),
}


def images(count: int = 30) -> Split:
    generator = torch.Generator().manual_seed(9)
    labels = torch.arange(count) % 3
    pixels = torch.randn(count, 1, 8, 8, dtype=torch.float64, generator=generator) + labels.view(-1, 1, 1, 1)
    return Split(pixels, labels)


def networks(family: str, count: int = 3) -> list[nn.Module]:
    """Each with weights of its own."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        architecture = MODELS.create({"name": family, **SMALL.get(family, {})})
        return [architecture.build(InputShape(1, 8, 3)).double() for _ in range(count)]


def one_by_one(models: list[nn.Module], data: Split, recipe: Training) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    return [train(model, data, recipe, generator).losses for model in models]


def assert_equal(models: list[nn.Module], others: list[nn.Module]) -> None:
    for model, other in zip(models, others, strict=True):
        for (name, one), two in zip(model.state_dict().items(), other.state_dict().values(), strict=True):
            torch.testing.assert_close(one, two, rtol=1e-7, atol=1e-9, msg=name)


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
@pytest.mark.parametrize("family", MODELS.names())
def test_weights_statistics_and_losses_are_those_of_trainings_one_after_the_other(
    family: str, recipe: Training
) -> None:
    models, data = networks(family), images()
    others = copy.deepcopy(models)
    histories = train_together(models, data, recipe, torch.Generator().manual_seed(4))
    losses = one_by_one(others, data, recipe)
    assert_equal(models, others)
    for history, truth in zip(histories, losses, strict=True):
        torch.testing.assert_close(history.losses, truth, rtol=1e-6, atol=1e-7)
        assert history.seconds > 0
    assert not any(module.training for model in models for module in model.modules())
    assert not torch.equal(histories[0].losses, histories[1].losses)


def test_frozen_weights_stay_and_may_differ() -> None:
    models, data = networks("mlp"), images()
    for model in models:
        next(model.parameters()).requires_grad_(False)
    frozen = [next(model.parameters()).clone() for model in models]
    others = copy.deepcopy(models)
    train_together(models, data, RECIPES["sgd"], torch.Generator().manual_seed(4))
    one_by_one(others, data, RECIPES["sgd"])
    assert_equal(models, others)
    assert all(torch.equal(next(model.parameters()), kept) for model, kept in zip(models, frozen, strict=True))


def test_fewer_images_than_a_batch_are_one() -> None:
    models, data = networks("resnet"), images(5)
    others = copy.deepcopy(models)
    train_together(models, data, RECIPES["sgd"], torch.Generator().manual_seed(4))
    one_by_one(others, data, RECIPES["sgd"])
    assert_equal(models, others)


def test_dropout_differs_from_network_to_network() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 3)).double()
    models = [copy.deepcopy(model) for _ in range(2)]
    data = Split(torch.ones(8, 1, 8, 8, dtype=torch.float64), torch.zeros(8, dtype=torch.long))
    recipe = SGD(steps=1, batch_size=8, warmup_steps=0)
    train_together(models, data, recipe, torch.Generator())
    assert not torch.equal(*(m.state_dict()["2.weight"] for m in models))


def test_a_network_that_diverges_is_an_error_and_nothing_is_changed() -> None:
    models, data = networks("mlp"), images()
    recipe = SGD(steps=40, batch_size=8, warmup_steps=0, lr=1e30, clip_norm=None)
    before, others = copy.deepcopy(models), copy.deepcopy(models)
    with pytest.raises(DivergedError) as found:
        train_together(models, data, recipe, torch.Generator().manual_seed(4))
    with pytest.raises(DivergedError) as truth:
        one_by_one(others, data, recipe)
    assert found.value.step == truth.value.step
    assert_equal(models, before)


class Unbatchable(nn.Module):
    """Its way depends on values, which vmap refuses."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 3, dtype=torch.float64)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        z = self.linear(x.flatten(1))
        return z if z.sum() > 0 else 2 * z


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacked, "_stacking_won", {})


@pytest.mark.parametrize("slow", ["train", "train_together"])
def test_the_faster_way_is_found_once_and_leaves_no_trace(slow: str, monkeypatch: pytest.MonkeyPatch) -> None:
    way, calls = getattr(stacked, slow), []

    def slowly(*given: Any) -> Any:
        calls.append(slow)
        histories = way(*given)
        if isinstance(histories, History):
            return History(histories.losses, histories.seconds + 1000)
        return [History(history.losses, history.seconds + 1000) for history in histories]

    monkeypatch.setattr(stacked, slow, slowly)
    models, data = networks("mlp"), images()
    before, state = copy.deepcopy(models), torch.get_rng_state()
    assert stacked.stacking_wins(models, data, RECIPES["sgd"]) == (slow == "train")
    tried = len(calls)
    assert stacked.stacking_wins(models, data, RECIPES["sgd"]) == (slow == "train")
    assert len(calls) == tried
    stacked.stacking_wins(models[:2], data, RECIPES["sgd"])
    assert len(calls) > tried, "another number of networks is another question"
    assert_equal(models, before)
    assert torch.equal(torch.get_rng_state(), state)


def test_what_cannot_be_batched_is_trained_one_after_the_other() -> None:
    assert not stacked.stacking_wins([Unbatchable(), Unbatchable()], images(), RECIPES["sgd"])


class OnGpu:
    """Labels, as far as where they lie."""

    device = torch.device("cuda")


def test_only_on_a_gpu_is_there_a_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    data, models = images(), networks("mlp")
    gpu, generator = Split(data.images, OnGpu()), torch.Generator()
    monkeypatch.setattr(stacked, "stacking_wins", lambda *_: True)
    monkeypatch.setattr(stacked, "train_together", lambda *_: "together")
    monkeypatch.setattr(stacked, "train", lambda *_: "alone")
    assert train_all(models, gpu, SGD(), generator) == "together"
    assert train_all(models[:1], gpu, SGD(), generator) == ["alone"]
    assert train_all(models[:2], data, SGD(), generator) == ["alone"] * 2
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: True)
    assert train_all(models[:2], gpu, SGD(), generator) == ["alone"] * 2
    monkeypatch.undo()
    monkeypatch.setattr(stacked, "stacking_wins", lambda *_: False)
    monkeypatch.setattr(stacked, "train", lambda *_: "alone")
    assert train_all(models[:2], gpu, SGD(), generator) == ["alone"] * 2
