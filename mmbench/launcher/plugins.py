"""Plugins for Hydra: a sweeper that checks every job before the first starts, and the base class of our launchers."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from omegaconf import OmegaConf, open_dict, read_write

from mmbench import console
from mmbench.config import GROUPS, Settings, parse
from mmbench.errors import ConfigError, MmbenchError
from mmbench.expansions.base import EXPANSIONS
from mmbench.launcher.cluster import run_elsewhere
from mmbench.launcher.compose import Composer, as_text, known, matches
from mmbench.launcher.pool import Watcher
from mmbench.launcher.retry import failed
from mmbench.registry import elsewhere, unknown_name
from mmbench.run import Run
from mmbench.store.store import Store
from mmbench.tracking.options import Wandb


class BaseSweeper(Sweeper):
    """The cartesian product of `hydra.sweeper.params` and the command line's overrides, checked and without repeats."""

    def __init__(
        self,
        params: dict[str, Any] | None = None,
        pairs: list[dict[str, Any]] | None = None,
        exclude: list[dict[str, Any]] | None = None,
    ) -> None:
        """What to sweep.

        Args:
            params: values by key (`"mlp,vit"`, `range(3)`, `glob(*)`); all their combinations are run.
            pairs: keys whose values change together, first with first, as one more axis of the product.
            exclude: a value or several by key; combinations that match all keys of one entry are left out.
        """
        self.params, self.pairs, self.exclude = params or {}, pairs or [], exclude or []

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        """Called by Hydra.

        Args:
            hydra_context: holds the config loader.
            task_function: what Hydra would call for each job.
            config: of the multirun.
        """
        self.config, self.hydra_context = config, hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        """Launch the jobs. Before the first starts, a `ConfigError` lists the mistakes of all of them."""
        runs, settings = self._runs(arguments)
        if not runs:
            return None
        settings = self._with_group(settings)
        if isinstance(self.launcher, BaseLauncher):  # ours take the runs as they are
            return self.launcher.launch_runs(runs, settings)
        return run_elsewhere(self.launcher, runs, settings)

    def _with_group(self, settings: Settings) -> Settings:
        """The settings with the name in `sweeps=NAME` as the W&B group, unless another was given."""
        name = self.config.hydra.runtime.choices.get("sweeps")
        if name is None or not isinstance(settings.tracker, Wandb) or settings.tracker.group:
            return settings
        return settings.model_copy(update={"tracker": settings.tracker.model_copy(update={"group": str(name)})})

    def _runs(self, arguments: list[str]) -> tuple[list[Run], Settings]:
        """All runs, without repeats."""
        composer = Composer(self.hydra_context.config_loader, self.config)
        overrides = [*_written(self.params), *arguments]
        pairs, rules = _mappings("pairs", self.pairs), composer.rules(_mappings("exclude", self.exclude))
        typed = {argument.partition("=")[0].lstrip("+") for argument in arguments}
        local = isinstance(self.launcher, BaseLauncher)
        distinct: dict[str, Run] = {}
        problems: list[str] = []
        jobs = composer.jobs(overrides, pairs, typed)
        left_out = 0
        unused = {override.split("=")[0] for job in jobs for override in job}
        unknown = {key for rule in rules for key in rule}
        used: set[int] = set()
        for job in jobs:
            config, without_meaning = composer.compose(job)
            unknown -= {key for key in unknown if known(config, key)}
            if matching := {i for i, rule in enumerate(rules) if matches(rule, config, job)}:
                used |= matching
                left_out += 1
                continue
            unused -= {override.split("=")[0] for override in job if override not in without_meaning}
            try:
                run, settings = parse(_without_leftovers(config, typed), local)
            except ConfigError as error:
                problems += error.problems
            else:
                distinct.setdefault(run.run_id, run)
        own = [argument for argument in arguments if argument.startswith("sweeps=")], pairs
        if typed & GROUPS.keys():
            unused -= {key for key in unused - typed if self._has(composer, key, *own)}
        problems = [self._told(problem, typed) for problem in problems]
        problems += [
            f"hydra.sweeper.exclude: no job has the key {k!r}" for k in sorted(unknown) if _group(k) not in typed
        ]
        problems += [_without_meaning(key, config) for key in sorted(unused)] if distinct else []
        if problems:
            raise ConfigError(*problems)
        if not distinct:
            raise ConfigError(f"hydra.sweeper.exclude leaves none of the {len(jobs)} jobs")
        for i, rule in enumerate(rules):
            if i not in used and not typed & GROUPS.keys() & set(map(_group, rule)):
                console.warn(f"hydra.sweeper.exclude: no job matches {self.exclude[i]}")
        if left_out:
            console.say(f"{left_out} of {len(jobs)} combinations are left out by hydra.sweeper.exclude.")
        return list(distinct.values()), settings

    def _has(self, composer: Composer, key: str, context: list[str], pairs: list[dict[str, Any]]) -> bool:
        """Whether a choice that the sweep itself makes has this option of it; then the command line left that out."""
        own = {**self.params, **{name: value for pair in pairs for name, value in pair.items()}}
        jobs = composer.jobs([*context, *_written({name: own[name] for name in (_group(key), key) if name in own})])
        return any(not composer.compose(job)[1] for job in jobs)

    def _told(self, problem: str, typed: set[str]) -> str:
        """A problem, with the sweep named where it sets the key and the user may not know of it."""
        key = problem.partition(" ")[0]
        if key not in self.params or key in typed:
            return problem
        return f"{problem}; the sweep sets it, and {key}=VALUE on the command line replaces that"


