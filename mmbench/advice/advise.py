"""Which expansion to choose for your own network, before any of them is trained.

Every operator that fits the network is applied at the parameter budget, and scored. Differences smaller than the errors
of the scores are noise. While the best candidate is undecided, those that may be the best are measured again with new
random draws, at most the better half each time (successive halving, Karnin et al., 2013), until one is clearly best or
the rounds or the time are used up.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from mmbench.advice.candidates import Candidate, find_candidates
from mmbench.advice.ranking import ranking, undecided
from mmbench.data.base import Progress, silent
from mmbench.errors import ConfigError, MmbenchError
from mmbench.expansions.apply import Expander
from mmbench.metrics.base import METRICS, Images, Metric, score, subject_of
from mmbench.metrics.subject import Base
from mmbench.models.copies import copied
from mmbench.models.parts import unwrapped
from mmbench.models.reading import architecture_of
from mmbench.models.saving import save as save_network
from mmbench.training.loop import train
from mmbench.training.recipes import SGD, Training

DEFAULT = ("injected_randomness",)
"""The metrics that rank by default: what predicted gains best in the sweeps so far; see injected_randomness.py."""
ROUNDS = 4
"""The largest number of rounds in which a candidate is measured."""
DRAWS_PER_ROUND = 1000
"""Offset between the numbers of the random draws of two rounds. Draw 0 makes the measured network, in every round."""
TIMED_STEPS = 3
"""Training steps from which the duration of a candidate's training is estimated."""


def advise(
    model: nn.Module,
    data: Images | Iterable[Images],
    budget: float = 2.0,
    *,
    metrics: Sequence[str | Metric] | str | Metric = DEFAULT,
    expansions: Sequence[str] | None = None,
    training: Training | None = None,
    validation: Images | None = None,
    seconds: float | None = None,
    tolerance: float = 0.05,
    seed: int = 0,
    save: str = "none",
    folder: str | Path = ".",
    progress: Progress[Any] = silent,
) -> pd.DataFrame:
    """Rank the expansions of a trained network, best first.

    Args:
        model: a classifier that `mmbench.expand` supports.
        data: its training images (N, C, H, W) and labels (N,), or a loader of such batches.
        budget: parameters of the expanded network as a multiple of the model's.
        metrics: the metric to rank by. With several, the ranking is by the mean of their ranks, as shares of the number
            of candidates (1 is best). By default `injected_randomness`.
        expansions: names of the operators to consider; all of them by default.
        training: the recipe for training the expanded network; metrics that train shorten it.
        validation: held-out images and labels, for metrics that need them.
        seconds: time limit; a candidate that is not measured by then has no score.
        tolerance: largest relative difference of a candidate's parameter count from the budget.
        seed: of all random draws.
        save: `best` or `all` writes candidates, ready to train, to `folder`/NAME.safetensors; `none` writes nothing.
        folder: where candidates are saved.
        progress: shows the progress, as `rich.progress.track` does.

    Returns:
        One row per candidate: rank (1 is best; null without a score), expansion, axis, factor, parameters, score,
        score_stderr, decided (whether it is clearly behind the first), rounds, seconds (spent on it), train_seconds
        (estimated duration of its training), reason (why it has no score), file (if saved); with several metrics also
        the mean score of each as `score/NAME`. `frame.attrs` holds `left_out` (operators that do not fit, with
        reasons), `seconds` (the total), `metrics` (their definitions) and `budget`.

    Raises:
        ConfigError: a value is not allowed, or no operator fits.
        UndefinedError: the network's family is unknown.
        DataError: images and labels do not match, or the network cannot take them.
        ScoreError: the network is dead or has diverged.
    """
    start = time.perf_counter()
    chosen = _checked(metrics, training, budget, seconds, save)
    model = unwrapped(model)
    base, shape = architecture_of(model)
    examples = tensors(data)
    subject_of(model, examples, validation=validation).surface(1)  # raises errors of the data, once
    candidates, left_out = find_candidates(base, shape, budget, tolerance, expansions)
    if not candidates:
        reasons = "; ".join(f"{entry['expansion']}: {entry['reason']}" for entry in left_out)
        raise ConfigError(f"budget = {budget:g}: no expansion of this network reaches this size: {reasons}")
    measurer = _Measurer(model, examples, chosen, training or SGD(), validation, seed)
    deadline = math.inf if seconds is None else start + seconds
    _measure(measurer, candidates, deadline, progress)
    table = ranking(candidates, chosen)
    if save != "none":
        table["file"] = _saved(table, candidates, folder, save)
    table.attrs |= {
        "left_out": left_out,
        "seconds": time.perf_counter() - start,
        "metrics": [metric.definition for metric in chosen],
        "budget": budget,
    }
    return table


