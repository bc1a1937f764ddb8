"""The arguments of `mmbench.advise`, read generously: all wrong ones are told together, before any work."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from rich.progress import track

from mmbench.arguments import plain, real, several, shown, whole
from mmbench.data.base import Progress, silent
from mmbench.errors import ConfigError
from mmbench.expansions.base import EXPANSIONS, Expansion
from mmbench.metrics.base import METRICS, Metric
from mmbench.training.recipes import SGD, TRAININGS, Training

T = TypeVar("T")

DEFAULT = ("injected_randomness",)
"""The metrics that rank by default: what predicted gains best in the sweeps so far; see injected_randomness.py."""
SAVE = ("none", "best", "all")


@dataclass(frozen=True)
class Asked:
    """What was asked for, checked."""

    budget: float
    metrics: list[Metric]
    expansions: list[str] | None
    training: Training
    seconds: float | None
    tolerance: float
    seed: int
    save: str
    folder: Path
    progress: Progress[Any]


def asked(given: Mapping[str, Any]) -> Asked:
    """Check the arguments of `mmbench.advise`.

    Args:
        given: the arguments by name; None stands for the default.

    Returns:
        The arguments, of the types that the rest expects.

    Raises:
        ConfigError: values are not allowed; the message has a line for each.
    """
    problems: list[str] = []

    def read(reader: Callable[[], T], instead: T) -> T:
        try:
            return reader()
        except ConfigError as error:
            problems.extend(error.problems)
            return instead

    def option(name: str, reader: Callable[[Any], Any], default: Any) -> Any:
        return default if given[name] is None else read(lambda: reader(given[name]), default)

    recipe = option("training", _training, None)
    result = Asked(
        budget=read(lambda: _budget(given["budget"]), 2.0),
        metrics=read(lambda: _metrics(DEFAULT if given["metrics"] is None else given["metrics"], recipe), []),
        expansions=option("expansions", _names, None),
        training=recipe or SGD(),
        seconds=option("seconds", _seconds, None),
        tolerance=option("tolerance", _tolerance, 0.05),
        seed=option("seed", lambda seed: whole("seed", seed), 0),
        save=option("save", _save, "none"),
        folder=read(lambda: _folder(given["folder"]), Path()),
        progress=option("progress", _progress, silent),
    )
    if problems:
        raise ConfigError(*problems)
    return result


def metric_for_advice(metric: Any, training: Training | None = None) -> Metric:
    """A metric by its name, or name and options, with the recipe of the training if it trains."""
    if isinstance(metric, str):
        metric = {"name": metric}
    if training and isinstance(metric, dict) and "training" in METRICS[str(metric.get("name"))].model_fields:
        metric = {"training": training, **metric}
    return METRICS.made(metric, Metric, "metrics")  # type: ignore[type-abstract]


def _metrics(given: Any, training: Training | None) -> list[Metric]:
    allowed = f"names of metrics ({', '.join(METRICS.names())}), or metrics"
    things = [given] if isinstance(given, Metric) else several("metrics", given, allowed)
    chosen = [metric_for_advice(thing, training) for thing in things]
    names = [metric.name for metric in chosen]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigError(f"metrics names {', '.join(twice)} more than once; each may rank once")
    return chosen


def _names(given: Any) -> list[str]:
    allowed = "names of operators; None for all of them"
    names: list[Any] = [given] if isinstance(given, Expansion) else several("expansions", given, allowed)
    for name in names:
        if not isinstance(name, str):
            raise ConfigError(
                f"expansions = {shown(name)} is not allowed: must be names of operators, such as net2wider; advise "
                "sets their axes and sizes itself"
            )
    return names


def _training(given: Any) -> Training:
    if isinstance(given, torch.optim.Optimizer):
        name = {"SGD": "sgd", "Adam": "adamw", "AdamW": "adamw"}.get(type(given).__name__)
        lr = given.param_groups[0]["lr"]
        raise ConfigError(
            f"training = {type(given).__name__} (an optimizer of torch) is not allowed: it holds the parameters of "
            "another network, and no length; give a recipe, such as training="
            f'{{"name": "{name or "sgd"}", "lr": {float(lr):g}, "steps": 300}}'
        )
    return TRAININGS.made(given, Training)  # type: ignore[type-abstract]


def _budget(given: Any) -> float:
    allowed = "a number > 1 and < 1000; 2.0 doubles the parameters"
    budget = real("budget", given, 1, 1000, allowed)
    if not 1 < budget < 1000:
        raise ConfigError(f"budget = {shown(given)} is not allowed: must be {allowed}")
    return budget


def _seconds(given: Any) -> float:
    seconds = real("seconds", given, 0, float("inf"), "a number > 0; None for no limit")
    if not seconds:
        raise ConfigError(f"seconds = {shown(given)} is not allowed: must be a number > 0; None for no limit")
    return seconds


def _tolerance(given: Any) -> float:
    try:  # the operators know what they allow
        EXPANSIONS.create({"name": "net2wider", "tolerance": given})
    except ConfigError as error:
        raise ConfigError(f"{str(error).removeprefix('expansion.')}; 0.05 is 5 %") from None
    return float(plain(given))


def _save(given: Any) -> str:
    save = "none" if given is False else given
    if not isinstance(save, str) or save not in SAVE:
        raise ConfigError(f"save = {shown(given)} is not allowed: must be none, best or all")
    return save


def _folder(given: Any) -> Path:
    if not isinstance(given, (str, os.PathLike)):
        raise ConfigError(f"folder = {shown(given)} is not allowed: must be the path of a folder")
    return Path(given)


def _progress(given: Any) -> Any:
    if given is False:
        return silent
    if given is True:
        return partial(track, transient=True)
    if not callable(given):
        raise ConfigError(
            f"progress = {shown(given)} is not allowed: must be True, False, or a function of an iterable and a "
            "description, such as tqdm or rich.progress.track"
        )
    return given
