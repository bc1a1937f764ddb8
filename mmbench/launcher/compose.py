"""The config of each job of a sweep, composed by Hydra once per choice instead of once per job.

Hydra takes about 50 ms to compose a config. The jobs of a sweep are combinations of few group choices, and a choice of
one group does not change the other groups; so each choice is composed once and the jobs are assembled from the parts.
If a choice does change other groups, Hydra composes the combination.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Container, Mapping, Sequence
from functools import lru_cache
from itertools import chain, product
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf

from mmbench.config import GROUPS
from mmbench.errors import ConfigError
from mmbench.expansions.base import EXPANSIONS
from mmbench.launcher.overrides import written_out
from mmbench.registry import unknown_name

Config = dict[str, Any]
Rule = dict[str, list[Any]]
"""The values by key; a matching job has one of them for each key."""
ONE_VALUE = ("sweeps", "tracker", "results", "device", "threads")
"""Keys that have one value for the whole sweep."""
NOTHING = object()
"""The value of a key that is not there."""
MOST_LOOKUPS = 8
"""The longest chain of references; a longer one is taken to be circular."""


class Composer:
    """Composes jobs from lists of Hydra overrides such as `model=mlp` or `training.steps=100`."""

    def __init__(self, loader: Any, master: Any) -> None:
        self._loader, self._master = loader, master
        self._parser = OverridesParser.create(config_loader=loader)
        self._parse: Callable[[str], Override] = lru_cache(maxsize=None)(self._parse_anew)
        self._composed = lru_cache(maxsize=None)(self._compose_by_hydra)
        self._file = lru_cache(maxsize=None)(self._file_anew)
        self._parts = lru_cache(maxsize=None)(self._compose_by_parts)

    def _parse_anew(self, text: str) -> Override:
        # `parse_override` would not know where glob() looks.
        return self._parser.parse_overrides([written_out(text)])[0]

    def jobs(
        self, arguments: Sequence[str], pairs: Sequence[Mapping[str, Any]] = (), typed: Container[str] = ()
    ) -> list[list[str]]:
        """The cartesian product of the arguments' values; if a key is given twice, the later one counts.

        Args:
            arguments: Hydra overrides such as `model=mlp,vit`.
            pairs: further axes of the product, along which several keys change together: `{"model": "mlp,vit",
                "training": "sgd,adamw"}` is mlp with sgd, and vit with adamw.
            typed: the keys of those arguments that narrow the pairs: `model=vit` leaves vit with adamw.

        Returns:
            A list of simple overrides for each job.

        Raises:
            ConfigError: a value cannot be swept, or the columns of a pair differ in length.
        """
        axes: dict[str, list[tuple[str, ...]]] = {}
        for override in map(self._parse, arguments):
            axes[override.get_key_element()] = [(value,) for value in self._values(override)]
        for pair in pairs:
            columns = [self._values(self._written(key, value), repeats=True) for key, value in pair.items()]
            lengths = {key: len(column) for key, column in zip(pair, columns, strict=True)}
            if len(set(lengths.values())) > 1:
                raise ConfigError(f"hydra.sweeper.pairs: the lists must have one length, and these have {lengths}")
            rows = list(zip(*columns, strict=True))
            for place, key in enumerate(pair):
                if key in typed and key in axes:
                    rows = self._narrowed(rows, place, [value for (value,) in axes.pop(key)])
            if repeated := sorted(pair.keys() & {key for axis in axes for key in axis.split()}):
                raise ConfigError(
                    f"hydra.sweeper.pairs: {', '.join(repeated)} is swept elsewhere, too; give it in one place"
                )
            axes[" ".join(pair)] = rows
        return [list(chain(*job)) for job in product(*axes.values())]

    def _narrowed(self, rows: list[tuple[str, ...]], place: int, wanted: list[str]) -> list[tuple[str, ...]]:
        """The rows of a pair that have one of the wanted values at that place."""
        values = [self._parse(text).value() for text in wanted]
        if kept := [row for row in rows if self._parse(row[place]).value() in values]:
            return kept
        had = ", ".join(dict.fromkeys(row[place] for row in rows))
        raise ConfigError(f"{', '.join(wanted)}: hydra.sweeper.pairs has no such value; choose among {had}")

    def rules(self, exclude: Sequence[Mapping[str, Any]]) -> list[Rule]:
        """The entries of `exclude` as rules; a job that matches one is left out."""
        rules = []
        for entry in exclude:
            rule = {}
            for key, value in entry.items():
                rule[key] = [self._parse(text).value() for text in self._values(self._written(key, value))]
                names = self._loader.get_group_options(key) if key in GROUPS else rule[key]
                if unknown := [name for name in rule[key] if name not in names]:
                    raise ConfigError(unknown_name(f"hydra.sweeper.exclude: {key}", str(unknown[0]), names))
            rules.append(rule)
        return rules

    def _written(self, key: str, value: Any) -> Override:
        """A value from a YAML file, or a list of them, as a command-line override."""
        return self._parse(f"{key}={','.join(map(as_text, _listed(value)))}")

    def _values(self, override: Override, repeats: bool = False) -> list[str]:
        """The simple overrides that an override stands for."""
        key = override.get_key_element()
        if not override.is_sweep_override():
            return [f"{key}={override.get_value_element_as_str()}"]
        if not override.is_discrete_sweep():
            raise ConfigError(f"{override.input_line}: only lists, choice(), range() and glob() can be swept")
        values = [f"{key}={value}" for value in override.sweep_string_iterator()]
        if not values:
            names = self._loader.get_group_options(key)
            raise ConfigError(f"{override.input_line} matches nothing (allowed: {', '.join(names)})")
        distinct = list(dict.fromkeys(values))
        if len(distinct) > 1 and key.split(".")[0] in ONE_VALUE:
            raise ConfigError(f"{override.input_line}: {key} cannot be swept; start one sweep for each value")
        return values if repeats else distinct

    def compose(self, overrides: Sequence[str]) -> tuple[Config, list[str]]:
        """The resolved config of a job.

        An option that the choice does not have (`expansion.budget` with `expansion=none`) is left out, so that one
        sweep can vary the options of some choices; the caller rejects options that no job has. An axis that only other
        operators have (`expansion.axis=hidden` with `expansion=identity_block`) is left out, too.

        Returns:
            The config, and the overrides that were left out.
        """
        parsed = [self._parse(text) for text in overrides]
        if any(o.is_add() or o.is_force_add() or o.is_delete() for o in parsed):
            return self._resolved(self._composed(tuple(overrides))), []
        choices = tuple(text for text, o in zip(overrides, parsed, strict=True) if self._is_choice(o))
        config = dict(self._parts(choices))
        without_meaning = []
        for text, override in zip(overrides, parsed, strict=True):
            if text in choices:
                continue
            key, value = override.key_or_group, override.value()
            if _axis_of_another(config, key, value) or not _set(config, key, value):
                without_meaning.append(text)
        return self._resolved(config), without_meaning

    def _is_choice(self, override: Override) -> bool:
        key = override.key_or_group
        return key in (*GROUPS, "sweeps", "tracker") or "/" in key

    def _compose_by_parts(self, choices: tuple[str, ...]) -> Config:
        groups = {choice.split("=")[0]: choice for choice in choices}
        context = tuple(choice for key, choice in groups.items() if key not in GROUPS)
        plain = self._composed(context)
        config = dict(plain)
        chosen = sorted(groups.keys() & GROUPS.keys())
        without = self._composed((*context, *(f"~{group}" for group in chosen)))  # what other files say of the groups
        for group in chosen:
            name = groups[group].partition("=")[2]
            alone = group not in without and plain[group] == self._file(group, plain[group].get("name", ""))
            if alone and (own := self._file(group, name)):
                config[group] = own
                continue
            changed = self._composed((*context, groups[group]))
            if any(changed[key] != plain.get(key) for key in changed if key != group):
                return self._composed(choices)
            config[group] = changed[group]
        return config

    def _file_anew(self, group: str, name: str) -> Config | None:
        """The YAML file of a choice, if it holds nothing but options: no defaults list, no other package.

        If the default choice of a group is composed to exactly its file, and no other file names the group (one may set
        what the default choice has anyway), every choice of it equals its file, and Hydra, which takes 50 ms for each,
        is not needed.

        Returns:
            The options; None if the file holds more, or if there is none.
        """
        for source in self._loader.get_sources():
            if source.is_config(f"{group}/{name}"):
                loaded = source.load_config(f"{group}/{name}")
                options = OmegaConf.to_container(loaded.config, resolve=False)
                if loaded.defaults_list or any((loaded.header or {}).values()) or not isinstance(options, dict):
                    return None
                return {str(key): value for key, value in options.items()}
        return None

    def _compose_by_hydra(self, overrides: tuple[str, ...]) -> Config:
        config = self._loader.load_sweep_config(self._master, list(overrides))
        container = OmegaConf.to_container(config, resolve=False)
        assert isinstance(container, dict)
        return {str(key): value for key, value in container.items() if key != "hydra"}

    @staticmethod
    def _resolved(config: Config) -> Config:
        with contextlib.suppress(_NotPlainError):  # OmegaConf would be the slowest part
            return {key: _looked_up(value, config) for key, value in config.items()}
        container = OmegaConf.to_container(OmegaConf.create(config), resolve=True)
        assert isinstance(container, dict)
        return {str(key): value for key, value in container.items()}


def matches(rule: Rule, config: Config, overrides: Sequence[str]) -> bool:
    """Whether a job matches a rule: for each of its keys, the job has one of the values.

    Args:
        rule: keys and their values; a group's value is the name of a choice.
        config: of the job.
        overrides: of the job, one `key=value` each.

    Returns:
        Whether the rule matches.
    """
    chosen = dict(override.split("=", 1) for override in overrides) if rule.keys() & GROUPS.keys() else {}
    return all(_at(config, key) in values or chosen.get(key) in values for key, values in rule.items())


def as_text(value: Any) -> str:
    """A YAML value in Hydra's override grammar."""
    return "null" if value is None else str(value)


