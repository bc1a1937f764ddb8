"""Which expansion to choose for your own network, before any of them is trained.

Every operator that fits the network is applied at the parameter budget, and scored. Differences smaller than the errors
of the scores are noise. While the best candidate is undecided, those that may be the best are measured again with new
random draws, at most the better half each time (successive halving, Karnin et al., 2013), until one is clearly best or
the rounds or the time are used up. The time bounds every step and is spread over the candidates; see time_budget.py.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from mmbench.advice.arguments import DEFAULT, Asked, asked
from mmbench.advice.candidates import Candidate, find_candidates
from mmbench.advice.ranking import ranking, undecided
from mmbench.advice.time_budget import OutOfTime, TimeBudget
from mmbench.data.base import Progress
from mmbench.data.given import pair_of
from mmbench.errors import ConfigError, MmbenchError
from mmbench.expansions.apply import Expander
from mmbench.metrics.base import Images, Metric, score, subject_of
from mmbench.metrics.subject import Base
from mmbench.models.copies import copied
from mmbench.models.parts import unwrapped
from mmbench.models.reading import architecture_of, configuration
from mmbench.models.saving import save as save_network
from mmbench.models.traits import GROWN
from mmbench.training.loop import train
from mmbench.training.recipes import Training

ROUNDS = 4
"""The largest number of rounds in which a candidate is measured."""
DRAWS_PER_ROUND = 1000
"""Offset between the numbers of the random draws of two rounds. Draw 0 makes the measured network, in every round."""
TIMED_STEPS = 3
"""Training steps from which the duration of a candidate's training is estimated."""
LATE = "the time was used up"
"""Why a candidate has no score that time did not suffice for."""


def advise(
    model: nn.Module,
    data: Any,
    budget: float = 2.0,
    *,
    metrics: Sequence[str | Mapping[str, Any] | Metric] | str | Mapping[str, Any] | Metric | None = DEFAULT,
    expansions: Iterable[str] | str | None = None,
    training: Training | Mapping[str, Any] | str | None = None,
    validation: Any = None,
    seconds: float | None = None,
    tolerance: float = 0.05,
    seed: int = 0,
    save: str | None = "none",
    folder: str | Path = ".",
    progress: Progress[Any] | bool | None = None,
) -> pd.DataFrame:
    """Rank the expansions of a trained network, best first.

    Args:
        model: a classifier that `mmbench.expand` supports.
        data: its training images (N, C, H, W) and labels (N,), a data set of such examples, or a loader of batches.
        budget: parameters of the expanded network as a multiple of the model's.
        metrics: the metric to rank by: a name, a dictionary of name and options, or a metric. With several, the ranking
            is by the mean of their ranks, as shares of the number of candidates (1 is best). By default
            `injected_randomness`.
        expansions: names of the operators to consider; all of them by default.
        training: the recipe for training the expanded network (or its name, or name and options); metrics that train
            shorten it.
        validation: held-out images and labels, for metrics that need them; of the same kinds as `data`.
        seconds: time limit. A candidate that is not measured by then has no score, and its reason says so; a step that
            is under way is ended.
        tolerance: largest relative difference of a candidate's parameter count from the budget; at most 0.05.
        seed: of all random draws.
        save: `best` or `all` writes candidates, ready to train, to `folder`/NAME.safetensors; `none` writes nothing.
        folder: where candidates are saved.
        progress: True for a progress bar, in a notebook too; or a function of an iterable and a description, such as
            tqdm or `rich.progress.track`.

    Returns:
        One row per candidate: rank (1 is best; null without a score), expansion, axis, factor, parameters, score,
        score_stderr, decided (whether it is shown to be behind the first), rounds, seconds (spent on it), train_seconds
        (estimated duration of its training), reason (why it has no score), file (if saved); with several metrics also
        the mean score of each as `score/NAME`. `frame.attrs` holds `left_out` (operators that do not fit, and those
        that give the same network as a candidate, with reasons), `measured` and `candidates` (how many of how many have
        a score), `seconds` (the total), `metrics` (their definitions) and `budget`.

    Raises:
        ConfigError: a value is not allowed, or no operator fits, or the time does not suffice to find the candidates.
        UndefinedError: the network's family is unknown.
        DataError: images and labels do not match, or the network cannot take them.
        ScoreError: the network is dead or has diverged.
    """
    given = asked({
        "budget": budget, "metrics": metrics, "expansions": expansions, "training": training, "seconds": seconds,
        "tolerance": tolerance, "seed": seed, "save": save, "folder": folder, "progress": progress,
    })  # fmt: skip
    time_budget = TimeBudget(given.seconds)
    model = unwrapped(model)
    try:
        with time_budget.at_most():
            base, shape = architecture_of(model)
            examples, held_out = pair_of(data), None if validation is None else pair_of(validation)
            subject_of(model, examples, validation=held_out).surface(1)  # raises errors of the data, once
            given.training.in_steps(len(examples[1]))
            found, left_out = find_candidates(base, shape, given.budget, given.tolerance, given.expansions)
    except OutOfTime:
        raise ConfigError(
            f"seconds = {seconds:g} is too short: reading the network and the data and finding its expansions alone "
            "take longer"
        ) from None
    if not found:
        reasons = "; ".join(f"{entry['expansion']}: {entry['reason']}" for entry in left_out)
        raise ConfigError(f"budget = {budget:g}: no expansion of this network reaches this size: {reasons}")
    measurer = _Measurer(model, examples, given, held_out, time_budget)
    _measure(measurer, found, given.progress)
    candidates = [candidate for candidate in found if candidate.same_as is None]
    table = ranking(candidates, given.metrics)
    if given.save != "none":
        table["file"] = _saved(table, candidates, given.folder, given.save)
    table.attrs |= {
        "left_out": left_out + [_same(candidate) for candidate in found if candidate.same_as],
        "measured": int(table["rank"].notna().sum()),
        "candidates": len(candidates),
        "seconds": time_budget.spent,
        "metrics": [metric.definition for metric in given.metrics],
        "budget": given.budget,
    }
    return table


