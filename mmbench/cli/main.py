"""The commands. Nothing heavy is imported here, so that help, completion and errors answer at once."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmbench.cli.help import HELP, USAGE

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the `mmbench` command."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        sys.stdout.write(USAGE)
        return
    command, *rest = arguments
    if command == "--version":
        import mmbench

        sys.stdout.write(f"mmbench {mmbench.__version__}\n")
        return
    sys.exit(_guarded(command, rest))


def _guarded(command: str, arguments: list[str]) -> int:
    """Run a command; a user's mistake becomes a message and status 2, never a stack trace."""
    from mmbench import console
    from mmbench.errors import MmbenchError

    try:
        if command not in COMMANDS:
            from mmbench.registry import unknown_name

            raise MmbenchError(unknown_name("command", command, COMMANDS))
        if "--help" in arguments or "-h" in arguments:
            sys.stdout.write(HELP[command].replace("{groups}", _groups_help()))
            return 0
        return COMMANDS[command](arguments) or 0
    except MmbenchError as error:
        console.error(str(error))
        return 2
    except KeyboardInterrupt:
        console.warn("interrupted; what was finished is stored, and the same command goes on from there")
        return 130


def _groups_help() -> str:
    """The config groups and their choices, from the names of the YAML files."""
    from mmbench.paths import GROUP_NAMES, choices

    return "Groups:\n" + "".join(f"  {group:10} {', '.join(choices(group))}\n" for group in GROUP_NAMES)


def _run(arguments: list[str]) -> int:
    from mmbench.errors import ConfigError

    flags, overrides = _sorted(arguments)
    looks = {"-m", "--multirun", "-c", "--cfg", "-i", "--info", "--hydra-help"} & set(flags)
    if any(o.startswith("sweeps=") for o in overrides) and not looks:
        raise ConfigError("sweeps=NAME makes many runs: add -m to start them, or use mmbench plan to see them")
    return _hydra("run", [*flags, *overrides])


def _plan(arguments: list[str]) -> int:
    flags, overrides = _sorted(arguments)
    kept = [flag for flag in flags if flag not in ("-m", "--multirun")]
    return _hydra("plan", ["--multirun", *kept, *overrides, "hydra/launcher=plan"])


