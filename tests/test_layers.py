"""The rules of the tree: who may import whom, where imports stand, and who may print."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import mmbench

PACKAGE = Path(mmbench.__file__).parent
FILES = sorted(PACKAGE.rglob("*.py"))


def module_of(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES}


def imports(path):
    """All modules that a file imports, also inside functions and for type checking."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


ORDER = [
    ("__main__",),
    ("cli",),
    ("launcher", "testing"),
    ("sweep",),
    ("config",),
    ("tracking", "advice"),
    ("execute",),
    ("run",),
    ("metrics",),
    ("landscape",),
    ("expansions", "training"),
    ("models",),
    ("report",),
    ("data", "records"),
    ("store", "statistics"),
    ("registry",),
    ("arguments",),
    ("paths", "console", "text", "errors"),
]
"""The rooms from the top down. A file imports from rooms below its own, or from its own."""
LEVEL = {room: level for level, rooms in enumerate(ORDER) for room in rooms}


def room_of(module):
    return module.split(".")[1] if "." in module else ""


def test_every_room_has_its_level():
    assert {room_of(module) for module in MODULES} - {""} <= LEVEL.keys()


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_arrows_go_down_only(path):
    room = room_of(module_of(path))
    if room:
        others = {room_of(name) for name in imports(path) if name.startswith("mmbench.")} - {room}
        wrong = {other for other in others if LEVEL.get(other, -1) <= LEVEL[room]}
        assert not wrong, f"{path.name} imports upwards: {wrong}"


def test_there_is_no_import_circle():
    """Not even for type checking, and not through a function's own import."""
    graph = {
        module: {name for name in imports(path) if name in MODULES and name != module and name.count(".") > 0}
        for module, path in MODULES.items()
        if module != "mmbench"
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"circle: {' <- '.join(error.args[1])}")


LAZY = {"cli", "paths", "__init__"}
"""What must answer before torch is loaded."""
OPTIONAL = {"weightwatcher", "ray", "submitit", "pytest"}
"""Extras, which may be missing."""
SLOW = {"timm", "torchvision", "sklearn", "scipy", "wandb", "torch.utils.flop_counter", "safetensors.torch"}
"""Together take longer to load than torch itself; loaded when a network is built, data are read, a metric computes or a
tracker logs, so that `plan` and a wrong config value answer soon. With safetensors comes torch, which those who read
only records do without."""
WITHOUT_TORCH = ("cli.run", "cli.plan", "cli.status", "cli.analyze", "cli.track", "report.analyze", "tracking.worker")
"""What must not load torch in any way: wrong names are reported before it, and records are read without it."""


def lazy_imports(tree):
    """Imports that do not stand at the top of the file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.If | ast.Try | ast.ClassDef):
            for child in ast.walk(node):
                if isinstance(child, ast.Import):
                    yield from (alias.name for alias in child.names)
                elif isinstance(child, ast.ImportFrom):
                    yield child.module or ""


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_stand_at_the_top(path):
    room = room_of(module_of(path)) or "__init__"
    if room not in LAZY:
        lazy = set(lazy_imports(ast.parse(path.read_text())))
        wrong = {name for name in lazy if not {name, name.split(".")[0]} & (OPTIONAL | SLOW)}
        assert not wrong - {"fcntl", "mmbench.models", "mmbench.models._networks"}, f"{path.name}: {wrong}"


def test_what_needs_no_torch_loads_none(in_fresh_python):
    modules = ", ".join(f"mmbench.{name}" for name in WITHOUT_TORCH)
    assert in_fresh_python(f"import sys, {modules}; print('torch' in sys.modules)").strip() == "False"


def test_the_top_floor_is_small():
    floor = {path.stem for path in PACKAGE.glob("*.py")}
    modules = ["config", "registry", "run", "execute", "sweep", "errors", "paths", "console", "text", "arguments"]
    assert floor == {"__init__", "__main__", *modules}


FORBIDDEN = {
    "metrics": ("hydra", "omegaconf", "mmbench.store", "mmbench.expansions"),
    "expansions": ("hydra", "omegaconf", "mmbench.store"),
    "landscape": ("hydra", "omegaconf", "mmbench.store"),
    "models": ("hydra", "omegaconf", "mmbench.store", "mmbench.records", "mmbench.report"),
    "training": ("hydra", "omegaconf", "mmbench.store", "mmbench.records", "mmbench.report"),
    "data": ("hydra", "omegaconf", "mmbench.store"),
    "tracking": ("hydra", "omegaconf", "mmbench.expansions"),
    "records": ("torch", "timm", "hydra", "omegaconf"),
    "statistics": ("torch", "timm", "hydra", "omegaconf", "mmbench.records", "mmbench.store"),
    "report": ("torch", "timm", "hydra", "omegaconf"),
}
"""What a room must not know, although it lies below."""


@pytest.mark.parametrize("room", FORBIDDEN)
def test_a_room_knows_only_what_it_may(room):
    files = sorted((PACKAGE / room).rglob("*.py"))
    assert files
    for path in files:
        wrong = {name for name in imports(path) if f"{name}.".startswith(tuple(f"{x}." for x in FORBIDDEN[room]))}
        assert not wrong, f"{path.name} imports {wrong}"


def calls(path, name):
    return [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, ast.Call) and ast.unparse(n.func) == name]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_command_line_reads_the_environment_or_prints(path):
    if room_of(module_of(path)) not in ("cli", "__main__"):
        assert "os.environ" not in path.read_text()
        assert "getenv" not in path.read_text()
    assert not calls(path, "print")


PRINTING = {"cli": None, "launcher": None, "tracking": {"mmbench.tracking.follow"}}
"""Who may use the console: the commands, and what shows how far a sweep is. None: all modules of the folder."""


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_the_command_line_and_a_sweep_use_the_console(path):
    module = module_of(path)
    if "mmbench.console" in imports(path):
        assert room_of(module) in PRINTING, f"{module} imports mmbench.console"
        assert PRINTING[room_of(module)] is None or module in PRINTING[room_of(module)]


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
    # A worker process and its parent speak to each other through a pipe of their own, as `multiprocessing` does.
    allowed = {"imports pickle"} if path == PACKAGE / "store" / "child.py" else set()
    assert set(running_code(ast.parse(path.read_text()))) <= allowed


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
