"""From a composed Hydra config to a checked run: every wrong setting is reported here, before any work starts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Annotated, Any, ClassVar

import torch
from pydantic import AfterValidator, Field

from mmbench.data.base import DATASETS
from mmbench.errors import ConfigError, DataError
from mmbench.expansions.base import EXPANSIONS
from mmbench.metrics.base import METRICS
from mmbench.models.base import MODELS
from mmbench.paths import at_home, choices
from mmbench.registry import Component, Registry, checked, unknown_name
from mmbench.run import Run
from mmbench.tracking.options import NoTracker, Tracker, tracker_of
from mmbench.training.recipes import TRAININGS

GROUPS: dict[str, Registry[Any]] = {
    "model": MODELS,
    "dataset": DATASETS,
    "expansion": EXPANSIONS,
    "metric": METRICS,
    "training": TRAININGS,
}
"""The config groups that a run is composed of."""


class Settings(Component):
    """Settings that are not part of a run's identity: where its results go, and how it is executed."""

    name: ClassVar[str] = "settings"

    results: Annotated[str, AfterValidator(at_home)] = Field("results", min_length=1)
    """The folder of the store; relative to the current directory."""
    device: str = Field("auto", pattern=r"^(auto|cpu|cuda(:\d+)?)$", examples=["auto", "cpu", "cuda", "cuda:1"])
    """`auto` takes a GPU if there is one."""
    threads: int = Field(1, ge=1, le=1024)
    """CPU threads of each process."""
    deterministic: bool = False
    """Bit-identical results on a GPU too, at some cost in speed; results on CPUs always are."""
    tracker: Tracker = NoTracker()
    """Where finished models are logged; no result depends on it."""


class Seed(Component):
    """The seed of a run."""

    name: ClassVar[str] = "seed"

    seed: int = Field(0, ge=0, lt=2**63)
    """Any non-negative integer; 0 is a seed like any other."""


def parse(config: Mapping[str, Any], here: bool = True) -> tuple[Run, Settings]:
    """Turn a composed config into a checked run.

    Args:
        config: the composed config, or a run's own `config`; missing settings get their defaults.
        here: whether this machine computes the run and so must have the device.

    Returns:
        The run and its settings.

    Raises:
        ConfigError: lists everything that is wrong with the config.
    """
    problems: list[str] = []

    def attempt(make: Any, *args: Any) -> Any:
        try:
            return make(*args)
        except (ConfigError, DataError) as error:
            problems.extend(getattr(error, "problems", [str(error)]))
            return None

    known = {*GROUPS, "seed", *Settings.model_fields}
    problems += [unknown_name("config key", str(key), known) for key in config.keys() - known]
    parts = {}
    for group in GROUPS:
        options = config.get(group)
        if not isinstance(options, Mapping):
            problems.append(f"{group} is missing; choose one of: {', '.join(choices(group))}")
        else:
            parts[group] = attempt(_component, group, options)
    seed = attempt(checked, Seed, {"seed": config["seed"]} if "seed" in config else {}, "")
    values = {k: config[k] for k in Settings.model_fields if k in config}
    if "tracker" in values:
        values["tracker"] = attempt(tracker_of, config) or NoTracker()
    settings = attempt(checked, Settings, values, "")
    if here and settings is not None and settings.device not in ("auto", "cpu"):
        attempt(resolve_device, settings.device)
    dataset, training = parts.get("dataset"), parts.get("training")
    size = getattr(dataset, "train_size", None)
    if training is not None and size is not None and training.batch_size > size:
        problems.append(
            f"training.batch_size = {training.batch_size} must not be larger than dataset.train_size = {size}"
        )
    elif training is not None and size is not None:
        attempt(training.in_steps, size)
    if dataset is not None:
        attempt(dataset.shape)  # a missing file is reported now, not in the middle of a sweep
    if problems:
        raise ConfigError(*problems)
    return Run(**parts, seed=seed.seed), settings


def _component(group: str, options: Mapping[str, Any]) -> Any:
    try:
        return _cached_component(group, json.dumps(options))
    except TypeError:  # not a JSON value; `create` reports it
        return GROUPS[group].create(options)


@lru_cache(maxsize=4096)
def _cached_component(group: str, options: str) -> Any:
    """The thousands of runs of a sweep share few components; each is created and checked once."""
    return GROUPS[group].create(json.loads(options))


def prepare(settings: Settings) -> str:
    """Set up torch in this process (the main one or a worker); returns the device to use."""
    torch.set_num_threads(settings.threads)
    torch.use_deterministic_algorithms(settings.deterministic)
    if settings.deterministic:
        torch.backends.cudnn.benchmark = False  # it picks the fastest algorithm, which varies from run to run
    return resolve_device(settings.device)


def resolve_device(device: str) -> str:
    """Resolve `auto` to a device; `ConfigError` if the requested device is not available."""
    if device == "cpu":
        return device
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    available = torch.cuda.device_count() > int(device.partition(":")[2] or 0)
    if not available:
        raise ConfigError(f"device = {device!r} is not available on this machine; use device=auto or device=cpu")
    return device
