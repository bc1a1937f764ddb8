"""mmbench's launchers and sweeper, where Hydra looks for plugins; the work is done in `mmbench.launcher`.

Hydra instantiates plugins by class path, and only from the namespace package `hydra_plugins`; that is why this module
exists, and why these four lines of configuration name classes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore

from mmbench.launcher.plugins import BaseLauncher, BaseSweeper


class Sweeper(BaseSweeper):
    """`hydra/sweeper=mmbench`."""


class LocalLauncher(BaseLauncher):
    """`hydra/launcher=local`: run the jobs on this machine."""

    def launch_runs(self, runs: list[Any], settings: Any) -> None:
        """Run them in worker processes."""
        from mmbench.launcher.local import run_sweep

        run_sweep(runs, settings, self.slots)


class PlanLauncher(BaseLauncher):
    """`hydra/launcher=plan`: say what the jobs would do."""

    def launch_runs(self, runs: list[Any], settings: Any) -> None:
        """Start nothing."""
        from mmbench.launcher.plan import print_plan

        print_plan(runs, settings)


@dataclass
class SweeperConfig:
    """Options of the sweeper."""

    _target_: str = "hydra_plugins.mmbench_plugins.Sweeper"
    params: dict[str, Any] = field(default_factory=dict)


@dataclass
class LocalConfig:
    """Options of the local launcher."""

    _target_: str = "hydra_plugins.mmbench_plugins.LocalLauncher"
    slots: Any = "auto"


@dataclass
class PlanConfig:
    """The plan has no options."""

    _target_: str = "hydra_plugins.mmbench_plugins.PlanLauncher"


_store = ConfigStore.instance()
_store.store(group="hydra/sweeper", name="mmbench", node=SweeperConfig, provider="mmbench")
_store.store(group="hydra/launcher", name="local", node=LocalConfig, provider="mmbench")
_store.store(group="hydra/launcher", name="plan", node=PlanConfig, provider="mmbench")