def _written(params: Mapping[str, Any]) -> list[str]:
    """Entries of a sweep as overrides."""
    return [f"{key}={as_text(value)}" for key, value in params.items()]


def _group(key: str) -> str:
    return key.partition(".")[0]


def _without_leftovers(config: dict[str, Any], typed: set[str]) -> dict[str, Any]:
    """The config without what the body of a sweep's file sets of choices that the command line has replaced."""
    config = dict(config)
    for group, registry in GROUPS.items():
        options = config.get(group)
        if group in typed and isinstance(options, dict) and options.get("name") in registry:
            fields = {"name", *registry[options["name"]].model_fields}
            config[group] = {k: v for k, v in options.items() if k in fields or f"{group}.{k}" in typed}
    return config


def _mappings(key: str, entries: Any) -> list[dict[str, Any]]:
    """A list of dictionaries, checked; empty ones would match everything."""
    plain = OmegaConf.to_container(OmegaConf.create(entries)) if not isinstance(entries, str) else entries
    if not isinstance(plain, list) or not all(isinstance(entry, dict) and entry for entry in plain):
        raise ConfigError(
            f"hydra.sweeper.{key} = {plain!r} is not allowed: must be a list of entries such as "
            "{model: vit, expansion: zero_pad}"
        )
    return plain


def _without_meaning(key: str, config: dict[str, Any]) -> str:
    """Why no job of the sweep has an option."""
    group, _, option = key.partition(".")
    if option in config[group]:  # an axis
        name = config[group]["name"]
        return f"{key}: no operator of this sweep has this axis ({name} has {', '.join(EXPANSIONS[name].axes())})"
    parent, _, size = option.partition(".")
    if size and isinstance(config[group].get(parent), dict):  # expansion.to.channels
        return unknown_name(key, size, config[group][parent])
    return unknown_name(f"option {key}", option, config[group]) + elsewhere(group, option)


class BaseRetrySweeper(BaseSweeper):
    """Runs the stored runs again that failed and may succeed now, instead of new ones."""

    def _runs(self, arguments: list[str]) -> tuple[list[Run], Settings]:
        composer = Composer(self.hydra_context.config_loader, self.config)
        _, settings = parse(composer.compose(composer.jobs(arguments)[0])[0])
        settings = settings.model_copy(update={"results": str(Path(settings.results).absolute())})
        return failed(settings), settings  # `failed` changes the current folder