def known(config: Config, key: str) -> bool:
    """Whether the config has the key."""
    return _at(config, key) is not NOTHING


def _at(config: Config, key: str) -> Any:
    node: Any = config
    for part in key.split("."):
        node = node.get(part, NOTHING) if isinstance(node, dict) else NOTHING
    return node.get("name") if isinstance(node, dict) else node


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else [value]


def _axis_of_another(config: Config, key: str, value: Any) -> bool:
    """Whether the override is an axis that other operators have but the chosen one does not."""
    name = config.get("expansion", {}).get("name")
    if key != "expansion.axis" or name not in EXPANSIONS:
        return False
    return value not in EXPANSIONS[name].axes() and any(value in EXPANSIONS[n].axes() for n in EXPANSIONS.names())


def _set(config: Config, key: str, value: Any) -> bool:
    """Set a dotted key. The dictionaries on its path are copied first, since other jobs share them.

    Returns:
        False if it is an option that this choice of a group does not have.

    Raises:
        ConfigError: there is no such key.
    """
    *path, last = key.split(".")
    node: Any = config
    for part in path:
        node = node.get(part) if isinstance(node, dict) else None
    if isinstance(node, dict) and last in node:
        node = config
        for part in path:
            node[part] = dict(node[part])
            node = node[part]
        node[last] = value
        return True
    if path and path[0] in GROUPS:
        return False
    if path and isinstance(config.get(path[0]), dict):  # the tracker's, which all jobs share
        raise ConfigError(unknown_name(f"option {key}", last, config[path[0]]))
    raise ConfigError(unknown_name("config key", key, config.keys()))


class _NotPlainError(Exception):
    """An interpolation other than the name of a node."""


def _looked_up(value: Any, config: Config, depth: int = 0) -> Any:
    """A value with every `${name.of.node}` replaced by that node of the config."""
    if isinstance(value, dict):
        return {key: _looked_up(part, config, depth) for key, part in value.items()}
    if isinstance(value, list):
        return [_looked_up(part, config, depth) for part in value]
    if not isinstance(value, str) or ("${" not in value and value != "???"):
        return value
    name = re.fullmatch(r"\$\{(\w+(?:\.\w+)*)\}", value)
    if name is None or depth > MOST_LOOKUPS:
        raise _NotPlainError
    node: Any = config
    for part in name[1].split("."):
        if not isinstance(node, dict) or part not in node:
            raise _NotPlainError
        node = node[part]
    return _looked_up(node, config, depth + 1)
