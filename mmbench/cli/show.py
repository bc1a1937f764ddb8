"""One run: its whole config, the command that repeats it, its stages, its results or its error.

usage: mmbench show RUN [results=DIR] [format=json]

RUN is the id of a run (as in DIR/records and in records.csv) or its first characters. Its config is kept in the record
with every option. The command repeats the run in the folder in which it was started.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from rich.markup import escape

from mmbench import console, text
from mmbench.cli import sources
from mmbench.cli.compose import composed, own_keys, store_of
from mmbench.cli.output import as_json
from mmbench.errors import ConfigError
from mmbench.launcher.overrides import as_override
from mmbench.launcher.overrides import command as quoted
from mmbench.paths import COMPONENT_GROUPS, choices, root
from mmbench.store.stages import STAGES
from mmbench.store.store import Store, look
from mmbench.store.survey import stages_of

RESULTS = ("base_accuracy", "final_accuracy", "gain", "score", "score_stderr", "parameters", "base_parameters")


def command(arguments: list[str]) -> None:
    """Show a run."""
    own, rest = own_keys(arguments, "format")
    json = as_json(own)
    names = [argument for argument in rest if "=" not in argument and not argument.startswith("-")]
    if len(names) != 1:
        raise ConfigError("name one run: mmbench show RUN, where RUN is the beginning of its id (see DIR/records)")
    store = Store(store_of(composed([argument for argument in rest if argument not in names])))
    shown = describe(store, _chosen(store, names[0]))
    if json:
        console.say_json(shown)
    else:
        _print(shown)


def _chosen(store: Store, name: str) -> str:
    known = {run_id for sweep in store.sweeps() for run_id in sweep["runs"]} | store.record_ids()
    found = sorted(run_id for run_id in known if run_id.startswith(name))
    if len(found) == 1:
        return found[0]
    if not found:
        raise ConfigError(f"no run of {store.root} has an id that begins with {name!r} (it has {len(known)} runs)")
    raise ConfigError(f"{len(found)} runs begin with {name!r}: {text.listed(found, 5)}; give more characters")


def describe(store: Store, run_id: str) -> dict[str, Any]:
    """What the store knows of a run.

    Args:
        store: holds its record, or a sweep that names it.
        run_id: its id.

    Returns:
        JSON data.
    """
    file = look(store.root / "records" / f"{run_id}.json")
    record = file.record or {}
    sweeps = [sweep for sweep in store.sweeps() if run_id in sweep["runs"]]
    config = record.get("config") or next(
        (s["configs"][run_id] for s in sweeps if run_id in s.get("configs", {})), None
    )
    stages = [
        {
            "stage": kind,
            "key": key,
            "stored": store.has_key(kind, key),
            "folder": str(store.root / "stages" / kind / key),
        }
        for kind, key in stages_of(store, record)
    ]
    return {
        "run_id": run_id,
        "run": next((sweep["runs"][run_id] for sweep in sweeps), None),
        "status": record.get("status", "missing" if file.state == "damaged" else file.state),
        "error": record.get("error"),
        "traceback": record.get("traceback"),
        "results": {key: record[key] for key in RESULTS if record.get(key) is not None},
        "versions": {
            key: value for key, value in record.items() if key.endswith("_version") and key != "store_version"
        },
        "folder": next((sweep.get("folder") for sweep in sweeps), None),
        "command": repeating(config, str(store.root)) if config else None,
        "stages": stages,
        "config": config,
    }


def repeating(config: dict[str, Any], results: str) -> str:
    """The command that repeats a run: the choices of the groups, and the options that differ from these."""
    overrides: list[str] = []
    for group in COMPONENT_GROUPS:
        options = dict(config[group])
        name = str(options.pop("name"))
        if options.get("training") == config["training"]:
            options["training"] = "${training}"  # a metric trains with the run's recipe
        alike = [choice for choice in choices(group) if _file(group, choice).get("name") == name] or [name]
        written = [[as_override(group, choice), *_changed(group, options, _file(group, choice))] for choice in alike]
        overrides += next(texts for texts in written if len(texts) == min(map(len, written)))
    return quoted("run", *overrides, seed=config["seed"], results=results)


def _changed(key: str, options: dict[str, Any], plain: dict[str, Any]) -> list[str]:
    """Overrides of the options that are not as in the YAML file of the choice."""
    found = []
    for option, value in options.items():
        theirs = plain.get(option)
        if isinstance(value, dict) and isinstance(theirs, dict) and value.keys() <= theirs.keys():
            found += _changed(f"{key}.{option}", {**dict.fromkeys(theirs), **value}, theirs)
        elif option not in plain:
            found.append("+" + as_override(f"{key}.{option}", value))
        elif value != theirs:
            found.append(as_override(f"{key}.{option}", value))
    return found


def _file(group: str, name: str) -> dict[str, Any]:
    """The options of a choice as its YAML file holds them, or as a component of another package has them."""
    if name in choices(group):
        found = OmegaConf.to_container(OmegaConf.load(root() / "conf" / group / f"{name}.yaml"), resolve=False)
        return {str(key): value for key, value in found.items()} if isinstance(found, dict) else {}
    from mmbench.registry import outside

    component = outside(group).get(name)
    return sources.defaults(group, component) if component else {}


def _print(shown: dict[str, Any]) -> None:
    console.say(f"[bold]{escape(shown['run'] or shown['run_id'])}[/]")
    console.say(f"  run              {shown['run_id']}\n  status           {shown['status']}")
    if shown["error"]:
        console.say(f"  error            {escape(shown['error'])}")
    for key, value in {**shown["results"], **shown["versions"]}.items():
        console.say(f"  {key:16} {escape(str(value))}")
    for stage in shown["stages"]:
        state = "stored" if stage["stored"] else "not stored"
        console.say(f"  {stage['stage']:16} {STAGES[stage['stage']].results}, {state}: {escape(stage['folder'])}")
    if shown["traceback"]:
        console.say(escape(shown["traceback"].rstrip()))
    if shown["config"]:
        console.say(
            f"[bold]config[/]\n{escape(OmegaConf.to_yaml(OmegaConf.create(_literal(shown['config']))).rstrip())}"
        )
    if shown["command"]:
        console.say(f"[bold]repeat it[/] in {escape(str(Path(shown['folder'] or '.')))}\n{escape(shown['command'])}")


def _literal(value: Any) -> Any:
    """The value with `${` escaped, which OmegaConf would take for a reference."""
    if isinstance(value, dict):
        return {key: _literal(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_literal(part) for part in value]
    return value.replace("${", r"\${") if isinstance(value, str) else value
