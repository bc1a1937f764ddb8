"""Public functions say what they take and what they return. Ruff's DOC rules check the rest (pyproject.toml)."""

import ast
import inspect
import re
from pathlib import Path

import pytest

import mmbench

PACKAGE = Path(mmbench.__file__).parent


def functions(path):
    """Public functions and methods of a file with three or more named parameters."""
    module = ast.parse(path.read_text())
    classes = (node for node in ast.walk(module) if isinstance(node, ast.ClassDef) and not node.name.startswith("_"))
    for scope in (module, *classes):
        for node in scope.body:
            # The parameters of a test are pytest's fixtures (mmbench.testing).
            public = isinstance(node, ast.FunctionDef) and not node.name.startswith(("_", "test_"))
            if public and len(parameters(node, variable=False)) >= 3:
                yield node


def parameters(node, variable=True):
    """Names of a function's parameters, without self and cls; those of variable length (*, **) only if asked for."""
    arguments = node.args
    listed = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    if variable:
        listed += filter(None, (arguments.vararg, arguments.kwarg))
    return [argument.arg for argument in listed if argument.arg not in ("self", "cls")]


def described(docstring):
    """The names under `Args:`."""
    section = re.search(r"^Args:\n((?:[ \t]+.*\n?|\n)*)", inspect.cleandoc(docstring), flags=re.MULTILINE)
    return set(re.findall(r"^    \*{0,2}(\w+)(?: \([^)]*\))?:", section[1], flags=re.MULTILINE)) if section else set()


def complaints(node):
    """What a function's docstring lacks."""
    docstring = ast.get_docstring(node) or ""
    if missing := [name for name in parameters(node) if name not in described(docstring)]:
        yield f"Args: lacks {', '.join(missing)}"
    returns = node.returns and ast.unparse(node.returns)
    if returns not in (None, "None", "Never", "NoReturn") and not re.search(
        r"^(Returns|Yields):", docstring, re.MULTILINE
    ):
        yield "Returns: is missing"


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_public_functions_describe_their_arguments_and_what_they_return(path):
    lacking = {f"{node.name} (line {node.lineno})": [*complaints(node)] for node in functions(path)}
    assert not {name: problems for name, problems in lacking.items() if problems}


@pytest.mark.parametrize("name", sorted(set(mmbench.__all__)))
def test_public_names_do_so_however_few_parameters_they_have(name):
    value = getattr(mmbench, name)
    assert value.__doc__
    if inspect.isfunction(value):
        (node,) = ast.parse(inspect.getsource(value)).body
        assert not [*complaints(node)]


@pytest.mark.parametrize(
    ("docstring", "lacks"),
    [
        ("Sum.\n\nArgs:\n    a: one.\n    b: two.\n    c: three.\n\nReturns:\n    Their sum.", []),
        ("Sum.\n\nArgs:\n    a: one.\n    b: two,\n        and c: three.\n\nReturns:\n    Sum.", ["Args: lacks c"]),
        ("Sum.\n\nReturns:\n    a, b and c.", ["Args: lacks a, b, c"]),
        ("Sum.\n\nArgs:\n    a: one.\n    b: two.\n    c: three.", ["Returns: is missing"]),
    ],
)
def test_what_is_missing_is_seen(docstring, lacks):
    (node,) = ast.parse(f"def add(a, b, *, c=1) -> int:\n    {docstring!r}").body
    assert [*complaints(node)] == lacks
