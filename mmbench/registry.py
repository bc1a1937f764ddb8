"""Components by name: every model, dataset, expansion, metric and training recipe is a typed, registered class.

A component's fields are its options: typed, with ranges, checked by pydantic when it is made. Every file of a component
package is searched for components, unless its name starts with an underscore; a decorator registers the class:

    @METRICS.register("hessian_trace")
    class HessianTrace(Metric):
        probes: int = Field(32, ge=2)

A package of your own does the same, and names its modules in an entry point:

    [project.entry-points."mmbench.components"]
    mine = "my_package.metrics"

These modules are imported when a name is not one of mmbench's own, or when all names are listed.
"""

from __future__ import annotations

import difflib
import importlib
import pkgutil
import re
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any, ClassVar, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from mmbench.arguments import plain, shown
from mmbench.errors import ConfigError
from mmbench.paths import COMPONENT_GROUPS, choices, root


class Component(BaseModel):
    """A named, immutable set of options; what a run is made of."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )
    name: ClassVar[str]

    def describe(self) -> dict[str, Any]:
        """The component as plain JSON data: its name and all its options. Stage hashes are computed from this."""
        plain = self.model_dump(mode="json")
        parts = {key: value.describe() for key, value in self if isinstance(value, Component)}
        return {"name": self.name, **plain, **parts}

    def options(self) -> dict[str, Any]:
        """Name and every option as plain JSON data, from which `Registry.create` recreates the component."""
        parts = {key: value.options() for key, value in self if isinstance(value, Component)}
        return {"name": self.name, **self.model_dump(mode="json"), **parts}


C = TypeVar("C", bound=Component)

_UNION_MEMBER = re.compile(r"(int|str|float|bool|constrained-\w+|(list|tuple|dict|literal|function-\w+)\[.*\])$")
"""What pydantic adds to the place of a problem when a field may have several types."""
ENTRY_POINTS = "mmbench.components"
"""The entry-point group in which other packages list their component modules."""


class Registry(Generic[C]):
    """The components of one kind, by name."""

    by_kind: ClassVar[dict[str, Registry[Any]]] = {}
    """All registries."""

    def __init__(self, kind: str, package: str) -> None:
        self.kind = kind
        self._package = package
        self._classes: dict[str, type[C]] = {}
        self._discovered = False
        self.by_kind[kind] = self

    def register(self, name: str) -> Callable[[type[C]], type[C]]:
        """Class decorator: register the component under `name`.

        Returns:
            The decorator; it raises `ValueError` if the name is taken.
        """

        def add(cls: type[C]) -> type[C]:
            if not _is_ours(cls):
                self._discover()  # notices a taken name, whatever the order of loading
            if name in self._classes:
                raise ValueError(
                    f"{self.kind} {name!r} is registered twice: in {self._classes[name].__module__} and in "
                    f"{cls.__module__}; choose another name"
                )
            cls.name = name
            self._classes[name] = cls
            return cls

        return add

    def names(self) -> list[str]:
        """All registered names, those of other packages included, sorted."""
        self._discover()
        load_outside()
        return sorted(self._classes)

    def outside(self) -> dict[str, type[C]]:
        """The components that are not part of mmbench, by name."""
        load_outside()
        return {name: cls for name, cls in sorted(self._classes.items()) if not _is_ours(cls)}

    def _discover(self) -> None:
        """Import all files of the package."""
        if not self._discovered:
            for module in self._modules():
                importlib.import_module(module)
            self._discovered = True

    def _modules(self) -> list[str]:
        """The files of the package that may hold components."""
        package = importlib.import_module(self._package)
        files = (module.name for module in pkgutil.iter_modules(getattr(package, "__path__", [])))
        return [f"{self._package}.{name}" for name in files if not name.startswith("_")]

    def __contains__(self, name: object) -> bool:
        """Whether a component has that name. If a file has it, too, only that file is loaded."""
        module = f"{self._package}.{name}"
        if name not in self._classes and module in self._modules():
            importlib.import_module(module)
        if name not in self._classes:
            self._discover()
        return name in self._classes or name in self.names()

    def __getitem__(self, name: str) -> type[C]:
        """The class of that name; an unknown name is a `ConfigError` that lists the known ones."""
        if not isinstance(name, str) or name not in self:
            raise ConfigError(unknown_name(f"{self.kind}.name", str(name), self.names()), *load_outside())
        return self._classes[name]

    def create(self, options: Mapping[str, Any]) -> C:
        """Create a checked component from its `name` and options; `ConfigError` lists every wrong option."""
        if "name" not in options:
            raise ConfigError(f"{self.kind}.name is missing; allowed: {', '.join(self.names())}")
        cls = self[options["name"]]
        return checked(cls, {k: v for k, v in options.items() if k != "name"}, self.kind)

    def made(self, given: Any, base: type[C], argument: str | None = None) -> C:
        """A component from what people give.

        Args:
            given: a component, its name, or a dictionary of its name and options.
            base: the class of all components of this kind.
            argument: the name of the argument, for the error; by default the kind.

        Returns:
            The component.

        Raises:
            ConfigError: it is none of these, or an option is wrong.
        """
        if isinstance(given, base):
            return given
        if isinstance(given, str):
            given = {"name": given}
        if isinstance(given, Mapping):
            return self.create(given)
        kind = base.__name__
        raise ConfigError(
            f"{argument or self.kind} = {shown(given)} is not allowed: must be a name ({', '.join(self.names())}), a "
            f'dictionary of name and options such as {{"name": "{self.names()[0]}"}}, or a component of class {kind}'
        )


def _is_ours(cls: type[Component]) -> bool:
    """Whether a component is part of mmbench."""
    return cls.__module__.partition(".")[0] == __name__.partition(".")[0]


@cache
def load_outside() -> tuple[str, ...]:
    """Import the modules that other packages name in the entry points `mmbench.components`.

    Returns:
        A message for each module that cannot be imported. Only its components are missing.
    """
    return tuple(problem for point in entry_points(group=ENTRY_POINTS) if (problem := _load(point)))


def _load(point: EntryPoint) -> str | None:
    """Import an entry point's module; returns the error message if that fails."""
    try:
        point.load()
    except (Exception, SystemExit) as error:
        package = f" of the package {point.dist.name}" if point.dist else ""
        return (
            f"the components of the entry point {point.name} = {point.value!r}{package} cannot be loaded "
            f"({type(error).__name__}: {error}); fix or uninstall the package"
        )
    return None