def _same(candidate: Candidate) -> dict[str, str]:
    first = candidate.same_as.title if candidate.same_as else ""
    return {"expansion": candidate.operator.name, "axis": candidate.axis, "reason": f"the same network as {first}"}


class _Measurer:
    """Applies and measures candidates: the same network and data for all, and in one round the same images."""

    def __init__(
        self, model: nn.Module, data: Images, given: Asked, validation: Images | None, time_budget: TimeBudget
    ) -> None:
        self.model, self.data, self.metrics, self.training = model, data, given.metrics, given.training
        self.base = Base(model)
        self.validation, self.seed, self.time_budget = validation, given.seed, time_budget
        self._first: dict[bytes, Candidate] = {}
        """By content: the first candidate that is this network."""

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

    def measure(self, candidate: Candidate, number: int, seconds: float) -> None:
        """Measure the candidate in a round, with that round's random draws, in at most these seconds."""
        start = self.time_budget.spent
        first = not candidate.estimates
        if first:
            candidate.reason = LATE  # until it has a score
        try:
            with self.time_budget.at_most(seconds):
                self._measure(candidate, number)
        except OutOfTime:
            candidate.expanders.clear()  # what an operator learns may be half done
            if candidate.reason == LATE and seconds > 0:
                candidate.allowed = seconds
                candidate.reason = f"{LATE}: it takes more than {seconds:.2g} s"
        except MmbenchError as error:
            candidate.reason = str(error)
        except (RuntimeError, ValueError) as error:  # the other candidates can still be ranked
            candidate.reason = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        candidate.seconds += self.time_budget.spent - start

    def _measure(self, candidate: Candidate, number: int) -> None:
        if candidate.model is None:
            model = self.expanded(candidate, self.model, 0).eval()
            first = self._first.setdefault(_content(model), candidate)
            if first is not candidate:
                candidate.same_as = first
                return
            candidate.model = model
        subject = subject_of(
            candidate.model, self.data, seed=self.seed + number, validation=self.validation, base=self.base,
            expand=lambda small, draw: self.expanded(candidate, small, draw and draw + number * DRAWS_PER_ROUND),
        )  # fmt: skip
        estimates = {metric.name: score(metric, subject) for metric in self.metrics}
        for name, estimate in estimates.items():
            candidate.estimates.setdefault(name, []).append(estimate)
        candidate.reason = ""
        if number == 0:
            candidate.train_seconds = self._training_seconds(candidate.model, subject.train)

    def _training_seconds(self, model: nn.Module, train_split: Any) -> float:
        history = train(copied(model), train_split, self.training, torch.Generator().manual_seed(0), TIMED_STEPS)
        steps = self.training.in_steps(len(train_split)).steps
        return history.seconds / min(TIMED_STEPS, steps) * steps


def _content(model: nn.Module) -> bytes:
    """A hash of what a network is: its configuration, and the names and values of its tensors."""
    sizes = {key: value for key, value in configuration(model).items() if key != GROWN}  # how it grew does not matter
    content = hashlib.blake2b(json.dumps(sizes, sort_keys=True).encode())
    for name, tensor in model.state_dict().items():
        content.update(name.encode())
        content.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return content.digest()


def _measure(measurer: _Measurer, candidates: list[Candidate], progress: Progress[Any]) -> None:
    """Measure round after round, each time fewer candidates."""
    time_budget = measurer.time_budget
    count = f"{len(candidates)} candidates"
    before: list[float] = []
    for place, candidate in enumerate(progress(candidates, f"measuring {count}")):
        measurer.measure(candidate, 0, time_budget.share(len(candidates) - place, before))
        if candidate.estimates:
            before.append(candidate.seconds)
    ended = [candidate for candidate in candidates if candidate.allowed]
    for place, candidate in enumerate(progress(ended, f"measuring {len(ended)} of {count} with more time")):
        if (share := time_budget.left / (len(ended) - place)) > candidate.allowed:
            measurer.measure(candidate, 0, share)
    unlike = [candidate for candidate in candidates if candidate.same_as is None]
    for number in range(1, ROUNDS):
        remaining = undecided(unlike, measurer.metrics)
        if len(remaining) < 2 or not time_budget.left:
            return
        for candidate in progress(remaining, f"measuring {len(remaining)} of {count} again"):
            if time_budget.left:
                measurer.measure(candidate, number, time_budget.left)


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
