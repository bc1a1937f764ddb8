"""Whether a command prints text or JSON."""

from __future__ import annotations

from mmbench.errors import ConfigError


def as_json(own: dict[str, str]) -> bool:
    """Whether a command's own key `format` asks for JSON; `ConfigError` if it is neither text nor json."""
    value = own.get("format", "text")
    if value not in ("text", "json"):
        raise ConfigError(f"format = {value!r} is not allowed: must be text or json")
    return value == "json"
