"""The `mmbench` command: runs the subcommand that was called, shows its help, reports mistakes.

A command is a file of this folder whose docstring has a line `usage: mmbench NAME`: the first line is its entry in the
list of commands, the rest its help. Its function `command(arguments)` does the work. Help is read from the source, so
nothing is imported for it.
"""

from __future__ import annotations

import ast
import gc
import os
import sys
from importlib import import_module
from pathlib import Path

import mmbench
from mmbench.paths import COMPONENT_GROUPS, GROUP_NAMES, choices

ORDER = ("run", "plan", "list", "status", "show", "retry", "clean", "verify", "analyze", "compare")
"""Commands in the order in which they are used; the others follow by name."""
USAGE = """\
usage: mmbench COMMAND [OVERRIDES]

{commands}
Every command takes Hydra overrides, such as results=DIR for the store, and answers --help.
First steps:

  mmbench run                                  a complete small run on digits, some seconds
  mmbench run -m sweeps=quickstart             a sweep, some minutes
  mmbench analyze                              its correlation table and report

Tab completion: eval "$(mmbench -sc install=bash)"; also zsh, fish.
"""


def main(arguments: list[str] | None = None) -> None:
    """Entry point of the `mmbench` command."""
    # Garbage collection would run hundreds of times while torch is loaded, and take a tenth of that time.
    gc.set_threshold(50_000)
    # The processes that this one starts (workers, W&B's, a launcher's) import nothing from the current folder, either.
    os.environ["PYTHONSAFEPATH"] = "1"
    arguments = sys.argv[1:] if arguments is None else arguments
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        sys.stdout.write(usage())
    elif arguments[0] == "--version":
        sys.stdout.write(f"mmbench {mmbench.__version__}\n")
    else:
        sys.exit(_guarded(arguments[0], arguments[1:]))


def commands() -> dict[str, str]:
    """The help of every command by its name, in order; the first line is a summary."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("*.py"))
    names.sort(key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER))
    texts = {name: ast.get_docstring(ast.parse(_source(name))) or "" for name in names}
    return {name: text for name, text in texts.items() if f"usage: mmbench {name}" in text}


def _source(name: str) -> str:
    return Path(__file__).with_name(f"{name}.py").read_text(encoding="utf-8")


def usage() -> str:
    """What `mmbench --help` shows."""
    lines = {name: text.partition("\n")[0].removesuffix(".") for name, text in commands().items()}
    listed = "".join(f"  {name:9} {line[0].lower()}{line[1:]}\n" for name, line in lines.items())
    return USAGE.replace("{commands}", listed)


def _guarded(name: str, arguments: list[str]) -> int:
    """Run a command; a user's mistake becomes a message and status 2, never a stack trace."""
    help_text = commands().get(name)
    if {"-sc", "--shell-completion"} & {name, *arguments}:  # of whatever command: Hydra's help says run
        name, arguments, help_text = "completion", [part for part in (name, *arguments) if part not in commands()], ""
    if help_text is not None and {"-h", "--help"} & set(arguments):
        sys.stdout.write(help_text.partition("\n\n")[2].replace("{groups}", _groups()).rstrip("\n") + "\n")
        return 0
    from mmbench import console
    from mmbench.errors import MmbenchError

    try:
        if help_text is None:
            from mmbench.registry import unknown_name

            raise MmbenchError(unknown_name("command", name, commands()))
        return import_module(f"mmbench.cli.{name}").command(arguments) or 0
    except MmbenchError as error:
        console.error(str(error))
        return 2
    except KeyboardInterrupt:
        console.warn("interrupted; finished results are stored, and the same command goes on from there")
        return 130


def _groups() -> str:
    """The config groups and their choices: the names of the YAML files, and the components of other packages."""
    from importlib.metadata import entry_points

    names = {group: choices(group) for group in GROUP_NAMES}
    text = ""
    if entry_points(group="mmbench.components"):  # the imports below are slow
        from mmbench.registry import load_outside, outside

        for group in COMPONENT_GROUPS:
            names[group] = sorted({*names[group], *outside(group)})
        text = "".join(f"note: {problem}\n" for problem in load_outside())
    return "Groups:\n" + "".join(f"  {group:10} {', '.join(names[group])}\n" for group in GROUP_NAMES) + text
