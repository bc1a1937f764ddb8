from __future__ import annotations

import re
import shlex

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from mmbench.errors import ConfigError
from mmbench.launcher.overrides import as_override, command, written_out


@pytest.mark.parametrize(
    ("written", "plain"),
    [
        ("metric.after=epochs(0,1,2)", "metric.after=0epochs,1epochs,2epochs"),
        ("metric.after=epochs(5)", "metric.after=5epochs"),
        ("metric.after=0,10,epochs( 1, 2.5 )", "metric.after=0,10,1epochs,2.5epochs"),
        ("metric.after=epochs(1),epochs(2,3)", "metric.after=1epochs,2epochs,3epochs"),
        ("+metric.after=epochs(1)", "+metric.after=1epochs"),
        ("results=epochs(1,2)", "results=epochs(1,2)"),
        ("~metric.after", "~metric.after"),
        ("seed=0,1", "seed=0,1"),
    ],
)
def test_moments_in_epochs_are_written_out(written, plain):
    assert written_out(written) == plain


@pytest.mark.parametrize(
    "value", ["epochs()", "epochs(-1)", "epochs(a)", "0,epochs(1 2)", "epochs(1,)", "epochs(range(3))"]
)
def test_moments_that_are_no_numbers_are_refused(value):
    with pytest.raises(ConfigError, match=r"metric\.after = .* is not allowed: epochs.* takes numbers of epochs >= 0"):
        written_out(f"metric.after={value}")


@pytest.mark.parametrize("group", ["model", "dataset", "expansion", "metric", "training"])
@pytest.mark.parametrize("value", ["null", "", "5", "[a,b]", "{name:a}"])
def test_a_group_needs_a_choice(group, value):
    with pytest.raises(ConfigError, match=re.escape(f"{group} = {value} is not a choice; choose one of: ")):
        written_out(f"{group}={value}")


VALUES = [
    None, True, 3, -1.5, 1e30, "a", "my results", "a,b", "[1", "it's", "a\\'b", "ends with \\", "null", "True", "1e3",
    "007", "", " ", "~/x", "a=b", "50 %", "x{y}", "$5", "caf\N{LATIN SMALL LETTER E WITH ACUTE}",
    [4, 8], ["a b", None], {"channels": [1, 2], "hidden": None}, [],
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_what_is_written_is_read_back_by_the_shell_and_by_hydra(value):
    (override,) = shlex.split(command("run", key=value))[2:]
    assert override == as_override("key", value)
    parsed = OverridesParser.create().parse_override(override)
    assert not parsed.is_sweep_override()
    read = OmegaConf.to_container(OmegaConf.create({"key": parsed.value()}), resolve=True)["key"]
    assert (type(read), read) == (type(value), value)
