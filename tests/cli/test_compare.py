"""`mmbench compare` on stores without training."""

import json

import pandas as pd
import pytest

from mmbench.cli.main import main
from tests.records.synthetic import write_store
from tests.statistics.test_strategies import runs


@pytest.fixture
def stores(tmp_path, stored_frame):
    """Two results folders; the gains in the second are 0.01 larger."""
    return stored_frame(tmp_path / "first", 0.0), stored_frame(tmp_path / "second", 0.01)


@pytest.fixture
def stored_frame():
    def write(folder, shift):
        frame = runs({"x": 0.03 + shift, "y": 0.01 + shift, "z": -0.01 + shift, "scratch": 0.05})
        records = [record | {"run_id": f"{at:04d}"} for at, record in enumerate(frame.to_dict("records"))]
        return write_store(records, folder)

    return write


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        main(["compare", *arguments])
    shown = capsys.readouterr()
    return end.value.code, shown.out, shown.err


def test_the_ranking_is_printed_and_written(stores, capsys):
    code, out, _ = run(capsys, f"results={stores[0]}")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()[4:8]] == ["x", "y", "z", "scratch"]
    assert "Lines to beat: the mean of scratch (+4.00) is above that of every expansion." in out.replace("\n", " ")
    table = pd.read_csv(stores[0] / "analysis" / "strategies.csv")
    assert table.loc[table["group"] == "all", "strategy"].tolist() == ["x", "y", "z", "scratch"]
    assert (stores[0] / "analysis" / "figures" / "strategies.png").is_file()


def test_two_stores_are_compared_on_what_they_share(stores, capsys):
    code, _, err = run(capsys, f"results=[{stores[0]},{stores[1]}]")
    assert code == 0
    assert "of equal id differ in gain" in err.replace("\n", " ")
    table = pd.read_csv(stores[0] / "analysis" / "stores.csv").set_index("column")
    assert table.loc["gain", "difference"] == pytest.approx(0.0075)


@pytest.mark.parametrize(
    ("argument", "message"),
    [("by=colour", "by = 'colour' is unknown (allowed: expansion, "), ("target=x", "target = 'x' is unknown")],
)
def test_a_wrong_value_is_told(stores, capsys, argument, message):
    code, _, err = run(capsys, f"results={stores[0]}", argument)
    assert code == 2
    assert message in err


def test_a_store_without_a_gain_has_nothing_to_compare(tmp_path, capsys):
    (tmp_path / "records").mkdir()
    code, out, _ = run(capsys, f"results={tmp_path}")
    assert (code, out.strip()) == (0, "No run has a gain yet: there is nothing to compare.")


def test_the_tables_can_be_had_as_json(stores, capsys):
    code, out, _ = run(capsys, f"results=[{stores[0]},{stores[1]}]", "format=json")
    tables = json.loads(out)
    assert code == 0
    assert [row["strategy"] for row in tables["strategies"] if row["group"] == "all"] == ["x", "y", "z", "scratch"]
    assert tables["stores"][0]["column"] == "gain"
    assert run(capsys, f"results={stores[0]}", "format=xml")[0] == 2
