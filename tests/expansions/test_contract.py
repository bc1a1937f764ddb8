"""The contract of every registered operator."""

from mmbench.testing.expansions import ExpansionContract
from tests.expansions.cells import CELLS, OPERATORS


class TestEveryExpansion(ExpansionContract):
    @classmethod
    def operators(cls):
        return OPERATORS

    @classmethod
    def cells(cls):
        return CELLS
