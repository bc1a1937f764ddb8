"""mmbench's launchers and sweeper, where Hydra looks for plugins; the work is done in `mmbench.launcher`.

Hydra instantiates plugins by class path, and only from the namespace package `hydra_plugins`; that is why this module
exists, and why the configuration below names classes.
"""

from __future__ import annotations

from typing import Any

from hydra.core.config_store import ConfigStore

from mmbench.launcher.plugins import BaseLauncher, BaseRetrySweeper, BaseSweeper


class Sweeper(BaseSweeper):
    """`hydra/sweeper=mmbench`."""


class RetrySweeper(BaseRetrySweeper):
    """`hydra/sweeper=retry`, of `mmbench retry`."""


class LocalLauncher(BaseLauncher):
    """`hydra/launcher=local`: run the jobs on this machine."""

    def launch_runs(self, runs: list[Any], settings: Any) -> None:
        """Run them in worker processes."""
        from mmbench.launcher.local import options_of, run_sweep

        run_sweep(runs, settings, options_of(self.options))


class PlanLauncher(BaseLauncher):
    """`hydra/launcher=plan`: say what the jobs would do."""

    def launch_runs(self, runs: list[Any], settings: Any) -> None:
        """Start nothing."""
        from mmbench.launcher.plan import print_plan

        print_plan(runs, settings)


_HERE = "hydra_plugins.mmbench_plugins"
_OPTIONS: dict[str, dict[str, Any]] = {
    "hydra/sweeper/mmbench": {"_target_": f"{_HERE}.Sweeper", "params": {}, "pairs": [], "exclude": []},
    "hydra/sweeper/retry": {"_target_": f"{_HERE}.RetrySweeper"},
    "hydra/launcher/local": {
        "_target_": f"{_HERE}.LocalLauncher",
        "slots": "auto",
        "on_error": "continue",
        "retries": 0,
        "time_limit": None,
        "memory_limit": None,
    },
    "hydra/launcher/plan": {"_target_": f"{_HERE}.PlanLauncher"},
}
for _path, _node in _OPTIONS.items():
    _group, _, _name = _path.rpartition("/")
    ConfigStore.instance().store(group=_group, name=_name, node=_node, provider="mmbench")
