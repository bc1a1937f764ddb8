"""The rules of the house: who may import whom, and who may print."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import mmbench

PACKAGE = Path(mmbench.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))


def imports(path):
    """All modules that a file imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


FORBIDDEN = {
    "metrics": ("hydra", "omegaconf", "mmbench.store", "mmbench.expansions", "mmbench.run", "mmbench.config"),
    "expansions": ("hydra", "omegaconf", "mmbench.store", "mmbench.metrics", "mmbench.run", "mmbench.config"),
    "landscape": ("hydra", "omegaconf", "mmbench.store", "mmbench.metrics", "mmbench.expansions"),
    "models": ("hydra", "omegaconf", "mmbench.store", "mmbench.metrics", "mmbench.expansions"),
    "data": ("hydra", "omegaconf", "mmbench.store", "mmbench.metrics", "mmbench.expansions", "mmbench.models"),
    "analysis": ("torch", "timm", "hydra", "omegaconf", "mmbench.run", "mmbench.metrics", "mmbench.expansions"),
}


@pytest.mark.parametrize("room", FORBIDDEN)
def test_a_room_knows_only_what_it_may(room):
    files = sorted((PACKAGE / room).glob("*.py"))
    assert files
    for path in files:
        wrong = {name for name in imports(path) if name.startswith(FORBIDDEN[room])}
        assert not wrong, f"{path.name} imports {wrong}"


def calls(path, name):
    return [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call) and ast.unparse(n.func) == name]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_command_line_reads_the_environment_or_prints(path):
    if path.name != "cli.py":
        assert "os.environ" not in path.read_text()
        assert "getenv" not in path.read_text()
    assert not calls(path, "print")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_files_stay_short(path):
    assert len(path.read_text().splitlines()) <= 400


def test_nothing_can_execute_code_when_read():
    for path in FILES:
        assert not imports(path) & {"pickle", "torch.load", "marshal", "shelve"}, path
        assert "torch.load" not in path.read_text(), path
