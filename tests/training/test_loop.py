"""The training loop against torch's own optimisers, written out by hand."""

from __future__ import annotations

import copy
import math
import time
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from mmbench.data.base import InputShape, Split
from mmbench.errors import ConfigError, DivergedError
from mmbench.models.base import MODELS
from mmbench.training.loop import evaluate, train
from mmbench.training.recipes import SGD, TRAININGS, AdamW, Training

SMALL = {
    "mlp": {"hidden": (6, 5)},
    "resnet": {"channels": (3, 4), "layers": (1, 1)},
    "vit": {"embed_dim": 6, "heads": 2, "hidden": 8, "layers": 1, "patch_size": 4},
    "mixer": {"embed_dim": 6, "token_hidden": 5, "channel_hidden": 8, "layers": 1, "patch_size": 4},
    "convnext": {"channels": (3, 4, 5, 6), "layers": (1, 1, 1, 1), "kernel_size": 3},
}
each_family = pytest.mark.parametrize("family", MODELS.names())


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(count: int = 30, dtype: torch.dtype = torch.float64) -> Split:
    labels = torch.arange(count) % 3
    pixels = torch.randn(count, 1, 8, 8, dtype=torch.float64, generator=generator(9)) + labels.view(-1, 1, 1, 1)
    return Split(pixels.to(dtype), labels)


def network(family: str, dtype: torch.dtype = torch.float64) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MODELS.create({"name": family, **SMALL.get(family, {})}).build(InputShape(1, 8, 3)).to(dtype)


def by_hand(model: nn.Module, data: Split, recipe: Training, seed: int, steps: int | None = None) -> list[float]:
    """The same training with torch.optim and its clipping; the losses of its batches."""
    if isinstance(recipe, SGD):
        optimizer: torch.optim.Optimizer = torch.optim.SGD(
            model.parameters(), lr=1, momentum=recipe.momentum, weight_decay=recipe.weight_decay
        )
    else:
        optimizer = torch.optim.AdamW(
            model.parameters(), lr=1, betas=(recipe.beta1, recipe.beta2), weight_decay=recipe.weight_decay
        )
    losses, order = [], generator(seed)
    size = min(recipe.batch_size, len(data))
    batches: list[torch.Tensor] = []
    model.train()
    for step in range(steps or recipe.steps):
        if not batches:
            batches = [b for b in torch.randperm(len(data), generator=order).split(size) if len(b) == size]
        batch = batches.pop(0)
        optimizer.zero_grad()
        loss = cross_entropy(model(data.images[batch]), data.labels[batch])
        loss.backward()
        if recipe.clip_norm is not None:
            nn.utils.clip_grad_norm_(model.parameters(), recipe.clip_norm)
        optimizer.param_groups[0]["lr"] = recipe.learning_rate(step)
        optimizer.step()
        losses.append(loss.item())
    return losses


RECIPES = {
    "sgd": SGD(steps=11, batch_size=8, warmup_steps=2, momentum=0.0, clip_norm=None),
    "sgd with momentum": SGD(steps=11, batch_size=8, warmup_steps=2, momentum=0.8, clip_norm=None),
    "sgd with decay": SGD(steps=11, batch_size=8, warmup_steps=2, weight_decay=0.05, clip_norm=None),
    "sgd with clipping": SGD(steps=11, batch_size=8, warmup_steps=2, weight_decay=0.05, clip_norm=0.3),
    "sgd with a clipping out of reach": SGD(steps=11, batch_size=8, warmup_steps=0, clip_norm=1e6),
    "adamw": AdamW(steps=11, batch_size=8, warmup_steps=2, weight_decay=0.0, clip_norm=None),
    "adamw with decay": AdamW(steps=11, batch_size=8, warmup_steps=2, weight_decay=0.1, clip_norm=None),
    "adamw with clipping": AdamW(steps=11, batch_size=8, warmup_steps=2, beta1=0.8, beta2=0.9, clip_norm=0.3),
}


