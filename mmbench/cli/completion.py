"""Tab completion of commands, flags, groups, their choices and options, in bash, zsh and fish.

    eval "$(mmbench -sc install=bash)"

The shell calls `mmbench -sc query=bash` with the line up to the cursor in COMP_LINE, and gets one candidate a line.
Hydra's own scripts know no commands: they would ask `mmbench` itself for the choices.
"""

from __future__ import annotations

import os
import re
import sys
from itertools import pairwise

from mmbench.errors import ConfigError

FLAGS = ("-sc", "--shell-completion")
SCRIPTS = {
    "bash": """\
_mmbench() {
    local line="${COMP_LINE:0:COMP_POINT}" word current="$2" IFS=$'\\n'
    word="${line##* }"
    [[ "$current" == [=:] ]] && current=""
    COMPREPLY=($(COMP_LINE="$line" "$1" -sc query=bash 2>/dev/null))
    # bash replaces what follows the last = or : only.
    COMPREPLY=("${COMPREPLY[@]#"${word%"$current"}"}")
    [[ ${#COMPREPLY[@]} == 1 && "${COMPREPLY[0]}" != *[=./] ]] || compopt -o nospace
}
complete -o default -F _mmbench mmbench
""",
    "zsh": """\
_mmbench() {
    local -a found
    found=(${(f)"$(COMP_LINE="${BUFFER[1,CURSOR]}" "${words[1]}" -sc query=zsh 2>/dev/null)"})
    if (( $#found )); then compadd -S '' -- $found; else _files -P "${PREFIX%%=*}="; fi
}
compdef _mmbench mmbench
""",
    "fish": """\
complete -c mmbench -a '(COMP_LINE=(commandline -cp) mmbench -sc query=fish 2>/dev/null)'
""",
}
REMOVED = {"bash": "complete -r mmbench", "zsh": "compdef -d mmbench", "fish": "complete -c mmbench -e"}
VALUES = {"--cfg": ("job", "hydra", "all"), "--info": ("all", "config", "defaults", "defaults-tree", "searchpath")}
VALUES |= {"-c": VALUES["--cfg"], "-i": VALUES["--info"]}
HYDRAS = ("--multirun", "--cfg", "--info", "--package", "--config-dir", "--resolve", "--hydra-help")
"""Flags of the commands that start runs."""


def command(arguments: list[str]) -> None:
    """Print a shell's script, what undoes it, or the candidates for a line.

    Args:
        arguments: of the command line, with one of `FLAGS`.

    Raises:
        ConfigError: there is no such task or shell.
    """
    tasks = [argument for argument in arguments if argument not in (*FLAGS, "-m", "--multirun")]
    task, _, shell = (tasks or [""])[0].partition("=")
    if task not in ("install", "uninstall", "query") or shell not in SCRIPTS or len(tasks) > 1:
        raise ConfigError(
            f"--shell-completion {' '.join(tasks)} is not allowed: must be followed by install=SHELL or "
            f'uninstall=SHELL (shells: {", ".join(SCRIPTS)}), as in eval "$(mmbench -sc install=bash)"'
        )
    if task == "query":
        sys.stdout.writelines(f"{candidate}\n" for candidate in candidates(os.environ.get("COMP_LINE", "")))
    else:
        sys.stdout.write(SCRIPTS[shell] if task == "install" else REMOVED[shell] + "\n")


def candidates(line: str) -> list[str]:
    """What may stand for the last word of a line; nothing for the name of a file, which shells know themselves."""
    from mmbench.cli.main import commands

    _, *words = line.split(" ")
    given, word = [word for word in words[:-1] if word], words[-1] if words else ""
    helps = commands()
    if not given:
        return _starting(word, [*helps, *(["--help", "--version"] if word.startswith("-") else [])])
    if given[0] not in helps:
        return []
    usage = helps[given[0]].partition("usage: ")[2].partition("\n")[0]
    runs = "[OVERRIDES]" in usage
    before = given[-1] if len(given) > 1 else ""
    if word.startswith("-"):
        return _starting(word, ["--help", *(HYDRAS if runs else ())])
    if before in VALUES:
        return _starting(word, VALUES[before])
    if before in ("-cd", "--config-dir") or re.match(r"(results|[\w.]*(path|folder|checkpoint))=", word):
        return []
    own = [f"{key}=" for key in re.findall(r"\b([a-z]\w*)=", usage)]
    found = _starting(word, own)
    if runs or word.partition("=")[0] in ("tracker", *found):
        found += _by_hydra(given[1:], word)
    elif word.endswith("=true"[: len(word.partition("=")[2]) + 1]) and re.search(rf"\b{re.escape(word)}", usage):
        found = [match for match in re.findall(r"\w+=true", usage) if match.startswith(word)]
    return sorted(set(found))


def _starting(word: str, names: object) -> list[str]:
    return [name for name in names if name.startswith(word)]  # type: ignore[attr-defined]


def _by_hydra(given: list[str], word: str) -> list[str]:
    """Groups, their choices, and options of the chosen ones."""
    from hydra import initialize_config_dir
    from hydra._internal.core_plugins.bash_completion import BashCompletion
    from hydra.core.global_hydra import GlobalHydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from mmbench.cli import sources
    from mmbench.cli.compose import MULTIRUN, split, version_base
    from mmbench.paths import root

    flags, overrides = split(given)
    many = ["--multirun"] if set(MULTIRUN) & set(flags) else []
    folders = [value for flag, value in pairwise(flags) if flag in ("-cd", "--config-dir")]
    searched = [f"hydra.searchpath=[{','.join('file://' + os.path.abspath(f) for f in folders)}]"] if folders else []  # noqa: PTH100
    sources.register()
    try:
        with initialize_config_dir(str(root() / "conf"), **version_base()):
            loader = GlobalHydra.instance().config_loader()
            line = " ".join([*many, *searched, *overrides, word])
            return [str(name) for name in BashCompletion(loader)._query("config", line)]
    except (HydraException, OmegaConfBaseException):
        return []  # what stands before is wrong
