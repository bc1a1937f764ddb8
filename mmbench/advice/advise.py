"""Which expansion to choose for a network of one's own, before any of them is trained.

Every operator that fits the network is matched to the parameter budget, applied, and scored. Scores have errors, and
differences within them are noise: where the first place is undecided, the candidates that may deserve it are measured
again with other draws, the better half of them at most (successive halving, Karnin et al., 2013), until it is decided,
the rounds are used up, or the time is.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from safetensors.torch import save_file
from torch import nn

from mmbench.advice.candidates import Candidate, find_candidates
from mmbench.advice.ranking import CLEAR, merits, undecided
from mmbench.data.base import Progress, silent
from mmbench.errors import ConfigError, MmbenchError
from mmbench.expansions.apply import Expander
from mmbench.metrics.base import METRICS, Images, Metric, score, subject_of
from mmbench.metrics.subject import Base
from mmbench.models.copies import copied
from mmbench.models.reading import architecture_of, configuration
from mmbench.training.loop import train
from mmbench.training.recipes import SGD, Training

DEFAULT = ("manifold",)
"""The metrics that advice is given by; see docs/evidence.md."""
ROUNDS = 4
APART = 1000
"""Between the draws of two rounds; the draw 0 is that of the network that is measured, in every round."""
TIMED = 3
"""Steps that a candidate is trained for to tell what its training would take."""


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
        model: a classifier of timm's classes that `mmbench.expand` understands.
        data: its training images (N, C, H, W) and labels (N,), or a loader of such batches.
        budget: parameters of the expanded network as a multiple of the model's.
        metrics: by which metric to rank, or metrics: then by the mean of the ranks that they give, as shares of the
            number of candidates (1 is best); by default by those that docs/evidence.md supports.
        expansions: names of the operators to consider; all of them by default.
        training: the recipe that the network will be trained on with; metrics that train shorten it.
        validation: held-out images and labels, for metrics that need them.
        seconds: the time that may be used; when it is used up, what is not measured has no score.
        tolerance: largest relative difference of a candidate's parameter count from the budget.
        seed: of all draws.
        save: `best` or `all` write candidates, ready to train, to `folder`/NAME.safetensors; `none` writes nothing.
        folder: where to.
        progress: shows how far it is, as `rich.progress.track` does.

    Returns:
        One row per candidate: rank (1 is best; null without a score), expansion, axis, factor, parameters, score,
        score_stderr, decided (whether the difference to the first is more than noise), rounds, seconds (spent on it),
        train_seconds (what training it would take), reason (why it has no score), file (if saved); with several metrics
        also each one's mean as `score/NAME`. `frame.attrs` holds `left_out` (operators that do not fit, with reasons),
        `seconds` in all, `metrics` (their definitions) and `budget`.

    Raises:
        ConfigError: a wrong value, or no operator fits.
        UndefinedError: the network is of no known family.
        DataError: images and labels that do not go together, or that the network cannot take.
        ScoreError: the network is dead or has diverged.
    """
    start = time.perf_counter()
    chosen = _checked(metrics, training, budget, seconds, save)
    base, shape = architecture_of(model)
    examples = tensors(data)
    subject_of(model, examples, validation=validation).surface(1)  # tells what is wrong with the data once, now
    candidates, left_out = find_candidates(base, shape, budget, tolerance, expansions)
    if not candidates:
        reasons = "; ".join(f"{one['expansion']}: {one['reason']}" for one in left_out)
        raise ConfigError(f"budget = {budget:g}: no expansion of this network has as many parameters: {reasons}")
    judge = _Judge(model, examples, chosen, training or SGD(), validation, seed)
    deadline = math.inf if seconds is None else start + seconds
    _measure(judge, candidates, deadline, progress)
    table = _table(candidates, chosen)
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
    """The metrics, made; every wrong value is told at once."""
    problems: list[str] = []
    chosen = []
    if not isinstance(budget, (int, float)) or not 1 < budget < 1000:
        problems.append(
            f"budget = {budget!r} is not allowed: must be a number > 1 and < 1000, as 2.0 for twice as many"
        )
    if seconds is not None and (not isinstance(seconds, (int, float)) or not seconds > 0):
        problems.append(f"seconds = {seconds!r} is not allowed: must be a number > 0")
    if save not in ("none", "best", "all"):
        problems.append(f"save = {save!r} is not allowed: must be none, best or all")
    given = [metrics] if isinstance(metrics, (str, Metric)) else list(metrics)
    if not given:
        problems.append(f"metrics is empty; allowed: {', '.join(METRICS.names())}")
    for one in given:
        try:
            chosen.append(as_advised(one, training))
        except ConfigError as error:
            problems += error.problems
    if problems:
        raise ConfigError(*problems)
    return chosen


def as_advised(metric: str | Metric, training: Training | None = None) -> Metric:
    """A metric by its name, with the options that it has where the expansion is known; or as it is given."""
    if isinstance(metric, Metric):
        return metric
    kind = METRICS[metric]
    recipe = {"training": training} if training and "training" in kind.model_fields else {}
    return METRICS.create({"name": metric, **kind.where_expanded, **recipe})


