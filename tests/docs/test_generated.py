"""The catalogues in docs/ say what the registries say."""

import runpy
from pathlib import Path

import pytest

from mmbench.paths import choices

DOCS = Path(__file__).parents[2] / "docs"


def test_no_catalogue_is_out_of_date():
    changed = runpy.run_path(str(DOCS / "generate.py"))["stale"]()
    assert not changed, f"{', '.join(changed)}: run `make generated`"


@pytest.mark.parametrize(
    ("page", "group"),
    [
        ("metrics", "metric"),
        ("expansions", "expansion"),
        ("models", "model"),
        ("datasets", "dataset"),
        ("trainings", "training"),
        ("sweeps", "sweeps"),
    ],
)
def test_every_choice_has_a_section(page, group):
    lines = (DOCS / f"{page}.md").read_text().splitlines()
    assert {f"## {name}" for name in choices(group)} <= set(lines)
