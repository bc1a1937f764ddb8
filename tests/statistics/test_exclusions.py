"""What does not count is listed with its reason."""

import math

import pandas as pd
import pytest

from mmbench.statistics.configurations import prepare
from mmbench.statistics.exclusions import exclusion_table

pytestmark = pytest.mark.filterwarnings("error")


def test_what_does_not_count_is_counted_with_its_reason(record, points):
    rows = points([1, 2, math.inf, None], [0.1, 0.2, 0.3, 0.4])
    rows += [
        record(seed=9, status="failed", error="diverged at step 3", score=None),
        record(seed=8, status="skipped", error="no"),
    ]
    rows += [record(seed=7, gain=None, score=5.0)]
    frame = pd.DataFrame(rows)
    table = exclusion_table(frame, prepare(frame))
    found = {(row["where"], row["reason"]): row["n"] for _, row in table.iterrows()}
    assert found["run", "failed: diverged at step 3"] == 1
    assert found["run", "skipped: no"] == 1
    assert found["score", "score is infinite"] == 1
    assert found["score", "no score"] == 1
    assert found["target", "no gain"] == 1
    assert found["target", "no scratch_matched of its data set, base model, budget and seed"] == 3
