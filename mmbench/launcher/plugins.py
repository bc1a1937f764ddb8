"""The Hydra side: a sweeper that checks every job before the first starts, and the launchers' common half."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper

from mmbench.config import parse
from mmbench.errors import ConfigError
from mmbench.launcher.compose import Composer
from mmbench.registry import EXPANSIONS, unknown_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mmbench.config import Settings
    from mmbench.run import Run


class BaseSweeper(Sweeper):
    """The cartesian product of `hydra.sweeper.params` and the command line's overrides, checked and without repeats."""

    def __init__(self, params: dict[str, Any] | None = None) -> None:
        self.params = params or {}

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        """Called by Hydra."""
        from hydra.core.plugins import Plugins

        self.config, self.hydra_context = config, hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Launch the jobs; `ConfigError` with everything that is wrong with any of them, before any starts."""
        composer = Composer(self.hydra_context.config_loader, self.config)
        jobs = composer.jobs([*(f"{key}={value}" for key, value in self.params.items()), *arguments])
        here = isinstance(self.launcher, BaseLauncher)
        distinct: dict[str, Run] = {}
        problems: list[str] = []
        never_meant = {override.split("=")[0] for job in jobs for override in job}
        for job in jobs:
            config, without_meaning = composer.compose(job)
            kept = [override for override in job if override not in without_meaning]
            never_meant -= {override.split("=")[0] for override in kept}
            try:
                run, settings = parse(config, here)
            except ConfigError as error:
                problems += error.problems
            else:
                distinct.setdefault(run.run_id, run)
        for key in sorted(never_meant):
            group, _, option = key.partition(".")
            if option in config[group]:  # an axis
                name = config[group]["name"]
                problems.append(f"{key}: no operator here has it ({name} has {', '.join(EXPANSIONS[name].axes())})")
            else:
                problems.append(unknown_name(f"option {key}", option, config[group]))
        if problems:
            raise ConfigError(*problems)
        runs = list(distinct.values())
        if isinstance(self.launcher, BaseLauncher):  # ours take the runs as they are
            return self.launcher.launch_runs(runs, settings)
        from mmbench.launcher.foreign import run_elsewhere

        return run_elsewhere(self.launcher, runs, settings)


class BaseLauncher(Launcher):
    """Hands the runs of a sweep to `launch_runs`; composes them itself where another sweeper is used."""

    def __init__(self, **options: Any) -> None:
        self.options = options

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        """Called by Hydra."""
        self.config, self.hydra_context = config, hydra_context

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[Any]:
        """Called by the sweeper with one list of overrides per job."""
        composer = Composer(self.hydra_context.config_loader, self.config)
        parsed = [parse(composer.compose(overrides)[0]) for overrides in job_overrides]
        self.launch_runs([run for run, _ in parsed], parsed[0][1])
        return []

    @abstractmethod
    def launch_runs(self, runs: list[Run], settings: Settings) -> None:
        """Do something with the runs."""
