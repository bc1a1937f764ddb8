"""mmbench's launchers and sweepers, where Hydra looks for plugins; the work is done in `mmbench.launcher`.

Hydra instantiates plugins by class path, and only from the namespace package `hydra_plugins`; that is why this module
exists, and why the configuration below names classes. Hydra imports it whatever the command, in every application: so
the classes here load what they need when they are instantiated.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.plugins import launcher, sweeper


def _loaded_when_made(kind: type, name: str) -> type:
    """A plugin class that Hydra can list; to make one is to make an object of the class of that name in `_plugins`."""

    def make(cls: type, *args: Any, **options: Any) -> Any:
        return getattr(import_module(f"{__name__}._plugins"), name)(*args, **options)

    never_called = dict.fromkeys(getattr(kind, "__abstractmethods__", ()))
    return type(name, (kind,), {"__new__": make, "__module__": __name__, **never_called})


Sweeper = _loaded_when_made(sweeper.Sweeper, "Sweeper")
RetrySweeper = _loaded_when_made(sweeper.Sweeper, "RetrySweeper")
LocalLauncher = _loaded_when_made(launcher.Launcher, "LocalLauncher")
PlanLauncher = _loaded_when_made(launcher.Launcher, "PlanLauncher")

_OPTIONS: dict[str, dict[str, Any]] = {
    "hydra/sweeper/mmbench": {"_target_": f"{__name__}.Sweeper", "params": {}, "pairs": [], "exclude": []},
    "hydra/sweeper/retry": {"_target_": f"{__name__}.RetrySweeper"},
    "hydra/launcher/local": {
        "_target_": f"{__name__}.LocalLauncher",
        "slots": "auto",
        "on_error": "continue",
        "retries": 0,
        "time_limit": None,
        "memory_limit": None,
        "target": "gain",
    },
    "hydra/launcher/plan": {"_target_": f"{__name__}.PlanLauncher"},
}
for _path, _node in _OPTIONS.items():
    _group, _, _name = _path.rpartition("/")
    ConfigStore.instance().store(group=_group, name=_name, node=_node, provider="mmbench")