def _checked(metrics: Any, training: Training | None, budget: float, seconds: float | None, save: str) -> list[Metric]:
    """The metrics as components; all wrong values are reported together."""
    problems: list[str] = []
    chosen = []
    if not isinstance(budget, (int, float)) or not 1 < budget < 1000:
        problems.append(
            f"budget = {budget!r} is not allowed: must be a number > 1 and < 1000; 2.0 doubles the parameters"
        )
    if seconds is not None and (not isinstance(seconds, (int, float)) or not seconds > 0):
        problems.append(f"seconds = {seconds!r} is not allowed: must be a number > 0")
    if save not in ("none", "best", "all"):
        problems.append(f"save = {save!r} is not allowed: must be none, best or all")
    requested = [metrics] if isinstance(metrics, (str, Metric)) else list(metrics)
    if not requested:
        problems.append(f"metrics is empty; allowed: {', '.join(METRICS.names())}")
    for metric in requested:
        try:
            chosen.append(metric_for_advice(metric, training))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(*problems)
    return chosen


def metric_for_advice(metric: str | Metric, training: Training | None = None) -> Metric:
    """A metric by its name, with the recipe of the training if it trains."""
    if isinstance(metric, Metric):
        return metric
    cls = METRICS[metric]
    recipe = {"training": training} if training and "training" in cls.model_fields else {}
    return METRICS.create({"name": metric, **recipe})


def tensors(data: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and labels as two tensors, concatenated if `data` is a loader of batches."""
    if isinstance(data, (tuple, list)) and len(data) == 2 and all(hasattr(part, "__len__") for part in data):
        return data[0], data[1]
    try:
        batches = [(torch.as_tensor(images), torch.as_tensor(labels)) for images, labels in data]
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"data must be (images, labels), or a loader of such batches, not {type(data).__name__}: {error}"
        ) from None
    if not batches:
        raise ConfigError("data has no batches")
    images, labels = zip(*batches, strict=True)
    return torch.cat(images), torch.cat(labels)


class _Measurer:
    """Applies and measures candidates: the same network and data for all, and in one round the same images."""

    def __init__(
        self,
        model: nn.Module,
        data: tuple[torch.Tensor, torch.Tensor],
        metrics: list[Metric],
        training: Training,
        validation: Images | None,
        seed: int,
    ) -> None:
        self.model, self.data, self.metrics, self.training = model, data, metrics, training
        self.base = Base(model)
        self.validation, self.seed = validation, seed

    def expanded(self, candidate: Candidate, small: nn.Module, draw: int) -> nn.Module:
        """Expand a network like the candidate.

        Args:
            candidate: the operator and its size.
            small: a network of the model's architecture.
            draw: the number of the random draw.

        Returns:
            The expanded network.
        """
        if draw not in candidate.expanders:
            seed = self.seed + draw
            candidate.expanders[draw] = Expander(self.model, candidate.operator, data=self.data, seed=seed)
        return candidate.expanders[draw](small)

    def measure(self, candidate: Candidate, number: int) -> None:
        """Measure the candidate in a round, with that round's random draws."""
        start = time.perf_counter()
        try:
            if candidate.model is None:
                candidate.model = self.expanded(candidate, self.model, 0).eval()
            subject = subject_of(
                candidate.model, self.data, seed=self.seed + number, validation=self.validation, base=self.base,
                expand=lambda small, draw: self.expanded(candidate, small, draw and draw + number * DRAWS_PER_ROUND),
            )  # fmt: skip
            for metric in self.metrics:
                candidate.estimates.setdefault(metric.name, []).append(score(metric, subject))
            if number == 0:
                candidate.train_seconds = self._training_seconds(candidate.model, subject.train)
        except MmbenchError as error:
            candidate.reason = str(error)
        except (RuntimeError, ValueError) as error:  # the other candidates can still be ranked
            candidate.reason = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        candidate.seconds += time.perf_counter() - start

    def _training_seconds(self, model: nn.Module, train_split: Any) -> float:
        history = train(copied(model), train_split, self.training, torch.Generator().manual_seed(0), TIMED_STEPS)
        return history.seconds / min(TIMED_STEPS, self.training.steps) * self.training.steps


def _measure(measurer: _Measurer, candidates: list[Candidate], deadline: float, progress: Progress[Any]) -> None:
    """Measure round after round, each time fewer candidates."""
    remaining = candidates
    for number in range(ROUNDS):
        for candidate in progress(remaining, f"measuring {len(remaining)} candidates" + (" again" if number else "")):
            if time.perf_counter() >= deadline:
                if not candidate.estimates:
                    candidate.reason = "the time was used up"
                continue
            measurer.measure(candidate, number)
        if time.perf_counter() >= deadline:
            return
        remaining = undecided(candidates, measurer.metrics)
        if len(remaining) < 2:
            return


def _saved(table: pd.DataFrame, candidates: list[Candidate], folder: str | Path, save: str) -> list[str | None]:
    """Write the best or all scored candidates, as `mmbench.save` writes them.

    Returns:
        The file of each row, or None.
    """
    models = {(candidate.operator.name, candidate.axis): candidate.model for candidate in candidates}
    files: list[str | None] = []
    Path(folder).mkdir(parents=True, exist_ok=True)
    for row in table.itertuples():
        model = models[str(row.expansion), str(row.axis)]
        if row.reason or model is None or (save == "best" and row.rank != 1):
            files.append(None)
            continue
        path = Path(folder) / f"{row.expansion}_{row.axis}.safetensors"
        files.append(str(save_network(model, path)))
    return files
