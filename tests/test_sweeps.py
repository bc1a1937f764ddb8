from __future__ import annotations

import re

import pytest
import yaml

from mmbench.data.digits import Digits
from mmbench.errors import UndefinedError
from mmbench.expansions.base import EXPANSIONS
from mmbench.models.base import MODELS
from mmbench.paths import choices, root

WITHOUT_DATA = {"cifar10"}
"""Sweeps over data that are not here are composed as far as that shows."""


@pytest.mark.parametrize("name", choices("sweeps"))
def test_a_sweep_file_has_its_command_its_job_count_and_its_question(name, mmbench_here):
    lines = (root() / "sweeps" / f"{name}.yaml").read_text().splitlines()
    assert lines[0] == "# @package _global_"
    assert lines[1].startswith(f"# mmbench run -m sweeps={name}")
    count = int(re.match(r"# (\d+) runs", lines[2])[1])
    assert "?" in "".join(line for line in lines if line.startswith("#"))
    plan = mmbench_here("plan", f"sweeps={name}", *(["dataset.path=data"] if name in WITHOUT_DATA else []))
    if name in WITHOUT_DATA:
        assert "dataset.path = 'data'" in plan.stderr, "the sweep composes, and misses only its data"
    else:
        assert f"{count} runs:" in plan.stdout, plan.stdout + plan.stderr
        skipped = re.match(r"# \d+ runs, (\d+) of them skipped", lines[2])
        assert f"{skipped[1] if skipped else 0} skipped" in plan.stdout


@pytest.mark.parametrize("name", [name for name in choices("sweeps") if name.startswith("equal_")])
def test_a_sweep_of_equal_size_puts_every_operator_at_one_count(name):
    config = yaml.safe_load((root() / "sweeps" / f"{name}.yaml").read_text())
    params = config["hydra"]["sweeper"]["params"]
    sizes = {key.removeprefix("model."): yaml.safe_load(v) for key, v in params.items() if key.startswith("model.")}
    family, shape = name.removeprefix("equal_"), Digits().shape()
    base = MODELS[family](**sizes)
    anchor = EXPANSIONS[params["expansion.match"]]().target(base, shape).architecture.parameters(shape)
    swept = params["expansion"].split(",")
    defined_for = {op for op in EXPANSIONS.names() if family in (EXPANSIONS[op].families or [family])}
    assert set(swept) >= defined_for - {"kernel_pad"}, "every operator of the family"
    depth = {"depth": params["expansion.depth"]} if "expansion.depth" in params else {}
    for operator in swept:
        counts = []
        for axis in set(EXPANSIONS[operator].axes()) & set(params["expansion.axis"].split(",")):
            extra = depth if operator == "width_then_depth" else {}
            expansion = EXPANSIONS[operator](axis=axis, match=params["expansion.match"], **extra)
            try:
                counts.append(expansion.target(base, shape).architecture.parameters(shape))
            except UndefinedError as error:
                assert "nearest counts" in str(error) or "LayerNorm" in str(error)
        assert all(abs(count / anchor - 1) <= 0.01 for count in counts), operator
        if operator not in ("none", "gradmax"):  # gradmax grows hidden units, also where that axis is not swept
            assert counts or (operator, family) == ("kernel_pad", "resnet"), operator
