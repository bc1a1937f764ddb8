"""Tab completion, through a real bash: what Tab leaves on the command line."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

import mmbench
from mmbench.cli.completion import SCRIPTS, candidates
from mmbench.cli.main import commands

# Calls the completion function as readline does, and prints the word that it makes of the last one.
PRESS_TAB = """
eval "$(mmbench -sc install=bash)"
compopt() { :; }
press_tab() {
    COMP_LINE="$1" COMP_POINT=${#1}
    local rest="${1##* }"; local current="${rest##*[=:]}"
    [[ "$rest" == *[=:] ]] && current="${rest: -1}"
    COMPREPLY=()
    _mmbench mmbench "$current" ""
    printf '%s\\n' "> $1" "${COMPREPLY[@]}"
}
"""


@pytest.fixture
def press_tab(tmp_path):
    """Candidates for each line, as bash shows them."""
    if shutil.which("bash") is None:
        pytest.skip("there is no bash")
    command = tmp_path / "bin" / "mmbench"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m mmbench "$@"\n')
    command.chmod(0o755)
    paths = os.pathsep.join([str(command.parent), os.environ["PATH"]])
    package = os.pathsep.join([os.path.dirname(mmbench.__path__[0]), os.environ.get("PYTHONPATH", "")])  # noqa: PTH120

    def pressed(*lines):
        script = PRESS_TAB + "\n".join(f"press_tab '{line}'" for line in lines)
        environment = {**os.environ, "PATH": paths, "PYTHONPATH": package.rstrip(os.pathsep)}
        done = subprocess.run(
            ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600
        )
        assert (done.returncode, done.stderr) == (0, "")
        return [part.rstrip("\n").split("\n")[1:] for part in ("\n" + done.stdout).split("\n> ")[1:]]

    return pressed


def test_bash_completes_commands_groups_choices_and_files(press_tab, tmp_path):
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "mine_too.yaml").write_text("# @package _global_\nseed: 7\n")
    command, group, choice, option, file, own, sweep = press_tab(
        "mmbench ana",
        "mmbench run mod",
        "mmbench run model=ml",
        "mmbench plan model=mlp model.hid",
        "mmbench status results=res",
        "mmbench status a",
        "mmbench run -m -cd . sweeps=mine_",
    )
    assert command == ["analyze"]
    assert group == ["model.", "model="]
    assert choice == ["mlp"], "bash replaces what follows the = only"
    assert option == ["model.hidden."]
    assert file in ([], [""]), "bash knows files itself"
    assert own == ["all="]
    assert sweep == ["mine_too"]


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("mmbench ", list(commands())),
        ("mmbench sta", ["status"]),
        ("/a/b/mmbench  sta", ["status"]),
        ("mmbench --v", ["--version"]),
        ("mmbench nonsense mod", []),
        ("mmbench run --cf", ["--cfg"]),
        ("mmbench run --cfg ", ["job", "hydra", "all"]),
        ("mmbench status --", ["--help"]),
        ("mmbench status all=t", ["all=true"]),
        ("mmbench clean ", ["forget=", "results=", "yes="]),
        ("mmbench run dataset.path=", []),
        ("mmbench run -cd ", []),
        ("mmbench run model=nonsense expansion=net2wider expansion.fac", []),
        ("mmbench run expansion=net2wider expansion.fac", ["expansion.factor="]),
        ("mmbench run -m model=mlp,vit metric=hessian", ["metric=hessian_trace"]),
        ("mmbench track tracker=w", ["tracker=wandb"]),
    ],
)
def test_candidates(line, found):
    assert candidates(line) == found


@pytest.mark.parametrize("shell", SCRIPTS)
@pytest.mark.parametrize("before", [[], ["run"], ["run", "-m"]])
def test_each_shell_gets_a_script_from_whatever_command(mmbench_here, shell, before):
    done = mmbench_here(*before, "-sc", f"install={shell}")
    assert (done.returncode, done.stdout) == (0, SCRIPTS[shell])


@pytest.mark.parametrize("task", [[], ["install=tcsh"], ["install"], ["install=bash", "query=bash"]])
def test_other_tasks_are_refused(mmbench_here, task):
    done = mmbench_here("run", "--shell-completion", *task)
    assert done.returncode == 2
    assert "install=SHELL" in done.stderr
    assert "Traceback" not in done.stderr
