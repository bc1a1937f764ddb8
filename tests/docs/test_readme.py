"""The files that stand at the top of the repository."""

import re
from pathlib import Path

import mmbench

ROOT = Path(__file__).parents[2]


def test_the_readme_stays_short():
    assert (ROOT / "README.md").stat().st_size <= 10_000


def test_the_citation_is_of_this_version():
    assert re.findall(r"^version: (.*)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE) == [mmbench.__version__]


def test_the_layout_that_the_readme_shows_is_that_of_the_package():
    shown = set(re.findall(r"\b(\w+)/", (ROOT / "README.md").read_text().split("## Layout")[1].split("```")[1]))
    folders = {path.parent.name for path in (ROOT / "mmbench").glob("*/__init__.py")} - {"testing"}
    assert folders <= shown
    assert all((ROOT / name).is_dir() or (ROOT / "mmbench" / name).is_dir() for name in shown - {"studies"})