def outside(kind: str) -> dict[str, type[Component]]:
    """The components of a kind that are not part of mmbench, by name; loads nothing else."""
    load_outside()
    registry = Registry.by_kind.get(kind)
    return registry.outside() if registry else {}


def checked(cls: type[C], options: Mapping[str, Any], key: str) -> C:
    """Create a component from options.

    Args:
        cls: its class.
        options: name to value.
        key: the config key of the component, for messages; empty at the top of the config.

    Returns:
        The component.

    Raises:
        ConfigError: wrong options; names each key, its value and what is allowed.
    """
    try:
        return cls.model_validate({name: plain(value) for name, value in options.items()})
    except ValidationError as error:
        raise ConfigError(*(_explain(cls, key, problem) for problem in error.errors())) from None


def unknown_name(key: str, name: str, allowed: Iterable[str]) -> str:
    """The message for a name that does not exist.

    Args:
        key: the config key.
        name: its value, the unknown name.
        allowed: the names that exist.

    Returns:
        One sentence with the unknown name, the closest match and the allowed names.
    """
    allowed = sorted(allowed)
    if not allowed:
        return f"{key} = {name!r} is unknown: there is nothing to set here"
    close = difflib.get_close_matches(name, allowed, n=1, cutoff=0.5)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"{key} = {name!r} is unknown{hint} (allowed: {', '.join(allowed)})"


def _explain(cls: type[BaseModel], key: str, problem: Any) -> str:
    """One pydantic error as a sentence with the config key, its value and the allowed range."""
    location = [str(part) for part in problem["loc"] if not _UNION_MEMBER.match(str(part))]
    path = ".".join(part for part in (key, *location) if part)
    if problem["type"] == "extra_forbidden":
        return unknown_name(f"option {path}", location[-1], cls.model_fields) + elsewhere(key, location[0])
    if problem["type"] == "missing" or problem["input"] == "???":  # as a config writes an option without a default
        return f"{path} is missing: {allowed_values(cls, location)}"
    if problem["type"] == "value_error":  # raised by a component's own cross-field check, which names its keys
        return str(problem["ctx"]["error"])
    return f"{path} = {problem['input']!r} is not allowed: must be {allowed_values(cls, location)}"


def elsewhere(group: str, option: str) -> str:
    """Which choices of a config group have an option, as the end of a message: `; dataset=parquet has it`."""
    names = choices(group) if group in COMPONENT_GROUPS else []
    texts = {name: (root() / "conf" / group / f"{name}.yaml").read_text(encoding="utf-8") for name in names}
    having = [name for name, text in texts.items() if re.search(rf"(?m)^{re.escape(option)}:", text)]
    some = " or ".join(f"{group}={name}" for name in having[:3])
    return f"; {some} {'has' if len(having) == 1 else 'have'} it" if having else ""


def allowed_values(cls: type[BaseModel], location: list[str]) -> str:
    """The allowed type and range of an option as text, from its JSON schema."""
    root = cls.model_json_schema()
    schema = root
    for part in location:
        while "$ref" in schema:
            schema = root["$defs"][schema["$ref"].rsplit("/", 1)[-1]]
        if part in schema.get("properties", {}):
            schema = schema["properties"][part]
        elif "items" in schema:
            schema = schema["items"]
    return " or ".join(_schema_text(choice) for choice in schema.get("anyOf", [schema]))


def _schema_text(schema: Mapping[str, Any]) -> str:
    if "enum" in schema or "const" in schema:
        return "one of " + ", ".join(map(str, schema.get("enum", [schema.get("const")])))
    types = {"integer": "an integer", "number": "a number", "boolean": "true or false", "string": "a text"}
    text = types.get(schema.get("type", ""), schema.get("type", "a valid value"))
    if schema.get("type") == "array":
        text = f"a list, each entry {_schema_text(schema['items'])},"
    bounds = {
        "minimum": ">=",
        "exclusiveMinimum": ">",
        "maximum": "<=",
        "exclusiveMaximum": "<",
        "minItems": "of length >=",
        "minLength": "of length >=",
    }
    if "examples" in schema:
        text = f"a text such as {', '.join(schema['examples'])}"
    limits = [f"{sign} {schema[bound]:g}" for bound, sign in bounds.items() if bound in schema]
    return f"{text} {' and '.join(limits)}".strip()
