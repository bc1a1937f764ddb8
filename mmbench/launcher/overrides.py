"""Overrides such as `metric.after=5epochs`: from what people write to Hydra's grammar, and from values to text."""

from __future__ import annotations

import re
import shlex
from typing import Any

from mmbench.errors import ConfigError
from mmbench.paths import GROUP_NAMES, choices

EPOCHS = r"epochs\(\s*(\d+(?:\.\d+)?(?:\s*,\s*\d+(?:\.\d+)?)*)\s*\)"
"""A list of numbers of epochs."""
PLAIN = r"[A-Za-z0-9_/.@:+-]+(?: [A-Za-z0-9_/.@:+-]+)*"
"""What needs no quotes in Hydra's grammar."""
OTHER_TYPES = r"(?i:null|true|false|nan|[+-]?inf|[+-]?[\d_.]+(e[+-]?\d+)?)"
"""Plain text that Hydra would take for another type."""


def written_out(override: str) -> str:
    """An override in Hydra's grammar, which does not know `epochs(...)`; a group that is set to nothing is refused.

    Args:
        override: such as `metric.after=0,epochs(1,2)`.

    Returns:
        `metric.after=0,1epochs,2epochs`.

    Raises:
        ConfigError: `epochs(...)` holds no numbers, or a group has no choice.
    """
    key, equals, value = override.partition("=")
    if not equals:
        return override
    if (key in GROUP_NAMES or "/" in key) and re.fullmatch(rf"{OTHER_TYPES}|[\[{{].*|", value.strip()):
        allowed = f"choose one of: {', '.join(choices(key))}" if key in GROUP_NAMES else "give a name"
        raise ConfigError(f"{key} = {value.strip()} is not a choice; {allowed}")
    if not key.endswith(".after"):
        return override

    def listed(match: re.Match[str]) -> str:
        return ",".join(f"{number.strip()}epochs" for number in match[1].split(","))

    plain = re.sub(EPOCHS, listed, value)
    if "epochs(" in plain:
        raise ConfigError(
            f"{key.lstrip('+')} = {value} is not allowed: epochs(...) takes numbers of epochs >= 0, such as "
            "epochs(0,1,5)"
        )
    return f"{key}={plain}"


def as_override(key: str, value: Any) -> str:
    """An override that gives the key this value: None, a bool, a number, a text, or lists and dictionaries of them."""
    return f"{key}={_text(value)}"


def command(name: str, *overrides: str, **keys: Any) -> str:
    """A command of mmbench that can be copied into a shell: `mmbench analyze 'results=my folder'`."""
    arguments = [*overrides, *(as_override(key, value) for key, value in keys.items())]
    return shlex.join(["mmbench", *name.split(), *arguments])


def _text(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_text, value))}]"
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_text(part)}" for key, part in value.items()) + "}"
    if not isinstance(value, str):
        return str(value).lower() if isinstance(value, bool) else str(value)
    if re.fullmatch(PLAIN, value) and not re.fullmatch(OTHER_TYPES, value):
        return value
    # Hydra takes backslashes literally, but for those before a quote. A dollar with a brace would be a reference.
    quoted = re.sub(r"(\\*)'", r"\1\1\\'", value)
    quoted += re.search(r"\\*$", quoted)[0]  # type: ignore[index]
    return "'" + quoted.replace("${", r"\${") + "'"
