"""The trackers by name, with their options. Imports no client, so that a config is checked without one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from mmbench.errors import ConfigError
from mmbench.registry import Component, Registry

FORBIDDEN = "/\\#?%:"
"""Characters that W&B refuses in the name of a project."""


class Tracker(Component):
    """Where finished models are logged; not an input of any stage."""


TRACKERS: Registry[Tracker] = Registry("tracker", "mmbench.tracking.options")


@TRACKERS.register("none")
class NoTracker(Tracker):
    """Nowhere."""


def _project(name: str) -> str:
    if forbidden := sorted(set(name) & set(FORBIDDEN)):
        raise ValueError(
            f"tracker.project = {name!r} is not allowed: W&B allows no {' '.join(forbidden)} in the name of a project; "
            "set an entity with tracker.entity"
        )
    return name


Tags = Annotated[list[Annotated[str, Field(min_length=1, max_length=64)]], Field(max_length=20)]


@TRACKERS.register("wandb")
class Wandb(Tracker):
    """Weights & Biases."""

    mode: Literal["online", "offline", "disabled"] = "online"
    """`offline` writes files in the store, for `wandb sync`; `online` does so if W&B cannot be reached."""
    project: Annotated[str, AfterValidator(_project)] = Field("mmbench", min_length=1, max_length=128)
    """The W&B project."""
    entity: str | None = Field(None, min_length=1, max_length=128)
    """User or team; by default the account's own."""
    group: str | None = Field(None, min_length=1, max_length=128)
    """The W&B group of the models; by default the sweep's name."""
    tags: Tags = Field(default_factory=list)
    """Tags beside the model, the data set and the operator."""
    time_limit: float = Field(60.0, ge=1, le=3600)
    """Seconds that the client may take for one model, before W&B counts as unreachable."""

    @property
    def target(self) -> list[str | None]:
        """The project and entity to log to."""
        return [self.project, self.entity]


def tracker_of(config: Mapping[str, Any]) -> Tracker:
    """The tracker that a composed config names; `ConfigError` if it names none."""
    options = config.get("tracker")
    if not isinstance(options, Mapping):
        raise ConfigError(f"tracker is missing; choose one of: {', '.join(TRACKERS.names())}")
    return TRACKERS.create(options)


def logging(tracker: Tracker) -> Wandb | None:
    """The tracker if it logs anything."""
    return tracker if isinstance(tracker, Wandb) and tracker.mode != "disabled" else None
