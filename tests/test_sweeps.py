from __future__ import annotations

import re

import pytest

from mmbench.paths import choices, root

EXTRA = {"cifar10": ["dataset=digits"]}
"""Sweeps over data that are not here are planned on data that are."""


@pytest.mark.parametrize("name", choices("sweeps"))
def test_a_sweep_file_has_its_command_its_job_count_and_its_question(name, mmbench):
    lines = (root() / "sweeps" / f"{name}.yaml").read_text().splitlines()
    assert lines[0] == "# @package _global_"
    assert lines[1].startswith(f"# mmbench run -m sweeps={name}")
    count = int(re.match(r"# (\d+) runs", lines[2])[1])
    assert "?" in "".join(line for line in lines if line.startswith("#"))
    plan = mmbench("plan", f"sweeps={name}", *(["dataset.path=data"] if name in EXTRA else []), **{})
    if name in EXTRA:
        assert "dataset.path = 'data'" in plan.stderr, "the sweep composes, and misses only its data"
    else:
        assert f"{count} runs:" in plan.stdout, plan.stdout + plan.stderr
        skipped = re.match(r"# \d+ runs, (\d+) of them skipped", lines[2])
        assert f"{skipped[1] if skipped else 0} skipped" in plan.stdout