@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES.keys())
@each_family
def test_it_is_the_training_by_torchs_own_optimiser(family: str, recipe: Training) -> None:
    """In float64: 30 images in batches of 8 make three steps an epoch, so 11 steps end inside the fourth."""
    data, hand, ours = images(), network(family), network(family)
    expected = by_hand(hand, data, recipe, seed=5)
    history = train(ours, data, recipe, generator(5))
    # torch's clipping divides by the norm + 1e-6, ours by the norm alone
    tolerance = 1e-5 if recipe.clip_norm == 0.3 else 1e-11
    for (name, ours_at), hand_at in zip(ours.state_dict().items(), hand.state_dict().values(), strict=True):
        torch.testing.assert_close(ours_at, hand_at, rtol=tolerance, atol=tolerance, msg=name)
    torch.testing.assert_close(history.losses.double(), torch.tensor(expected).double(), rtol=1e-5, atol=1e-6)
    assert history.losses.shape == (11,)


@pytest.mark.parametrize("recipe", [RECIPES["sgd with momentum"], RECIPES["adamw"]], ids=["sgd", "adamw"])
@each_family
def test_float32_agrees_with_float64(family: str, recipe: Training) -> None:
    single, double = network(family, torch.float32), network(family)
    train(single, images(dtype=torch.float32), recipe, generator())
    train(double, images(), recipe, generator())
    for ours, theirs in zip(single.parameters(), double.parameters(), strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-3, atol=1e-4)


def test_clipping_makes_the_norm_exactly_the_limit() -> None:
    """One step of plain SGD at rate 1 moves the weights by the clipped gradient."""
    model = network("mlp")
    start = torch.cat([p.detach().flatten() for p in model.parameters()])
    recipe = SGD(steps=1, batch_size=30, warmup_steps=0, lr=1.0, momentum=0.0, clip_norm=0.01)
    train(model, images(), recipe, generator())
    end = torch.cat([p.detach().flatten() for p in model.parameters()])
    assert (end - start).norm().item() == pytest.approx(0.01, rel=1e-9)


@pytest.mark.parametrize("name", TRAININGS.names())
def test_the_schedule_warms_up_and_follows_a_cosine(name: str) -> None:
    recipe = TRAININGS[name](steps=100, warmup_steps=20, lr=2.0, schedule="cosine")
    rates = [recipe.learning_rate(step) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == pytest.approx(1.0)
    assert rates[19] == rates[20] == 2.0
    assert rates[40] == pytest.approx(1 + math.cos(math.pi / 4))
    assert rates[60] == pytest.approx(1.0)
    assert rates[99] == pytest.approx(1 - math.cos(math.pi / 80))
    assert rates[:20] == sorted(rates[:20])
    assert rates[20:] == sorted(rates[20:], reverse=True)
    assert TRAININGS[name](steps=100, warmup_steps=0, lr=2.0).learning_rate(0) == 2.0
    assert TRAININGS[name](steps=1, warmup_steps=0, lr=2.0, schedule="cosine").learning_rate(0) == 2.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 10, "warmup_steps": 10}, r"training\.warmup_steps = 10 must be smaller than training\.steps = 10"),
        ({"steps": 0, "warmup_steps": 0}, r"training\.steps = 0 is not allowed: must be an integer >= 1"),
        ({"lr": 0.0}, r"training\.lr = 0\.0 is not allowed"),
        ({"batch_size": 0}, r"training\.batch_size = 0 is not allowed"),
        ({"clip_norm": 0.0}, r"training\.clip_norm = 0\.0 is not allowed"),
        ({"momentun": 0.5}, r"training\.momentun"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_wrong_options_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        TRAININGS.create({"name": "sgd", **options})


@pytest.mark.parametrize("name", TRAININGS.names())
@each_family
def test_the_generators_seed_alone_decides(family: str, name: str) -> None:
    recipe, results = TRAININGS[name](steps=7, batch_size=8, warmup_steps=1), []
    for order, global_seed in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(global_seed)
        before, model = torch.get_rng_state(), network(family, torch.float32)
        train(model, images(dtype=torch.float32), recipe, generator(order))
        assert torch.equal(torch.get_rng_state(), before)
        results.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[0], results[2])