def _sorted(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Flags (each with its value) and overrides; Hydra's parser wants the overrides in one piece."""
    takes_value = {"-c", "--cfg", "-p", "--package", "-cd", "--config-dir", "-cn", "--config-name", "-i", "--info"}
    flags: list[str] = []
    overrides: list[str] = []
    for position, argument in enumerate(arguments):
        follows = position > 0 and arguments[position - 1] in takes_value and "=" not in argument
        (flags if argument.startswith("-") or follows else overrides).append(argument)
    return flags, overrides


def _retry(arguments: list[str]) -> int:
    flags, overrides = _sorted(arguments)
    kept = [flag for flag in flags if flag not in ("-m", "--multirun")]
    return _hydra("retry", ["--multirun", *kept, *overrides, "hydra/sweeper=retry"])


def _status(arguments: list[str]) -> None:
    from mmbench.cli.status import print_status

    own, rest = _own(arguments, "all")
    print_status(_store(_composed(rest)), everything=_agreed(own, "all"))


def _clean(arguments: list[str]) -> None:
    from mmbench.cli.clean import clean

    own, rest = _own(arguments, "forget", "yes")
    clean(_store(_composed(rest)), own.get("forget"), _agreed(own, "yes"))


def _own(arguments: list[str], *keys: str) -> tuple[dict[str, str], list[str]]:
    """The command's own keys, which are no part of a run's config, and the other arguments."""
    pairs = {argument: argument.partition("=") for argument in arguments}
    own = {key: value for key, equals, value in pairs.values() if equals and key in keys}
    return own, [argument for argument in arguments if pairs[argument][0] not in own]


def _agreed(own: dict[str, str], key: str) -> bool:
    from mmbench.errors import ConfigError

    value = own.get(key, "false").lower()
    if value not in ("true", "false"):
        raise ConfigError(f"{key} = {own[key]!r} is not allowed: must be true or false")
    return value == "true"


def _analyze(arguments: list[str]) -> None:
    from rich.markup import escape

    from mmbench import console

    # A condition is full of signs that Hydra's grammar keeps for itself, and no part of a run's config: it is taken as
    # it stands, so that it needs no quotes but the shell's.
    own, rest = _own(arguments, "where")
    config = _composed(rest)
    stores, tracker = _stores(config), _tracker(config)
    from mmbench.report.analyze import analyze  # what is wrong with the arguments is told before this is loaded
    from mmbench.report.terminal import correlation_table

    with console.err.status("reading the store, correlating, drawing"):
        analysis = analyze(stores, own.get("where"))
    counts = analysis.frame["status"].value_counts()
    console.out.print(correlation_table(analysis.correlations))
    console.say(f"{len(analysis.frame)} runs: {', '.join(f'{n} {status}' for status, n in counts.items()) or 'none'}.")
    _tell_left_out(analysis.frame)
    for sentence in analysis.judgement.remarks:
        console.warn(sentence)
    console.say(f"Report: [bold]{escape(str(analysis.report))}[/]")
    if tracker:
        from mmbench.tracking.commands import show_analysis

        show_analysis(analysis, stores[0], tracker)


def _advise(arguments: list[str]) -> None:
    import mmbench.cli.advise as command
    from mmbench.config import parse

    own, rest = _own(arguments, *command.OWN)
    run, settings = parse(_composed(rest))
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    command.print_advice(run, settings, own, any(argument.startswith(("metric=", "metric.")) for argument in rest))


def _track(arguments: list[str]) -> None:
    from mmbench.tracking.commands import track

    config = _composed(arguments)
    track(_store(config), _tracker(config, needed=True))


def _dashboard(arguments: list[str]) -> None:
    from mmbench.tracking.commands import dashboard

    config = _composed(arguments)
    dashboard(_store(config), _tracker(config, needed=True))


def _tell_left_out(frame: pd.DataFrame) -> None:
    """Say what is not in the frame, or is not what it seems."""
    from mmbench import console
    from mmbench.statistics.configurations import mixed

    attrs = frame.attrs
    if attrs["filtered"]:
        console.warn(f"{attrs['filtered']} runs are left out by where={attrs['where']}")
    for path in attrs["damaged"]:
        console.warn(f"{path} is damaged and was left out; run its sweep again")
    if older := attrs["other_versions"]:
        versions = ", ".join(sorted({record["version"] for record in older}))
        console.warn(
            f"{len(older)} records of version {versions} of the store are left out, the first {older[0]['path']}; "
            "run their sweep again"
        )
    for metric in mixed(frame):
        console.warn(f"{metric} has several scores for one configuration and seed; they are averaged")


COMMANDS: dict[str, Callable[[list[str]], int | None]] = {
    "run": _run,
    "plan": _plan,
    "status": _status,
    "retry": _retry,
    "clean": _clean,
    "analyze": _analyze,
    "advise": _advise,
    "track": _track,
    "dashboard": _dashboard,
}


def _store(config: Any) -> Path:
    """The one store that a config names."""
    from mmbench.errors import ConfigError

    stores = _stores(config)
    if len(stores) > 1:
        raise ConfigError(f"results names {len(stores)} folders; this command takes one")
    return stores[0]


def _stores(config: Any) -> list[Path]:
    """The stores that a config names: results=DIR or results=[DIR,DIR]."""
    from mmbench.config import Settings
    from mmbench.errors import ConfigError, StoreError
    from mmbench.registry import checked

    named = config["results"] if isinstance(config["results"], list) else [config["results"]]
    stores = [Path(checked(Settings, {"results": name}, "").results) for name in named]
    if not stores:
        raise ConfigError("results is an empty list; name the folders, as in results=[first,second]")
    for store in stores:
        if not store.is_dir():
            raise StoreError(
                f"results = {str(store)!r} is no folder; run a sweep first, or name its folder with results=DIR"
            )
    return stores


def _tracker(config: Any, needed: bool = False) -> Any:
    """The W&B tracker of a config, or None if it has nothing to do; `ConfigError` if it is needed."""
    from mmbench.config import tracker_of
    from mmbench.errors import ConfigError
    from mmbench.tracking.options import logging

    tracker = tracker_of(config)
    found = logging(tracker)
    if needed and found is None:
        what = "tracker.mode = 'disabled'" if tracker.name == "wandb" else f"tracker = {tracker.name!r}"
        raise ConfigError(f"{what} logs nothing, which this command is for; add tracker=wandb (mode: online, offline)")
    return found


def _composed(arguments: list[str]) -> Any:
    """The config that overrides make, as plain data."""
    from hydra import compose, initialize_config_dir
    from hydra.errors import HydraException
    from omegaconf import OmegaConf

    from mmbench.cli.hydra_errors import translated
    from mmbench.errors import ConfigError
    from mmbench.paths import root

    flags, overrides = _sorted(arguments)
    unknown = [flag for flag in flags if flag not in ("-m", "--multirun")]
    if unknown:
        raise ConfigError(f"{unknown[0]} is no flag of this command; it takes overrides such as results=DIR")
    _register_sweeps()
    try:
        with initialize_config_dir(str(root() / "conf"), **_version_base()):
            return OmegaConf.to_container(compose("config", overrides), resolve=True)
    except HydraException as error:
        raise translated(error, arguments) from None


def _hydra(command: str, arguments: list[str]) -> int:
    """Hand over to Hydra, which composes the config and calls the sweeper or `_task`."""
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from mmbench.cli.hydra_errors import translated
    from mmbench.paths import root

    _register_sweeps()
    if {"-m", "--multirun"} & set(arguments):
        arguments = [_per_job(argument) for argument in arguments]
    sys.argv = [f"mmbench {command}", *arguments]
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # spinning threads of several workers starve each other
    # What cuBLAS needs for deterministic=true; read when a process first uses the GPU, before which workers are born.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises, and the message is written here
    try:
        hydra.main(config_path=str(root() / "conf"), config_name="config", **_version_base())(_task)()
    except (HydraException, OmegaConfBaseException) as error:
        raise translated(error, arguments) from None
    for failure in _failures:
        if failure is not None:
            raise failure
    return 1 if _failures else 0


def _per_job(argument: str) -> str:
    """An option of a group as a sweep over its one value (given twice), so that Hydra leaves it to the sweeper.

    Hydra would set it in the default choice of the group, which may not have it: `model=resnet,vit model.heads=4`.
    """
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    from mmbench.paths import GROUP_NAMES

    key, equals, value = argument.partition("=")
    if not equals or key.split(".")[0] not in GROUP_NAMES or "." not in key:
        return argument
    try:
        swept = OverridesParser.create().parse_override(argument).is_sweep_override()
    except HydraException:
        return argument  # Hydra tells what is wrong with it
    return argument if swept else f"{key}={value},{value}"


_failures: list[Exception | None] = []
"""What went wrong in the runs of this process; None where the run has already told."""


def _task(config: Any) -> None:
    """One run, in this process; with a `job`, the runs of one job of a sweep (see `mmbench.launcher.cluster`)."""
    from omegaconf import OmegaConf

    from mmbench.config import parse
    from mmbench.errors import MmbenchError
    from mmbench.launcher.single import run_one

    container = OmegaConf.to_container(config, resolve=True)
    assert isinstance(container, dict)
    if "job" in container:
        return _job(container)
    try:
        if not run_one(*parse({str(key): value for key, value in container.items()})):
            _failures.append(None)
    except MmbenchError as error:
        # Raised through Hydra, it would end a sweep, and be announced by a line of Hydra's before the message.
        _failures.append(error)


def _job(container: dict[Any, Any]) -> None:
    """One job of a sweep, perhaps on another machine; its error goes to the job's log and to who launched it."""
    from mmbench import console
    from mmbench.config import Settings, resolve_device
    from mmbench.errors import MmbenchError
    from mmbench.launcher.cluster import run_job
    from mmbench.registry import checked

    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        settings = checked(Settings, {key: container[key] for key in Settings.model_fields if key != "tracker"}, "")
        resolve_device(settings.device)
        run_job(str(container["job"]), settings)
    except MmbenchError as error:
        console.error(str(error))
        raise


def _version_base() -> dict[str, str]:
    """Hydra 1.3 wants to be told to behave like itself; Hydra 1.4 warns if it is told anything."""
    import hydra

    return {"version_base": "1.3"} if hydra.__version__.startswith("1.3.") else {}


def _register_sweeps() -> None:
    """Make the files of `sweeps/` the config group `sweeps`."""
    from hydra.core.config_store import ConfigStore
    from omegaconf import OmegaConf

    from mmbench.paths import choices, root

    for name in choices("sweeps"):
        node = OmegaConf.load(root() / "sweeps" / f"{name}.yaml")
        ConfigStore.instance().store(group="sweeps", name=name, node=node, package="_global_", provider="mmbench")
