"""Where the YAML files are, and the choices and options that they offer."""

from __future__ import annotations

from pathlib import Path

COMPONENT_GROUPS = ("model", "dataset", "expansion", "metric", "training")
"""The config groups that a run is composed of; also the kinds of components."""
GROUP_NAMES = (*COMPONENT_GROUPS, "tracker", "sweeps")
"""All config groups."""
TOP_KEYS = ("results", "seed", "device", "threads", "deterministic")
"""The config keys outside the groups."""


def root() -> Path:
    """The folder that holds `conf` and `sweeps`: the package in a wheel, the checkout otherwise."""
    package = Path(__file__).parent
    return package if (package / "conf").is_dir() else package.parent


def at_home(path: str) -> str:
    """A path that may begin with `~`, as it may in a YAML file, with the home folder written out."""
    return str(Path(path).expanduser()) if path.startswith("~") else path


def choices(group: str) -> list[str]:
    """The names that a config group offers: its YAML files, those in a folder as `folder/name`."""
    return names_in(root() / group if group == "sweeps" else root() / "conf" / group)


def names_in(folder: Path) -> list[str]:
    """The YAML files in a folder, as names without suffix; those in a folder of it as `folder/name`."""
    return sorted(path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("*.yaml"))


def options(group: str, arguments: list[str]) -> list[str]:
    """The options of the choice that the arguments name in a group, or of all its choices."""
    from omegaconf import OmegaConf

    chosen = {a.split("=", 1)[1] for a in arguments if a.startswith(f"{group}=")} & set(choices(group))
    files = [root() / "conf" / group / f"{name}.yaml" for name in chosen or choices(group)]
    return sorted({str(key) for file in files for key in OmegaConf.load(file)} - {"name"})
