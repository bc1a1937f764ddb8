"""`sotl_e`: the sum over the most recent epochs, and what it says where there is none."""

from __future__ import annotations

import math

import pytest
import torch

from mmbench import measure
from mmbench.errors import ScoreError, UndefinedError
from mmbench.metrics.base import METRICS
from mmbench.metrics.base import score as scored
from mmbench.metrics.subject import Subject
from mmbench.testing.networks import images, network

LOSSES = torch.tensor([9.0, 5.0, 4.0, 3.0, 2.5, 2.25, 2.0])
DATA = images(12)


def sotl_e(losses: torch.Tensor, epoch_steps: int, **options: int) -> float:
    subject = Subject(network("mlp"), DATA, losses=losses, epoch_steps=epoch_steps)
    return scored(METRICS.create({"name": "sotl_e", **options}), subject).value


@pytest.mark.parametrize(
    ("epoch_steps", "epochs", "steps", "truth"),
    [
        (3, 1, 7, 2.5 + 2.25 + 2.0),
        (3, 1, 3, 9.0 + 5.0 + 4.0),
        (1, 1, 7, 2.0),
        (2, 3, 7, 5.0 + 4.0 + 3.0 + 2.5 + 2.25 + 2.0),
        (7, 1, 7, 27.75),
    ],
    ids=["the last epoch only", "one whole epoch", "an epoch of one step", "three epochs", "all"],
)
def test_it_is_the_sum_over_the_most_recent_epochs(epoch_steps: int, epochs: int, steps: int, truth: float) -> None:
    assert sotl_e(LOSSES[:steps], epoch_steps, epochs=epochs) == pytest.approx(truth)


def test_of_less_than_an_epoch_it_is_on_the_scale_of_a_whole_one() -> None:
    assert sotl_e(LOSSES[:2], 8) == pytest.approx(8 * 7.0)
    assert sotl_e(torch.full((5,), 2.0), 8, epochs=3) == sotl_e(torch.full((40,), 2.0), 8, epochs=3) == 48.0


def test_float32_losses_are_summed_in_float64() -> None:
    losses = torch.full((300_000,), 0.1)
    assert sotl_e(losses, len(losses)) == pytest.approx(len(losses) * float(losses[0]), rel=1e-12)


def test_the_sign_says_that_fast_learning_is_good() -> None:
    assert METRICS["sotl_e"].expected_sign == -1


def test_a_diverged_training_is_an_error() -> None:
    with pytest.raises(ScoreError, match="not a finite number"):
        sotl_e(torch.tensor([2.0, math.inf]), 2)


@pytest.mark.parametrize("subject", [{}, {"losses": LOSSES}, {"epoch_steps": 3}], ids=str)
def test_at_the_start_it_is_undefined(subject: dict[str, object]) -> None:
    with pytest.raises(UndefinedError, match=r"metric\.after=1epochs"):
        METRICS.create({"name": "sotl_e"}).measure(Subject(network("mlp"), DATA, **subject))


def test_in_a_notebook_it_says_which_moment_it_needs() -> None:
    with pytest.raises(UndefinedError, match=r"metric\.after=1epochs"):
        measure(network("mlp"), (DATA.images, DATA.labels), "sotl_e")
