"""Every operator on every family in one table: `pytest tests/expansions/test_invariants.py -s` prints it.

One line for each pair, with the operator's default axis or, where that is undefined, its first that is.
"""

import pytest
import torch
from rich import box
from rich.console import Console
from rich.table import Table

from mmbench.data.base import InputShape
from mmbench.errors import UndefinedError
from mmbench.expansions.base import EXPANSIONS
from mmbench.expansions.copying import Copying
from tests.expansions.cells import EQUAL_BLOCKS, FIRST, OPERATORS, Cell
from tests.expansions.training import OPTIMISERS, distances_of_copies, shares_alive
from tests.models.networks import FAMILIES, difference, images

DIGITS = InputShape(1, 8, 10)
COLUMNS = {
    "fp64 eval": ".0e",
    "fp64 train": ".0e",
    "fp32 eval": ".0e",
    "alive": ".0%",
    "SGD apart": ".0e",
    "AdamW apart": ".0e",
    "4x budget": "+.1%",
}
"""What is measured, and how it is shown: the largest differences of logits, that in float32 relative to 1 + their size;
the least share of a new tensor's entries with a gradient; the least distance of a copy from its original after 20
steps; the miss of four times the parameters of the family's default network."""
REASONS = {  # a part of the message: the same in few words
    "which has no residual blocks": "no residual blocks",
    "which has no LayerNorm": "no LayerNorm",
    "would not stay their mean": "mean would not stay",
    "whose layers stand in residual blocks": "not a plain network",
    "batch norm and ReLU leave": "batch norm and ReLU",
    "it is for resnet, convnext": "no kernels that grow",
    "nearest counts": "> 5% off",
    "needs a factor above": "beyond x64",
    "no two blocks of equal shape": "too few blocks",
    "takes new blocks from old ones": "too few blocks",
}


def in_few_words(error: UndefinedError) -> str:
    """The reason, short enough for a table."""
    return next((short for part, short in REASONS.items() if part in str(error)), str(error))


def measured(cell: Cell) -> dict[str, object]:
    """The invariants of an operator on a family as numbers."""
    base, single = cell.base(), cell.base(torch.float32)
    large = cell.expand(base)
    with torch.no_grad():
        scale = 1 + float(single(images(dtype=torch.float32)).abs().max())
    row: dict[str, object] = {
        "network": cell.network,
        "axis": cell.target().axis,
        "preserves": cell.preserves,
        "fp64 eval": difference(base, large),
        "fp64 train": difference(base, large, train=True),
        "fp32 eval": difference(single, cell.expand(single)) / scale,
        "alive": min(shares_alive(cell).values(), default=None),
    }
    for optimiser in OPTIMISERS:
        row[f"{optimiser} apart"] = apart(cell, optimiser)
    row["4x budget"] = miss(cell)
    return row


def apart(cell: Cell, optimiser: str) -> float | None:
    """The least distance of a copy from its original after 20 steps; None where nothing is copied by itself."""
    grows_stem = cell.target().axis in ("width", "stream")
    if not grows_stem or not issubclass(EXPANSIONS[cell.operator], Copying):
        return None
    return float(distances_of_copies(cell, optimiser)[1].min())


def miss(cell: Cell) -> float | str | None:
    """By how much the family's default network misses four times its parameters, or why it is not defined."""
    if "budget" not in EXPANSIONS[cell.operator].model_fields:
        return None
    base = type(cell.architecture)(**EQUAL_BLOCKS.get(cell.family, {}))
    operator = EXPANSIONS[cell.operator](**{**cell.options, "budget": 4.0, "tolerance": 0.05})
    try:
        count = operator.target(base, DIGITS).architecture.parameters(DIGITS)
    except UndefinedError as error:
        return in_few_words(error)
    return count / (4 * base.parameters(DIGITS)) - 1


def shown(value: object, form: str) -> str:
    """A number with as many digits as it deserves."""
    if value is None or isinstance(value, str):
        return value or "-"
    return "0" if value == 0 else f"{value:{form}}"


@pytest.fixture(scope="module")
def rows():
    """What the tests have measured; printed after the last."""
    found: dict[tuple[str, str], dict[str, object] | str] = {}
    yield found
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for column in ("operator", "network", "axis", "keeps f"):
        table.add_column(column, no_wrap=True)
    for column in COLUMNS:
        table.add_column(column.replace(" ", "\n"), justify="right", no_wrap=True)
    table.add_column("undefined since", no_wrap=True)
    for (operator, family), row in sorted(found.items()):
        if isinstance(row, str):
            table.add_row(operator, family, *["" for _ in range(len(COLUMNS) + 2)], row)
        else:
            names = operator, str(row["network"]), str(row["axis"]), str(row["preserves"])
            table.add_row(*names, *(shown(row[column], form) for column, form in COLUMNS.items()))
    console = Console(width=140)
    console.print()
    console.print(table)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("operator", OPERATORS)
def test_the_invariants_hold(operator, family, rows):
    cell = FIRST.get((operator, family))
    if cell is None:
        with pytest.raises(UndefinedError) as caught:
            Cell(operator, {}, family).expand()
        rows[operator, family] = in_few_words(caught.value)
        return
    row = rows[operator, family] = measured(cell)
    changes = [row["fp64 eval"], row["fp64 train"]]
    if row["preserves"] == "exact":
        assert max(changes) <= 1e-10
        assert row["fp32 eval"] <= 1e-5
    else:
        assert min(changes) > 1e-3
    if EXPANSIONS[operator].arm == "expansion":
        assert row["alive"] > (0.7 if row["preserves"] == "exact" else 0.5)
    assert all(row[f"{name} apart"] is None or row[f"{name} apart"] > 1e-5 for name in OPTIMISERS)
    assert row["4x budget"] is None or isinstance(row["4x budget"], str) or abs(row["4x budget"]) <= 0.05
