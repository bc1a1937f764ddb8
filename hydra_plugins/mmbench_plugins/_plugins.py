"""The plugins themselves; they load torch. Hydra does not import files whose names begin with an underscore."""

from __future__ import annotations

from typing import Any

from mmbench.cli.plan import print_plan
from mmbench.errors import ConfigError
from mmbench.launcher.local import options_of, run_sweep
from mmbench.launcher.plugins import BaseLauncher, BaseRetrySweeper, BaseSweeper


class Sweeper(BaseSweeper):
    """`hydra/sweeper=mmbench`."""


class RetrySweeper(BaseRetrySweeper):
    """`hydra/sweeper=retry`, of `mmbench retry`."""


class LocalLauncher(BaseLauncher):
    """`hydra/launcher=local`: run the jobs on this machine."""

    def launch_runs(self, runs: list[Any], settings: Any) -> None:
        """Run them in worker processes."""
        run_sweep(runs, settings, options_of(self.options), self.watchers(settings))


class PlanLauncher(BaseLauncher):
    """`hydra/launcher=plan`: say what the jobs would do."""

    def launch_runs(self, runs: list[Any], settings: Any) -> None:
        """Start nothing; `ConfigError` if the sweeper chooses its runs by the results of others."""
        if self._sweeper not in ("Sweeper", "RetrySweeper", "BasicSweeper"):
            raise ConfigError(f"{self._sweeper} chooses its runs as it goes: mmbench plan cannot know them")
        print_plan(runs, settings)
