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
    "tracking": ("torch", "timm", "hydra", "omegaconf", "mmbench.launcher", "mmbench.expansions"),
    "analysis": ("torch", "timm", "hydra", "omegaconf", "mmbench.run", "mmbench.metrics", "mmbench.expansions"),
}


@pytest.mark.parametrize("room", FORBIDDEN)
def test_a_room_knows_only_what_it_may(room):
    files = sorted((PACKAGE / room).rglob("*.py"))
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


RUNS_CODE = {
    *("pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "code", "runpy"),
    *("hydra.utils", "hydra.utils.instantiate", "hydra.utils.call", "yaml"),
}


def running_code(tree):
    """The places where a module might run what it reads."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module]
            yield from (f"imports {module}" for module in modules if module in RUNS_CODE)
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            if called in ("eval", "exec", "compile", "__import__") or called.split(".")[-1] in (
                "instantiate",
                "read_pickle",
            ):
                yield f"calls {called}"
            if called == "torch.load" and options.get("weights_only") != "True":
                yield "calls torch.load without weights_only=True"
            if options.get("allow_pickle", "False") != "False":
                yield f"calls {called} with allow_pickle"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_can_execute_code_when_read(path):
    assert not list(running_code(ast.parse(path.read_text())))


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from hydra.utils import instantiate",
        "import yaml",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "numpy.load(path, allow_pickle=True)",
        "eval(text)",
        "hydra.utils.instantiate(config)",
    ],
)
def test_what_could_execute_code_is_seen(code):
    assert list(running_code(ast.parse(code)))
    assert not list(running_code(ast.parse("torch.load(path, weights_only=True); model.eval()")))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_nothing_asks_for_the_time_of_day(path):
    """It may jump; `time.perf_counter` and `time.monotonic` do not."""
    assert not imports(path) & {"datetime"}
    assert not [*calls(path, "time.time"), *calls(path, "time.time_ns"), *calls(path, "time.localtime")]
