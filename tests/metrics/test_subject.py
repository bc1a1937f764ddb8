from __future__ import annotations

import time
from collections.abc import Callable

import pytest
import torch
from torch import nn

from mmbench import measure
from mmbench.errors import DataError, ScoreError, UndefinedError
from mmbench.metrics.subject import Base, Subject
from mmbench.models.base import MODELS
from mmbench.testing.networks import images, network
from mmbench.training.recipes import SGD

RECIPE = SGD(steps=6, warmup_steps=1, batch_size=16)


def subject(family: str = "mlp", **options: object) -> Subject:
    return Subject(network(family), images(), **options)


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


def test_what_is_shared_is_computed_once_and_charged_to_everyone() -> None:
    shared, calls = subject(), []

    def slow() -> float:
        calls.append("slow")
        time.sleep(0.05)
        return 1.0

    def slower(subject: Subject) -> float:
        calls.append("slower")
        time.sleep(0.05)
        return subject.once("slow", slow) + 1

    def metric(subject: Subject) -> float:
        return subject.once("slower", lambda: slower(subject)) + subject.once("slow", slow)

    for _ in range(3):
        value, seconds = shared.measured(metric)
        assert value == 3.0
        assert 0.1 <= seconds < 0.14, "what comes in twice is charged once"
    assert calls == ["slower", "slow"]
    assert 0.05 <= shared.measured(lambda subject: subject.once("slow", slow))[1] < 0.07


def test_a_shared_result_does_not_depend_on_who_asks_first() -> None:
    found = []
    for before in (0, 5):
        shared = subject()
        torch.rand(before)
        found.append(shared.once("draw", lambda: torch.rand(3)))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], subject(seed=1).once("draw", lambda: torch.rand(3)))


def test_a_failure_is_not_kept() -> None:
    shared = subject()
    with pytest.raises(ZeroDivisionError):
        shared.once("x", lambda: 1 / 0)
    assert shared.once("x", lambda: 2.0) == 2.0
    assert shared.measured(lambda subject: subject.once("x", lambda: 3.0))[0] == 2.0


def test_a_surface_is_handed_out_at_the_networks_weights() -> None:
    shared = subject("resnet")
    first = shared.surface(10)
    start = first.point.clone()
    first.point.zero_()
    again = shared.surface(10)
    assert again is first
    assert torch.equal(again.point, start)
    assert torch.equal(start, weights(network("resnet")))
    assert shared.surface(10**6) is shared.surface(40), "all images are all images"


@pytest.mark.parametrize("family", MODELS.names())
def test_states_are_other_weights_of_the_same_network(family: str) -> None:
    shared = subject(family)
    assert shared.in_state("expanded", 3, RECIPE) is shared
    random, trained = shared.in_state("random", 3, RECIPE), shared.in_state("trained", 3, RECIPE)
    assert shared.in_state("random", 3, RECIPE) is random
    assert shared.in_state("trained", 3, RECIPE) is trained
    assert shared.in_state("trained", 4, RECIPE) is not trained
    everyone = [weights(s.network()) for s in (shared, random, trained, shared.in_state("trained", 4, RECIPE))]
    assert len({len(w) for w in everyone}) == 1
    assert all(not torch.equal(a, b) for i, a in enumerate(everyone) for b in everyone[:i])
    assert torch.equal(weights(subject(family).in_state("random", 1, RECIPE).network()), everyone[1])
    assert torch.isfinite(random.surface(8).logits()).all()


def test_a_random_networks_batch_norms_have_seen_images() -> None:
    model = subject("resnet").in_state("random", 1, RECIPE).network()
    norm = model.bn1
    with torch.no_grad():
        before = model.conv1(images().images)
    assert torch.allclose(norm.running_mean, before.mean((0, 2, 3)), atol=1e-6)
    assert norm.momentum == 0.1


def test_a_network_without_a_recipe_for_its_weights_has_no_random_state() -> None:
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head, self.offset = nn.Linear(64, 3), nn.Parameter(torch.ones(3))

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            return self.head(pixels.flatten(1)) + self.offset

    with pytest.raises(UndefinedError, match="needs to initialise 'offset'"):
        Subject(Bare(), images()).in_state("random", 1, RECIPE)
    ordinary = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    assert not torch.equal(
        weights(Subject(ordinary, images()).in_state("random", 1, RECIPE).network()), weights(ordinary)
    )


class Dropping(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(64, 3)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.head(nn.functional.dropout(pixels.flatten(1), 0.5))  # in evaluation, too


def test_unsound_networks_are_refused_with_the_reason() -> None:
    with pytest.raises(UndefinedError, match="different logits each time"):
        Subject(Dropping(), images()).surface(8)
    diverged = network("mlp")
    nn.init.constant_(diverged.fc1.weight, 1e30)
    nn.init.constant_(diverged.fc2.weight, 1e30)
    with pytest.raises(ScoreError, match="diverged"):
        Subject(diverged, images()).surface(1)
    dead = network("mlp")
    nn.init.constant_(dead.fc1.bias, -1e6)
    for count in (1, 40):
        with pytest.raises(ScoreError, match="dead"):
            Subject(dead, images()).surface(count)
    zero = network("mlp")
    nn.init.zeros_(zero.head.weight)  # constant, but alive: the head has a gradient
    Subject(zero, images()).surface(40)


def test_the_base_model_stays_as_it_was() -> None:
    base = network("mlp").train()
    data = images()
    measure(network("mlp"), (data.images, data.labels), "base_accuracy", base=base,
            validation=(data.images, data.labels))  # fmt: skip
    assert base.training
    with pytest.raises(UndefinedError, match="give base=model"):
        measure(network("mlp"), (data.images, data.labels), "base_accuracy", validation=(data.images, data.labels))
    with pytest.raises(UndefinedError, match="give validation="):
        measure(network("mlp"), (data.images, data.labels), "validation_loss")


def test_what_is_found_out_about_a_base_is_computed_once_and_charged_to_all() -> None:
    base, calls = Base(network("mlp")), []

    def compute() -> int:
        calls.append(time.sleep(0.05))
        return len(calls)

    subjects = [Subject(network("mlp"), images(), base=base, seed=seed) for seed in (0, 0, 1)]
    found = [subject.measured(lambda subject: subject.of_base("slow", compute)) for subject in subjects]
    assert [value for value, _ in found] == [1, 1, 2], "other seeds, other draws"
    assert all(seconds >= 0.05 for _, seconds in found)
    again = subjects[1].measured(lambda subject: subject.of_base("slow", compute))
    assert (again[0], again[1] >= 0.05, len(calls)) == (1, True, 2)
    with pytest.raises(UndefinedError, match="give base=model"):
        Subject(network("mlp"), images()).of_base("slow", compute)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: (255 * x.sigmoid()).to(torch.uint8), "are bytes (uint8, 0 to 255)"),
        (lambda x: 1e20 * x, "have values up to"),
        (lambda x: x / 0, "not finite numbers"),
    ],
    ids=["bytes", "huge", "infinite"],
)
def test_images_that_no_network_was_trained_on_are_refused(
    change: Callable[[torch.Tensor], torch.Tensor], message: str
) -> None:
    model, images = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(4, 2)), torch.randn(6, 1, 2, 2)
    with pytest.raises(DataError) as error:
        measure(model, (change(images), torch.tensor([0, 1] * 3)), "training_loss")
    assert message in str(error.value)
