"""Every setting of the runs in full."""

from __future__ import annotations

import json
from typing import Any

from mmbench.report.sections.base import Results, Section
from mmbench.report.table import Table


class Settings(Section):
    """A row per distinct model, data set, expansion, training recipe and metric, with all its options."""

    title = "Configuration"
    order = 120
    template = """
{% if settings %}{{ table(settings) }}
{% if left_out %}<p class="note">The store is large: {{ "{:,}".format(left_out) }} of its stage results were not read,
so a setting may be missing here.</p>{% endif %}
{% else %}<p>The store holds no stage results, so the options of the runs are not known.</p>
{% endif %}
"""

    def content(self, results: Results) -> dict[str, Any] | None:
        """The table of the settings in the stage results that were read."""
        rows = [_row(part, text) for part, texts in results.traces.settings.items() for text in texts]
        caption = "Every model, data set, expansion, training recipe and metric of these runs, with all its options"
        table = Table(["part", "name", "options"], rows, caption, "words", running={2}) if rows else None
        return {"settings": table, "left_out": results.traces.left_out}


def _row(part: str, text: str) -> list[str]:
    options = json.loads(text)
    name = options.pop("name", "") if isinstance(options, dict) else ""
    shown = ", ".join(f"{key}={_plain(value)}" for key, value in options.items()) if options else "no options"
    return [part, str(name), shown]


def _plain(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value
