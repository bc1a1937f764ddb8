"""The tutorial's own lines are run, one block after the other."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

TUTORIAL = (Path(__file__).parents[1] / "docs" / "advise.md").read_text()


def test_the_tutorial_on_advice_runs(capsys: pytest.CaptureFixture[str]) -> None:
    said: dict[str, Any] = {}
    blocks = re.findall(r"```python\n(.*?)```", TUTORIAL, flags=re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        exec(block, said)
    advice, printed = said["advice"], capsys.readouterr().out
    assert isinstance(advice, pd.DataFrame)
    assert advice["rank"].iloc[0] == 1
    assert advice["score"].notna().all()
    assert len(said["gains"]) == 2
    assert "base model: 0." in printed
    assert f"{advice['expansion'].iloc[0]} {advice['axis'].iloc[0]}: gain " in printed
