"""The contract of every registered family, on networks that together use every option."""

from mmbench.testing.models import ModelContract
from tests.models.networks import CASES


class TestEveryFamily(ModelContract):
    @classmethod
    def cases(cls):
        return CASES