def tensors(data: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and labels as two tensors, gathered if `data` is a loader of batches."""
    if isinstance(data, (tuple, list)) and len(data) == 2 and all(hasattr(part, "__len__") for part in data):
        return data[0], data[1]
    try:
        batches = [(torch.as_tensor(images), torch.as_tensor(labels)) for images, labels in data]
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"data must be (images, labels), or a loader that gives such batches, not {type(data).__name__}: {error}"
        ) from None
    if not batches:
        raise ConfigError("data has no batches")
    images, labels = zip(*batches, strict=True)
    return torch.cat(images), torch.cat(labels)


class _Judge:
    """Applies and measures candidates, all on the same network, data and, in one round, images."""

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
        """A network like the model, expanded the candidate's way."""
        if draw not in candidate.ways:
            seed = self.seed + draw
            candidate.ways[draw] = Expander(self.model, candidate.operator, data=self.data, seed=seed)
        return candidate.ways[draw](small)

    def look(self, candidate: Candidate, number: int) -> None:
        """Measure the candidate once more, with the draws of round `number`."""
        start = time.perf_counter()
        try:
            if candidate.model is None:
                candidate.model = self.expanded(candidate, self.model, 0).eval()
            subject = subject_of(
                candidate.model, self.data, seed=self.seed + number, validation=self.validation, base=self.base,
                expand=lambda small, draw: self.expanded(candidate, small, draw and draw + number * APART),
            )  # fmt: skip
            for metric in self.metrics:
                candidate.estimates.setdefault(metric.name, []).append(score(metric, subject))
            if number == 0:
                candidate.train_seconds = self._training_seconds(candidate.model, subject.train)
        except MmbenchError as error:
            candidate.reason = str(error)
        except (RuntimeError, ValueError) as error:  # a network that an operator or metric trips over: the others count
            candidate.reason = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        candidate.seconds += time.perf_counter() - start

    def _training_seconds(self, model: nn.Module, train_split: Any) -> float:
        history = train(copied(model), train_split, self.training, torch.Generator().manual_seed(0), TIMED)
        return history.seconds / min(TIMED, self.training.steps) * self.training.steps


def _measure(judge: _Judge, candidates: list[Candidate], deadline: float, progress: Progress[Any]) -> None:
    """Round after round, on fewer and fewer candidates."""
    alive = candidates
    for number in range(ROUNDS):
        for candidate in progress(alive, f"measuring {len(alive)} candidates" + (" again" if number else "")):
            if time.perf_counter() >= deadline:
                if not candidate.estimates:
                    candidate.reason = "the time was used up"
                continue
            judge.look(candidate, number)
        if time.perf_counter() >= deadline:
            return
        alive = undecided(candidates, judge.metrics)
        if len(alive) < 2:
            return


def _table(candidates: list[Candidate], metrics: list[Metric]) -> pd.DataFrame:
    scored = [one for one in candidates if not one.reason]
    merit, error = merits(scored, metrics) if scored else ([], [])
    order = sorted(range(len(scored)), key=lambda i: (-merit[i], scored[i].parameters, scored[i].operator.name))
    rows = []
    for rank, i in enumerate(order, 1):
        one, gap = scored[i], merit[order[0]] - merit[i]
        means = {
            f"score/{metric.name}": float(np.mean([e.value for e in one.estimates[metric.name]])) for metric in metrics
        }
        single = len(metrics) == 1
        rows.append({
            **_known(one), "rank": rank, "score": means[f"score/{metrics[0].name}"] if single else merit[i],
            "score_stderr": error[i] if math.isfinite(error[i]) else math.nan,
            "decided": rank > 1 and gap > CLEAR * math.hypot(error[order[0]], error[i]),
            "rounds": len(one.estimates[metrics[0].name]), **({} if single else means),
        })  # fmt: skip
    rows += [{**_known(one), "rounds": 0, "decided": False} for one in candidates if one.reason]
    table = pd.DataFrame(rows)
    for name in ("rank", "score", "score_stderr"):
        if name not in table:
            table[name] = math.nan
    columns = ["rank", "expansion", "axis", "factor", "parameters", "score", "score_stderr", "decided", "rounds"]
    columns += [] if len(metrics) == 1 else [f"score/{metric.name}" for metric in metrics]
    columns += ["seconds", "train_seconds", "reason"]
    return table.reindex(columns=columns).astype({"rank": "Int64"})


def _known(one: Candidate) -> dict[str, Any]:
    return {
        "expansion": one.operator.name, "axis": one.axis, "factor": one.factor, "parameters": one.parameters,
        "seconds": one.seconds, "train_seconds": one.train_seconds, "reason": one.reason,
    }  # fmt: skip


def _saved(table: pd.DataFrame, candidates: list[Candidate], folder: str | Path, save: str) -> list[str | None]:
    """Write the best or all scored candidates; the file of each row, or None.

    The configuration that `mmbench.build` makes the network of lies in the file's metadata, under `mmbench`.
    """
    models = {(one.operator.name, one.axis): one.model for one in candidates}
    files: list[str | None] = []
    Path(folder).mkdir(parents=True, exist_ok=True)
    for row in table.itertuples():
        model = models[str(row.expansion), str(row.axis)]
        if row.reason or model is None or (save == "best" and row.rank != 1):
            files.append(None)
            continue
        path = Path(folder) / f"{row.expansion}_{row.axis}.safetensors"
        state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
        save_file(state, path, metadata={"mmbench": json.dumps(configuration(model))})
        files.append(str(path))
    return files
