"""Composes a config from a command's arguments, or lets Hydra compose it and call the sweeper or the task.

Modules that load torch are imported inside functions, so that a wrong name is reported at once.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

import hydra
from hydra import compose, initialize_config_dir
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from mmbench import console
from mmbench.cli import sources
from mmbench.errors import ConfigError, MmbenchError, StoreError
from mmbench.launcher.overrides import written_out
from mmbench.paths import GROUP_NAMES, root
from mmbench.tracking.options import Wandb, logging, tracker_of

MULTIRUN = ("-m", "--multirun")
"""Hydra's flag for many runs."""
SHOW = ("-c", "--cfg", "-i", "--info", "--hydra-help")
"""Hydra's flags that show something and run nothing."""
WITH_VALUE = ("-c", "--cfg", "-p", "--package", "-cd", "--config-dir", "-cn", "--config-name", "-i", "--info")
"""Hydra's flags that are followed by a value."""


def split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Flags (each with its value) and overrides, as Hydra's parser needs them: contiguous, without `epochs(...)`."""
    flags: list[str] = []
    overrides: list[str] = []
    for position, argument in enumerate(arguments):
        is_value = position > 0 and arguments[position - 1] in WITH_VALUE and "=" not in argument
        if argument.startswith("-") or is_value:
            flags.append(argument)
        else:
            overrides.append(written_out(_at_home(argument)))
    return flags, overrides


def _at_home(override: str) -> str:
    """An override with the home folder written out, as a shell does it: Hydra's grammar does not know `~`."""
    return re.sub(r"(?<=[=,\['\"])~(?=[/,\]'\"]|$)", lambda match: str(Path.home()), override)


def own_keys(arguments: list[str], *keys: str) -> tuple[dict[str, str], list[str]]:
    """The values of the command's own keys, which are not part of a run's config, and the other arguments."""
    parts = {argument: argument.partition("=") for argument in arguments}
    own = {key: value for key, equals, value in parts.values() if equals and key in keys}
    return own, [argument for argument in arguments if parts[argument][0] not in own]


def yes_or_no(own: dict[str, str], key: str) -> bool:
    """The value of a command's own key that is true or false, by default false."""
    value = own.get(key, "false").lower()
    if value not in ("true", "false"):
        raise ConfigError(f"{key} = {own[key]!r} is not allowed: must be true or false")
    return value == "true"


def composed(arguments: list[str]) -> Any:
    """Compose a config from overrides.

    Returns:
        Plain data.

    Raises:
        ConfigError: an unknown flag, or Hydra rejects an override.
    """
    flags, overrides = split(arguments)
    unknown = [flag for flag in flags if flag not in MULTIRUN]
    if unknown:
        raise ConfigError(f"{unknown[0]} is not a flag of this command; it takes overrides such as results=DIR")
    sources.register()
    try:
        with initialize_config_dir(str(root() / "conf"), **version_base()):
            return OmegaConf.to_container(compose("config", overrides), resolve=True)
    except HydraException as error:
        from mmbench.cli.hydra_errors import problems_of

        raise ConfigError(*problems_of(error, arguments)) from None


def store_of(config: Any) -> Path:
    """The one store that a config names; `ConfigError` if it names several."""
    folders = stores_of(config)
    if len(folders) > 1:
        raise ConfigError(f"results names {len(folders)} folders; this command takes one")
    return folders[0]


def stores_of(config: Any) -> list[Path]:
    """The stores that a config names: results=DIR or results=[DIR,DIR].

    Returns:
        Their folders, at least one.

    Raises:
        ConfigError: none is named, or a name is not a text.
        StoreError: a folder is missing.
    """
    names = config["results"] if isinstance(config["results"], list) else [config["results"]]
    if not names:
        raise ConfigError("results is an empty list; name the folders, as in results=[first,second]")
    for name in names:  # the same check as in `mmbench.config`, which loads torch
        if not isinstance(name, str) or not name:
            raise ConfigError(f"results = {name!r} is not allowed: must be a text of length >= 1")
    folders = [Path(name) for name in names]
    for folder in folders:
        if not folder.is_dir():
            raise StoreError(
                f"results = {str(folder)!r} is not a folder; run a sweep first, or name its folder with results=DIR"
            )
    return folders


def needed_tracker(config: Any) -> Wandb:
    """The W&B tracker of a config; `ConfigError` if it logs nothing."""
    tracker = tracker_of(config)
    active = logging(tracker)
    if active is None:
        setting = "tracker.mode = 'disabled'" if tracker.name == "wandb" else f"tracker = {tracker.name!r}"
        raise ConfigError(f"{setting} logs nothing; this command needs tracker=wandb with mode online or offline")
    return active


