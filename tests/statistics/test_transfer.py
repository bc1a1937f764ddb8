"""A sign learned on some groups and tried on another."""

import pytest

from mmbench.statistics.configurations import prepare
from mmbench.statistics.sample import Samples
from mmbench.statistics.transfer import transfer_table
from tests.statistics.planted import TRUE, planted

pytestmark = pytest.mark.filterwarnings("error")


def test_transfer_learns_the_sign_elsewhere():
    frame = planted(TRUE, budgets=(2.0,))
    frame.loc[frame["dataset"] == "one", "score"] *= -1
    table = transfer_table([Samples(prepare(frame), "gain")])
    found = table[(table["metric"] == "manifold") & (table["target"] == "gain") & (table["by"] == "dataset")].set_index(
        "held_out"
    )
    assert found.loc["one", "transferred"] < -0.5
    assert (found.drop("one")["transferred"] > 0.5).all()
    assert found.loc["one", "n_train"] == 24
    assert "Too few" in found.loc["one", "remark"]
