"""Hydra's config source beside `conf`: the sweeps of `sweeps/`, and the components of other packages.

It is registered by mmbench's own commands only, so that no other Hydra application sees it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.core.object_type import ObjectType
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigLoadError, ConfigResult, ConfigSource
from hydra.plugins.search_path_plugin import SearchPathPlugin
from omegaconf import DictConfig, OmegaConf

from mmbench import console
from mmbench.errors import ConfigError
from mmbench.paths import COMPONENT_GROUPS, TOP_KEYS, names_in, root

CONFIG_DIR = ("-cd", "--config-dir")
"""Hydra's flags for a folder of the user's own YAML files."""


class Sources(ConfigSource):
    """Hydra asks it only for what `conf` lacks, so that other packages are imported only when needed."""

    @staticmethod
    def scheme() -> str:
        """The scheme of the search path's entry."""
        return "mmbench"

    def available(self) -> bool:
        """Always."""
        return True

    def is_group(self, config_path: str) -> bool:
        """Whether the path is a config group that this source knows: a folder of sweeps is one, too."""
        group, _, folder = config_path.rstrip("/").partition("/")
        if group == "sweeps":
            return (root() / "sweeps" / folder).is_dir()
        return group in COMPONENT_GROUPS and not folder

    def is_config(self, config_path: str) -> bool:
        """Whether the path, such as `metric/mine` or `sweeps/vit`, is a config of this source."""
        group, _, name = config_path.removesuffix(".yaml").partition("/")
        if group == "sweeps":
            return (root() / "sweeps" / f"{name}.yaml").is_file()
        from mmbench.registry import outside

        return group in COMPONENT_GROUPS and bool(name) and name in outside(group)

    def load_config(self, config_path: str) -> ConfigResult:
        """The sweep, or the options of the component with their defaults.

        Returns:
            The config as Hydra's result type.

        Raises:
            ConfigLoadError: there is no such config.
        """
        if not self.is_config(config_path):
            raise ConfigLoadError(f"Config not found : {config_path}")
        group, _, name = config_path.removesuffix(".yaml").partition("/")
        if group == "sweeps":
            config = OmegaConf.load(root() / "sweeps" / f"{name}.yaml")
            package = "_global_"
        else:
            from mmbench.registry import outside

            config = OmegaConf.create(defaults(group, outside(group)[name]))
            package = None
        return ConfigResult(self.provider, self.full_path(), config, {"package": package})

    def list(self, config_path: str, results_filter: ObjectType | None) -> list[str]:
        """The configs and groups in a group; warns about packages that cannot be loaded."""
        group = config_path.strip("/")
        if not group:
            return [] if results_filter == ObjectType.CONFIG else sorted((*COMPONENT_GROUPS, "sweeps"))
        if not self.is_group(group):
            return []
        if group.partition("/")[0] == "sweeps":
            return _sweeps(root() / group, results_filter)
        if results_filter == ObjectType.GROUP:
            return []
        from mmbench.registry import load_outside, outside

        for problem in load_outside():
            console.warn(problem)
        return sorted(outside(group))


class Folder(FileConfigSource):
    """The folder given with -cd. What is named like a key of the config, such as the store `results`, is no group."""

    @staticmethod
    def scheme() -> str:
        """The scheme of the search path's entry."""
        return "folder"

    def is_group(self, config_path: str) -> bool:
        """Whether the path is a folder of YAML files."""
        return config_path.partition("/")[0] not in TOP_KEYS and super().is_group(config_path)

    def load_config(self, config_path: str) -> ConfigResult:
        """A YAML file of the folder. A sweep is meant for the top of the config, whether or not its header says so.

        Returns:
            The config as Hydra's result type.

        Raises:
            ConfigError: it is not a YAML file of keys and values.
            ConfigLoadError: there is no such file.
            OSError: it cannot be read.
        """
        where = f"{self.path}/{config_path.removesuffix('.yaml')}.yaml"
        try:
            found = super().load_config(config_path)
        except (OSError, ConfigLoadError):
            raise
        except Exception as error:  # the YAML library's own errors, or another encoding
            raise ConfigError(f"{where} is not a YAML file: {error}") from None
        if not isinstance(found.config, DictConfig):
            raise ConfigError(f"{where} holds a list; it must hold keys and their values")
        if config_path.startswith("sweeps/"):
            found.header["package"] = found.header.get("package") or "_global_"
        return found


class SearchPath(SearchPathPlugin):
    """Appends our sources to the search path, after `conf`."""

    folder: ClassVar[str | None] = None
    """The folder given with -cd."""

    def manipulate_search_path(self, search_path: Any) -> None:
        """Called by Hydra."""
        if self.folder is not None:
            search_path.append("command-line", f"folder://{self.folder}")
        search_path.append("mmbench", "mmbench://")


def _sweeps(folder: Path, results_filter: ObjectType | None) -> list[str]:
    """The sweeps and folders in a folder of sweeps."""
    files = [] if results_filter == ObjectType.GROUP else [path.stem for path in folder.glob("*.yaml")]
    folders = [] if results_filter == ObjectType.CONFIG else [path.name for path in folder.iterdir() if path.is_dir()]
    return sorted({*files, *folders})


def register(arguments: Sequence[str] = ()) -> list[str]:
    """Register the sources with Hydra in this process.

    Args:
        arguments: of the command.

    Returns:
        The arguments without -cd and its folder, which is now among the sources.

    Raises:
        ConfigError: there is no such folder.
    """
    for plugin in (Sources, Folder, SearchPath):
        Plugins.instance().register(plugin)
    rest: list[str] = []
    given = iter(arguments)
    SearchPath.folder = None
    for argument in given:
        flag, equals, value = argument.partition("=")
        if flag not in CONFIG_DIR:
            rest.append(argument)
            continue
        folder = Path(value if equals else next(given, "")).expanduser().absolute()
        if not folder.is_dir():
            raise ConfigError(f"{flag} names {str(folder)!r}, which is not a folder; give the one that holds sweeps/")
        SearchPath.folder = str(folder)
    return rest


def own(group: str, folder: Path | None = None) -> list[str]:
    """The choices of a group in the user's folder: by default the one given with -cd, if any."""
    found = folder or (SearchPath.folder and Path(SearchPath.folder))
    return names_in(found / group) if found else []


def defaults(group: str, component: Any) -> dict[str, Any]:
    """The options that a YAML file of `conf` would hold, for a component without one.

    Args:
        group: the config group.
        component: the class.

    Returns:
        Name and options with their defaults; `???` for an option without one. A metric trains with the
        run's recipe.
    """
    required = {key: "???" for key, field in component.model_fields.items() if field.is_required()}
    options = {**component.model_construct().options(), **required}
    if group == "metric":
        options |= {"training": "${training}"} if "training" in options else {}
    return options