def hand_over(command: str, arguments: list[str]) -> int:
    """Let Hydra compose the config and call the sweeper or `_task`.

    Args:
        command: the command's name.
        arguments: flags, then overrides.

    Returns:
        The exit status: 1 if a run failed.

    Raises:
        ConfigError: Hydra rejects an argument.
        MmbenchError: the error of a run in this process.
    """
    arguments = sources.register(_shown(arguments))
    ours = {f"hydra/sweeper={name}" for name in ("mmbench", "retry")}
    if set(MULTIRUN) & set(arguments) and not any(a.startswith("hydra/sweeper=") and a not in ours for a in arguments):
        arguments = [_per_job(argument) for argument in arguments]
    sys.argv = [f"mmbench {command}", *arguments]
    set_environment()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises its errors, and the message is printed here
    try:
        hydra.main(config_path=str(root() / "conf"), config_name="config", **version_base())(_task)()
    except (HydraException, OmegaConfBaseException) as error:
        from mmbench.cli.hydra_errors import problems_of

        raise ConfigError(*problems_of(error, arguments)) from None
    for failure in _failures:
        if failure is not None:
            raise failure
    return 1 if _failures else 0


def _shown(arguments: list[str]) -> list[str]:
    """The arguments, checked for Hydra's flags that show something instead; of many runs, those of the first."""
    flags = [flag for flag in split(arguments)[0] if flag.startswith("-")]
    show = [flag for flag in flags if flag in SHOW]
    if len(show) > 1:
        raise ConfigError(f"{' and '.join(show)} exclude each other; give one")
    if "--resolve" in flags and not {"--cfg", "-c"} & set(flags):
        raise ConfigError("--resolve belongs to --cfg, as in --cfg job --resolve")
    if "--experimental-rerun" in flags:
        raise ConfigError("--experimental-rerun is not supported: repeat the command; what is stored is kept")
    if not show or not set(MULTIRUN) & set(flags):
        return arguments
    if show[0] in ("--cfg", "-c"):
        console.warn("of each list of values, the first is shown; --cfg hydra shows those of hydra.sweeper.params")
    return [first for argument in arguments if argument not in MULTIRUN and (first := _first(argument))]


def _first(argument: str) -> str | None:
    """An override with the first of its values; None if it is not a list (`glob`, `interval`)."""
    try:
        override = OverridesParser.create().parse_override(argument)
    except HydraException:
        return argument  # a flag, or a mistake that Hydra reports
    if not override.is_sweep_override():
        return argument
    try:
        return f"{override.get_key_element()}={next(iter(override.sweep_string_iterator()))}"
    except (HydraException, ValueError, StopIteration):
        return None


def set_environment() -> None:
    """Set the environment variables of torch's libraries, for this process and its workers."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads of several workers starve each other
    # cuBLAS needs this for deterministic=true; it is read when a process first uses the GPU.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def many_runs(arguments: list[str], *overrides: str) -> list[str]:
    """The arguments of a multirun, with `overrides` at the end."""
    flags, first = split(arguments)
    return ["--multirun", *(flag for flag in flags if flag not in MULTIRUN), *first, *overrides]


def _per_job(argument: str) -> str:
    """Turn an option of a group into a sweep over its value (given twice), so that Hydra leaves it to the sweeper."""
    # Hydra would set it in the default choice of the group, which may not have it: `model=resnet,vit model.heads=4`.
    key, equals, value = argument.partition("=")
    if not equals or key.split(".")[0] not in GROUP_NAMES or "." not in key:
        return argument
    try:
        swept = OverridesParser.create().parse_override(argument).is_sweep_override()
    except HydraException:
        return argument  # Hydra reports the mistake
    return argument if swept else f"{key}={value},{value}"


_failures: list[Exception | None] = []
"""The errors of the runs of this process; None if the run has already printed its error."""


def _task(config: Any) -> None:
    """One run, in this process; with a `job`, the runs of one job of a sweep (see `mmbench.launcher.cluster`)."""
    from mmbench.config import parse
    from mmbench.launcher.one_run import run_one

    container = OmegaConf.to_container(config, resolve=True)
    assert isinstance(container, dict)
    if "job" in container:
        return _job(container)
    try:
        if not run_one(*parse({str(key): value for key, value in container.items()})):
            _failures.append(None)
    except MmbenchError as error:
        # Raised through Hydra, it would end a sweep, and Hydra would print a line of its own before the message.
        _failures.append(error)


def _job(container: dict[Any, Any]) -> None:
    """One job of a sweep, perhaps on another machine; its error goes to the job's log and to the launcher."""
    from mmbench.config import Settings, resolve_device
    from mmbench.launcher.cluster import run_job
    from mmbench.registry import checked

    set_environment()
    try:
        settings = checked(Settings, {key: container[key] for key in Settings.model_fields if key != "tracker"}, "")
        resolve_device(settings.device)
        run_job(str(container["job"]), settings)
    except MmbenchError as error:
        console.error(str(error))
        raise


def version_base() -> dict[str, str]:
    """Hydra 1.3 warns without `version_base`; Hydra 1.4 warns with it."""
    return {"version_base": "1.3"} if hydra.__version__.startswith("1.3.") else {}