class BaseLauncher(Launcher):
    """Hands the runs of a sweep to `launch_runs`; composes them itself for other sweepers."""

    def __init__(self, **options: Any) -> None:
        self.options = options

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        """Called by Hydra.

        Args:
            hydra_context: holds the config loader.
            task_function: what Hydra would call for each job.
            config: of the multirun.
        """
        self.config, self.hydra_context = config, hydra_context

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """Called by other sweepers with one list of overrides per job.

        Returns:
            For each job its run's value of `hydra.launcher.target`, which a sweeper such as Optuna's optimises.

        Raises:
            SystemExit: after Ctrl-C or SIGTERM; under Hydra's basic sweeper also if a run failed.
        """
        composer = Composer(self.hydra_context.config_loader, self.config)
        parsed = [parse(composer.compose(overrides)[0]) for overrides in job_overrides]
        settings = parsed[0][1]
        try:
            self.launch_runs(list({run.run_id: run for run, _ in parsed}.values()), settings)
        except SystemExit as end:
            if end.code != 1 or self._sweeper == "BasicSweeper":  # others may allow for failures
                raise
        store = Store(Path(settings.results), tell=console.warn)
        return [
            self._returned(list(overrides), store.read_record(run.run_id))
            for overrides, (run, _) in zip(job_overrides, parsed, strict=True)
        ]

    @property
    def _sweeper(self) -> str:
        return str(self.config.hydra.sweeper._target_).rpartition(".")[2]

    def _returned(self, overrides: list[str], record: dict[str, Any] | None) -> JobReturn:
        target = self.options.get("target", "gain")
        done = record is not None and record["status"] == "done"
        value: Any
        if record is None or not done:
            value = MmbenchError(f"{' '.join(overrides)}: {record['error'] if record else 'the run has no record'}")
        elif isinstance(record.get(target), (int, float)):
            value = float(record[target])
        else:
            numbers = [name for name, part in record.items() if isinstance(part, (int, float))]
            raise ConfigError(unknown_name("hydra.launcher.target", target, numbers))
        status = JobStatus.COMPLETED if done else JobStatus.FAILED
        return JobReturn(overrides=overrides, _return_value=value, status=status)

    def watchers(self, settings: Settings) -> list[Watcher]:
        """Hydra's job callbacks, if there are any."""
        callbacks = getattr(self.hydra_context, "callbacks", None)
        return [_JobCallbacks(callbacks, self.config, settings)] if callbacks and callbacks.callbacks else []

    @abstractmethod
    def launch_runs(self, runs: list[Run], settings: Settings) -> None:
        """Launch the runs."""


class _JobCallbacks:
    """Calls `on_job_start` and `on_job_end` of `hydra.callbacks` in this process, as the runs begin and end."""

    def __init__(self, callbacks: Any, master: Any, settings: Settings) -> None:
        self._callbacks, self._master, self._settings = callbacks, master, settings
        self._configs: dict[str, Any] = {}

    def started(self, run: Run) -> None:
        config = OmegaConf.create({**run.config, **self._settings.model_dump(exclude={"tracker"})})
        config.hydra = copy.deepcopy(self._master.hydra)
        with read_write(config.hydra), open_dict(config.hydra):
            config.hydra.job.num, config.hydra.job.id = len(self._configs), run.run_id
        self._configs[run.run_id] = config
        self._callbacks.on_job_start(config=config, task_function=None)

    def ended(self, run: Run, record: dict[str, Any]) -> None:
        if run.run_id not in self._configs:  # its base model could not be trained
            self.started(run)
        config = self._configs[run.run_id]
        done = record["status"] == "done"
        returned = JobReturn(
            cfg=OmegaConf.masked_copy(config, [key for key in config if key != "hydra"]),
            hydra_cfg=OmegaConf.create({"hydra": config.hydra}),
            _return_value=None if done else MmbenchError(str(record["error"])),
            status=JobStatus.COMPLETED if done else JobStatus.FAILED,
        )
        self._callbacks.on_job_end(config=config, job_return=returned)
