from __future__ import annotations

import ast
from pathlib import Path

import pytest

import mmbench as package
from mmbench.cli import main as command_line


@pytest.mark.parametrize(
    "arguments", [(), ("--help",), *((command, "--help") for command in command_line.commands())], ids=" ".join
)
def test_help_answers_without_anything_heavy(in_fresh_python, arguments):
    code = f"""
import sys
from mmbench.cli.main import main
try:
    main({list(arguments)!r})
except SystemExit as end:
    assert not end.code
print(sorted({{"torch", "hydra", "pandas", "timm", "omegaconf", "pydantic", "rich"}} & set(sys.modules)))
"""
    shown = in_fresh_python(code)
    assert "usage: mmbench" in shown
    assert shown.rstrip().splitlines()[-1] == "[]"


def test_help_of_run_lists_every_choice(mmbench_here):
    shown = mmbench_here("run", "--help").stdout
    assert all(name in shown for name in ("net2wider", "hessian_trace", "digits", "resnet", "adamw", "quickstart"))


def test_every_command_is_listed_with_what_it_does(capsys):
    command_line.main(["--help"])
    shown = capsys.readouterr().out
    names = ["run", "plan", "list", "status", "show", "retry", "clean", "verify", "analyze", "compare"]
    names += ["advise", "dashboard", "plane", "track"]
    assert list(command_line.commands()) == names
    assert [line.split()[0] for line in shown.splitlines()[2:16]] == names
    assert "  plan      what a sweep would do: jobs, what is stored" in shown


def test_a_command_is_one_file(monkeypatch, tmp_path, capsys):
    """Its docstring is its help, its `command` is called."""
    (tmp_path / "greet.py").write_text(
        '"""Say hello.\n\nusage: mmbench greet [NAME]\n\nBe polite.\n"""\n\ncommand = lambda names: print(names) or 3\n'
    )
    monkeypatch.setattr(command_line, "__file__", str(tmp_path / "main.py"))
    monkeypatch.setattr("mmbench.cli.__path__", [str(tmp_path)])
    assert list(command_line.commands()) == ["greet"]
    command_line.main(["--help"])
    assert "  greet     say hello\n" in capsys.readouterr().out
    for arguments, status, shown in (
        (["--help"], 0, "usage: mmbench greet [NAME]\n\nBe polite.\n"),
        (["you"], 3, "['you']\n"),
    ):
        with pytest.raises(SystemExit) as ended:
            command_line.main(["greet", *arguments])
        assert (ended.value.code, capsys.readouterr().out) == (status, shown)


def test_the_version_stands_in_one_place(capsys):
    command_line.main(["--version"])
    assert capsys.readouterr().out == f"mmbench {package.__version__}\n"
    project = Path(__file__).parents[2] / "pyproject.toml"
    assert package.__version__ not in project.read_text()


def test_public_names_are_those_of_the_stub():
    """Type checkers read the stub, Python reads the names out of it."""
    stub = ast.parse(Path(package.__file__).with_suffix(".pyi").read_text())
    names = {alias.asname for node in stub.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    assert names == set(package.__all__) and len(names) == 14
    assert all(callable(getattr(package, name)) for name in names)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = package.nothing
