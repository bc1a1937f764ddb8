"""Hydra's errors in the words of mmbench: the key, what was found, what is allowed, the closest match."""

from __future__ import annotations

import re

from mmbench.errors import ConfigError
from mmbench.paths import COMPONENT_GROUPS, GROUP_NAMES, TOP_KEYS, choices, options
from mmbench.registry import outside, unknown_name

EXTRAS = {"submitit_slurm": "slurm", "submitit_local": "slurm", "ray": "ray"}
"""The extra of mmbench that each launcher of another package comes with."""


def translated(error: Exception, arguments: list[str]) -> Exception:
    """Hydra's error as a message with the key, the allowed names and the closest match.

    Returns:
        A `ConfigError`; our own if one was raised inside Hydra.
    """
    cause: BaseException | None = error
    while cause is not None:  # our own error, raised inside Hydra
        if isinstance(cause, ConfigError):
            return cause
        cause = cause.__cause__
    text = str(error)
    if (match := re.search(r"Could not find '(hydra/\w+)/([^']+)'", text)) and (extra := EXTRAS.get(match[2])):
        return ConfigError(f"{match[1]}={match[2]} needs an extra: pip install 'mmbench[{extra}]'")
    if match := re.search(r"Could not find '(hydra/\w+|\w+)/([^']+)'", text):
        available = re.findall(r"^\t(\S+)$", text, re.MULTILINE)
        return ConfigError(unknown_name(match[1], match[2], available))
    if match := re.search(r"Could not override '([\w.@/]+)'", text):
        group, _, option = match[1].partition(".")
        if group in TOP_KEYS:
            return ConfigError(
                f"{group} cannot be set: a folder {group!r} lies in the folder of -cd, and Hydra takes it for a config "
                "group; keep sweeps/ in a folder of its own, and name that with -cd"
            )
        if option and group in GROUP_NAMES:
            return ConfigError(unknown_name(f"option {match[1]}", option, _options(group, arguments)))
        if match[1].startswith("hydra.launcher."):
            from mmbench.launcher.pool import Options

            option = match[1].removeprefix("hydra.launcher.")
            return ConfigError(unknown_name(f"option {match[1]}", option, Options.model_fields))
        return ConfigError(unknown_name("config key", match[1], [*GROUP_NAMES, *TOP_KEYS]))
    override = getattr(error, "override", None)
    if "See https://hydra.cc" in text or override:
        hint = "a value with special characters needs quotes of its own: \"results='my folder'\""
        return ConfigError(f"{override or ' '.join(arguments)}: {text.splitlines()[0]} ({hint})")
    cause = error
    while not text.strip() and cause.__cause__ is not None:  # some of Hydra's errors have no text of their own
        cause = cause.__cause__
        text = str(cause)
    return ConfigError(text.strip() or type(cause).__name__)


def _options(group: str, arguments: list[str]) -> list[str]:
    """The options of the choice that the arguments make in a group, or of all its choices."""
    chosen = {value for key, _, value in (argument.partition("=") for argument in arguments) if key == group}
    if group in COMPONENT_GROUPS and chosen - set(choices(group)):
        others = [component for name, component in outside(group).items() if name in chosen]
        if others:
            return sorted({key for component in others for key in component.model_fields})
    return options(group, arguments)