@each_family
def test_the_split_stays_as_it_was_and_the_model_ends_in_evaluation_mode(family: str) -> None:
    data, model = images(), network(family)
    start = time.perf_counter()
    history = train(model, data, SGD(steps=5, warmup_steps=0, batch_size=8), generator())
    assert 0 < history.seconds <= time.perf_counter() - start
    assert torch.equal(data.images, images().images)
    assert torch.equal(data.labels, images().labels)
    assert data.images.is_contiguous()
    assert not any(module.training for module in model.modules())


class Watch(nn.Module):
    """A linear network that records its batches, as rows of the data, and can break at one forward pass."""

    def __init__(self, data: Split, bad_step: int | None = None, bad: float = math.nan) -> None:
        super().__init__()
        self.head = nn.Linear(64, 3, dtype=torch.float64)
        self.data, self.bad_step, self.bad, self.batches = data, bad_step, bad, []

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        self.batches.append([int((self.data.images == x).flatten(1).all(1).nonzero()) for x in pixels])
        logits = self.head(pixels.flatten(1))
        return logits * self.bad if len(self.batches) - 1 == self.bad_step else logits


@pytest.mark.parametrize(
    ("batch_size", "steps", "size", "per_epoch"),
    [(10, 7, 10, 3), (8, 7, 8, 3), (64, 3, 30, 1), (30, 2, 30, 1), (1, 40, 1, 30), (8, 2, 8, 3), (16, 3, 16, 1)],
    ids=["divides", "leaves a rest", "more than there are", "all", "single images", "less than an epoch", "half"],
)
def test_an_epoch_sees_every_image_at_most_once(batch_size: int, steps: int, size: int, per_epoch: int) -> None:
    model = Watch(images())
    train(model, images(), SGD(steps=steps, warmup_steps=0, batch_size=batch_size), generator())
    assert [len(batch) for batch in model.batches] == [size] * steps
    epochs = [[row for batch in model.batches[i : i + per_epoch] for row in batch] for i in range(0, steps, per_epoch)]
    assert all(len(set(rows)) == len(rows) for rows in epochs)
    assert len({tuple(rows) for rows in epochs}) == len(epochs)
    assert all(rows != sorted(rows) for rows in epochs if len(rows) > 2)


