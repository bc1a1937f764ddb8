"""Validation along the training, early stopping, the best weights, and trainings that go on from a snapshot."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from mmbench.data.base import Split
from mmbench.errors import ConfigError
from mmbench.training.loop import Snapshot, Validation, evaluate, train
from mmbench.training.moments import steps_until
from mmbench.training.recipes import SGD, TRAININGS, AdamW, PaperAdamW, Training
from tests.training.test_loop import each_family, generator, images, network

RECIPES: dict[str, Training] = {
    "sgd": SGD(steps=11, batch_size=8, warmup_steps=2, momentum=0.8),
    "adamw": AdamW(steps=11, batch_size=8, warmup_steps=2),
    "best weights": AdamW(steps=11, batch_size=8, warmup_steps=2, lr=0.05, keep="best", validate_every=2),
    "epochs at a constant rate": PaperAdamW(epochs=4, batch_size=8, validate_every=2),
}
each_recipe = pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES.keys())


def dropping(family: str) -> nn.Module:
    """A network that draws random numbers while it is trained."""
    torch.manual_seed(0)
    return nn.Sequential(network(family), nn.Dropout(0.3))


@each_recipe
@pytest.mark.parametrize("at", [3, 5, 6])
def test_a_training_that_goes_on_from_a_snapshot_ends_exactly_like_one_without(recipe: Training, at: int) -> None:
    """Three steps are an epoch, so that the snapshot is between two epochs or inside one; batch norm and dropout."""
    whole, saved = dropping("resnet"), list[Snapshot]()
    torch.manual_seed(1)
    history = train(whole, images(), recipe, generator(5), validation=images(20), moments=[at],
                    save=lambda snapshot: saved.append(copy.deepcopy(snapshot)))  # fmt: skip
    resumed = dropping("resnet")
    torch.manual_seed(77)
    again = train(resumed, images(), recipe, generator(99), validation=images(20), resume=saved[0])
    assert saved[0].step == at
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    for name, curve in history.tensors().items():
        assert torch.equal(curve, again.tensors()[name]), name


@each_family
def test_a_snapshot_is_the_network_after_so_many_steps(family: str) -> None:
    recipe, saved, short = RECIPES["sgd"], list[Snapshot](), network(family)
    save = lambda snapshot: saved.append(copy.deepcopy(snapshot))  # noqa: E731
    train(network(family), images(), recipe, generator(5), moments=[0, 4, 11], save=save)
    train(short, images(), recipe, generator(5), stop_after=4)
    assert [snapshot.step for snapshot in saved] == [0, 4, 11]
    for name, tensor in short.state_dict().items():
        assert torch.equal(tensor, saved[1].tensors["weights"][name])
    assert saved[1].tensors["history"]["losses"].shape == (4,)


def test_validation_changes_no_weight() -> None:
    plain, watched = network("resnet"), network("resnet")
    train(plain, images(), RECIPES["sgd"], generator(5))
    train(watched, images(), RECIPES["sgd"], generator(5), validation=images(20))
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor, watched.state_dict()[name])


def test_the_curve_holds_the_first_the_last_and_every_kth_step() -> None:
    history = train(network("mlp"), images(), RECIPES["sgd"], generator(5), validation=images(20))
    assert history.validation is not None
    assert history.validation.steps == [0, 3, 6, 9, 11]
    every_four = RECIPES["sgd"].model_copy(update={"validate_every": 4})
    curve = train(network("mlp"), images(), every_four, generator(5), validation=images(20)).tensors()
    assert curve["validation_steps"].tolist() == [0, 4, 8, 11]
    at_the_end = RECIPES["sgd"].model_copy(update={"validate_every": 0})
    model = network("mlp")
    curve = train(model, images(), at_the_end, generator(5), validation=images(20)).tensors()
    assert curve["validation_steps"].tolist() == [11]
    assert curve["validation_accuracy"].tolist() == [evaluate(model, images(20)).accuracy]


def test_the_best_weights_are_those_of_the_first_best_evaluation() -> None:
    """A rate far too high makes the last weights worse than earlier ones."""
    recipe = SGD(steps=30, batch_size=8, warmup_steps=0, lr=3.0, schedule="constant", validate_every=1, keep="best")
    model, stopped = network("mlp"), network("mlp")
    history = train(model, images(), recipe, generator(5), validation=images(20))
    assert history.validation is not None
    accuracies = history.validation.accuracies
    assert accuracies[-1] < max(accuracies) == evaluate(model, images(20)).accuracy
    train(stopped, images(), recipe, generator(5), stop_after=accuracies.index(max(accuracies)))
    for name, tensor in stopped.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name])


def watching(recipe: Training, *accuracies: float, may_stop: bool = True) -> Validation:
    watch = Validation(recipe.in_steps(30), images(4), may_stop)
    watch.accuracies = list(accuracies)
    return watch


def test_patience_counts_evaluations_since_the_last_rise_by_more_than_min_delta() -> None:
    recipe = SGD(patience=2, min_delta=0.05, batch_size=8)
    assert not watching(recipe, 0.3, 0.5, 0.5).exhausted
    assert watching(recipe, 0.3, 0.5, 0.5, 0.54).exhausted
    assert not watching(recipe, 0.3, 0.5, 0.5, 0.56).exhausted
    assert watching(recipe, 0.3, 0.33, 0.34).exhausted
    assert not watching(recipe, 0.3, 0.33, 0.36).exhausted  # slow, but 0.06 above the last record
    assert not watching(recipe, 0.5, 0.5, 0.5, 0.5, may_stop=False).exhausted
    assert not watching(SGD(batch_size=8), 0.5, 0.5, 0.5, 0.5).exhausted


def test_early_stopping_ends_the_training_and_its_curves() -> None:
    labels = torch.zeros(20, dtype=torch.long)
    nothing_to_learn = Split(torch.zeros(20, 1, 8, 8, dtype=torch.float64), labels)
    recipe = SGD(steps=300, batch_size=8, warmup_steps=2, patience=3)
    history = train(network("mlp"), images(), recipe, generator(5), validation=nothing_to_learn)
    assert history.validation is not None
    assert len(history.losses) == history.validation.steps[-1] < 300


def test_epochs_are_whole_passes_and_their_steps_do_not_count_the_rest() -> None:
    recipe = PaperAdamW(epochs=2, batch_size=8)
    assert recipe.epoch_steps(30) == 3
    assert recipe.in_steps(30).steps == 6
    assert recipe.epoch_steps(5) == 1  # a batch larger than the data is the data
    assert len(train(network("mlp"), images(), recipe, generator()).losses) == 6
    with pytest.raises(ConfigError, match=r"must be smaller than the 6 steps of training\.epochs = 2 on 30"):
        SGD(epochs=2, batch_size=8, warmup_steps=15).in_steps(30)


@pytest.mark.parametrize("name", TRAININGS.names())
def test_what_does_not_change_a_training_is_not_part_of_its_identity(name: str) -> None:
    recipe = TRAININGS[name]
    assert recipe(repeats=3).describe() == recipe().describe()
    assert recipe(epochs=2, steps=50).describe() == recipe(epochs=2, steps=60).describe()
    assert recipe(epochs=None, steps=50).describe() != recipe(epochs=None, steps=60).describe()
    assert recipe(keep="best").describe() != recipe(keep="last").describe()


def test_moments() -> None:
    assert [SGD(validate_every=m).validate_every for m in (7, "7epochs", "1 epoch", "0epochs")] == [
        7,
        "7epochs",
        "1epochs",
        0,
    ]
    assert (steps_until(7, 10), steps_until("7epochs", 10)) == (7, 70)
    for wrong in (-1, "7", "epochs", "1.5epochs", "-1epochs"):
        with pytest.raises(ConfigError, match=r"validate_every.* is not allowed: must be an integer >= 0 or a text"):
            TRAININGS.create({"name": "sgd", "validate_every": wrong})
