"""Hydra's errors as mmbench's messages: the key, its value, what is allowed, the closest match."""

from __future__ import annotations

import re
from pathlib import Path

from mmbench.cli.sources import own
from mmbench.errors import ConfigError
from mmbench.paths import COMPONENT_GROUPS, GROUP_NAMES, TOP_KEYS, choices, options, root
from mmbench.registry import elsewhere, outside, unknown_name

EXTRAS = {"submitit_slurm": "slurm", "submitit_local": "slurm", "ray": "ray"}
"""The extra of mmbench that installs each third-party launcher."""


def problems_of(error: Exception, arguments: list[str]) -> list[str]:
    """Turn an error of Hydra into messages for the user.

    Args:
        error: raised by Hydra or inside it.
        arguments: of the command.

    Returns:
        One message per problem, with the key, what is allowed and the closest match.
    """
    cause: BaseException | None = error
    while cause is not None:  # our own error, raised inside Hydra
        if isinstance(cause, ConfigError):
            return cause.problems
        cause = cause.__cause__
    text = str(error)
    if match := re.search(r"Could not (?:find|load) '(hydra/\w+|\w+)/([^']+)'", text):
        if extra := EXTRAS.get(match[2]):
            return [f"{match[1]}={match[2]} needs an extra: pip install 'mmbench[{extra}]'"]
        names = re.findall(r"^\t(\S+)$", text, re.MULTILINE)
        # Hydra leaves out what is in folders of the group.
        unknown = unknown_name(match[1], match[2], {*names, *choices(match[1]), *own(match[1])})
        here = match[2] in own(match[1], Path.cwd())
        return [f"{unknown}; -cd . would find ./{match[1]}/{match[2]}.yaml" if here else unknown]
    if match := re.search(r"Could not override '([\w.@/]+)'", text):
        return [_unknown_key(match[1], arguments)]
    if match := re.search(r"unexpected keyword argument '(\w+)'.*full_key: (hydra\.sweeper)", text, re.DOTALL):
        return [unknown_name(f"option {match[2]}", match[1], ("params", "pairs", "exclude"))]
    override = getattr(error, "override", None)
    if "See https://hydra.cc" in text or override:
        hint = "a value with special characters needs quotes of its own: \"results='my folder'\""
        return [f"{override or ' '.join(arguments)}: {text.splitlines()[0]} ({hint})"]
    cause = error
    while not text.strip() and cause.__cause__ is not None:  # some of Hydra's errors have no text of their own
        cause = cause.__cause__
        text = str(cause)
    return [text.strip() or type(cause).__name__]


def _unknown_key(key: str, arguments: list[str]) -> str:
    """The message for a key that cannot be overridden."""
    group, _, option = key.partition(".")
    if group == "expansion" and option.startswith("to."):
        from omegaconf import OmegaConf

        sizes = OmegaConf.load(root() / "conf" / "expansion" / "net2wider.yaml").to
        return unknown_name(key, option.removeprefix("to."), map(str, sizes))
    if option and group in GROUP_NAMES:
        return unknown_name(f"option {key}", option, _options(group, arguments)) + elsewhere(group, option)
    if key.startswith("hydra.launcher."):
        from mmbench.launcher.pool import Options

        return unknown_name(f"option {key}", key.removeprefix("hydra.launcher."), Options.model_fields)
    return unknown_name("config key", key, [*GROUP_NAMES, *TOP_KEYS])


def _options(group: str, arguments: list[str]) -> list[str]:
    """The options of the choice that the arguments name in a group, or of all its choices."""
    chosen = {value for key, _, value in (argument.partition("=") for argument in arguments) if key == group}
    if group in COMPONENT_GROUPS and chosen - set(choices(group)):
        components = [component for name, component in outside(group).items() if name in chosen]
        if components:
            return sorted({key for component in components for key in component.model_fields})
    return options(group, arguments)