@pytest.mark.parametrize("bad", [math.nan, math.inf], ids=str)
@pytest.mark.parametrize(
    "step",
    [0, 1, 2, 3, 4, 5, 6, 7],
    ids=["first", "inside an epoch", "last of an epoch", "first of the second", "fourth", "fifth",
         "first of a partial epoch", "last of all"],
)  # fmt: skip
def test_divergence_names_the_first_bad_step(step: int, bad: float) -> None:
    """Eight steps, three an epoch. Later losses are not finite either, since the weights no longer are."""
    data = images()
    model = Watch(data, step, bad)
    with pytest.raises(DivergedError, match=f"diverged at step {step}: training loss (nan|inf)") as caught:
        train(model, data, SGD(steps=8, warmup_steps=0, batch_size=10), generator())
    assert caught.value.step == step
    assert not math.isfinite(caught.value.loss)
    assert len(model.batches) <= 3 * (step // 3 + 1), "trained on beyond the end of the epoch"


@pytest.mark.parametrize("batch_size", [10, 30], ids=["three steps an epoch", "one step an epoch"])
def test_real_divergence_is_found_where_it_happens(batch_size: int) -> None:
    data, hand = images(), network("mlp")
    recipe = SGD(steps=40, warmup_steps=0, batch_size=batch_size, lr=1e25, momentum=0.0, clip_norm=None)
    losses = by_hand(hand, data, recipe, seed=0)
    step = next(i for i, loss in enumerate(losses) if not math.isfinite(loss) or loss > 3.4e38)
    assert step > 0
    with pytest.raises(DivergedError) as caught:
        train(network("mlp"), data, recipe, generator())
    assert caught.value.step == step


def test_the_last_update_is_watched_too() -> None:
    """All losses are finite, but the last gradient is not: the network must not pass as a trained one."""

    class Overflows(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.head = nn.Linear(64, 3, dtype=torch.float64)
            self.calls = 0

        def forward(self, pixels: torch.Tensor) -> torch.Tensor:
            logits, self.calls = self.head(pixels.flatten(1)), self.calls + 1
            if self.calls == 5:
                logits.register_hook(lambda gradient: gradient * math.inf)
            return logits

    with pytest.raises(DivergedError) as caught:
        train(Overflows(), images(), SGD(steps=5, warmup_steps=0, batch_size=10), generator())
    assert caught.value.step == 5


def test_clipping_prevents_what_would_diverge() -> None:
    recipe = SGD(steps=20, warmup_steps=0, batch_size=10, lr=50.0, momentum=0.0, clip_norm=1e-3)
    assert torch.isfinite(train(network("mlp"), images(), recipe, generator()).losses).all()


@pytest.mark.parametrize("steps", [0, 1, 4, 7, 11, 99])
def test_it_can_stop_early_on_the_schedule_of_the_whole_recipe(steps: int) -> None:
    recipe, data, hand, ours = RECIPES["sgd with momentum"], images(), network("mlp"), network("mlp")
    start = copy.deepcopy(ours.state_dict())
    history = train(ours, data, recipe, generator(), stop_after=steps)
    assert len(history.losses) == min(steps, 11)
    if steps:
        by_hand(hand, data, recipe, 0, min(steps, 11))
    for name, tensor in ours.state_dict().items():
        torch.testing.assert_close(tensor, hand.state_dict()[name], rtol=1e-11, atol=1e-12)
        assert torch.equal(tensor, start[name]) == (steps == 0)


def test_batch_norm_follows_the_batches() -> None:
    """The running statistics are those of training by hand (above); here, that they moved and were counted."""
    model = network("resnet")
    train(model, images(), SGD(steps=6, warmup_steps=0, batch_size=10), generator())
    assert int(model.bn1.num_batches_tracked) == 6
    assert model.bn1.running_mean.any()
    assert not torch.equal(model.bn1.running_var, torch.ones_like(model.bn1.running_var))


@pytest.mark.parametrize("recipe", [SGD(steps=80), AdamW(steps=80, lr=0.01)], ids=["sgd", "adamw"])
@each_family
def test_it_learns(family: str, recipe: Training) -> None:
    model, data = network(family, torch.float32), images(120, torch.float32)
    before = evaluate(model, data)
    train(model, data, recipe, generator())
    after = evaluate(model, data)
    assert after.loss < 0.5 * before.loss
    assert after.accuracy > 0.9


@pytest.mark.parametrize("training", [True, False], ids=["training mode", "evaluation mode"])
@pytest.mark.parametrize("batch_size", [2048, 30, 7, 1])
@each_family
def test_evaluation_is_exact(family: str, batch_size: int, training: bool) -> None:
    data, model = images(), network(family)
    with torch.no_grad():
        model.train()(data.images)
        logits = model.eval()(data.images)
    model.train(training)
    before = copy.deepcopy(model.state_dict())
    found = evaluate(model, data, batch_size)
    losses = [-logits[i].log_softmax(0)[label].item() for i, label in enumerate(data.labels)]
    assert found.loss == pytest.approx(sum(losses) / 30, rel=1e-12)
    assert found.accuracy == sum(int(logits[i].argmax()) == label for i, label in enumerate(data.labels)) / 30
    assert model.training == training
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_evaluation_is_precise_where_float32_would_be_zero() -> None:
    model = nn.Flatten()
    labels = torch.zeros(3, dtype=torch.long)
    data = Split(torch.tensor([[20.0, 0.0], [21.0, 0.0], [22.0, 0.0]]).view(3, 2, 1, 1), labels)
    expected = sum(math.log1p(math.exp(-margin)) for margin in (20, 21, 22)) / 3
    assert evaluate(model, data).loss == pytest.approx(expected, rel=1e-6, abs=0)
    assert evaluate(model, data).accuracy == 1.0
