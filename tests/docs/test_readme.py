"""The README is short, and points to what there is."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"


def test_it_stays_short():
    assert README.stat().st_size <= 10_000
