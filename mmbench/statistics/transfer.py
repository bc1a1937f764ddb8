"""Whether the sign learned on some data sets, models or operators holds on one that was left out."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pandas as pd

from mmbench.statistics.correlation import spearman, spearman_interval
from mmbench.statistics.remarks import too_few
from mmbench.statistics.sample import Samples
from mmbench.text import count

COLUMNS = {
    **dict.fromkeys(("metric", "target", "by", "held_out"), "string"),
    **{"n_train": "int64", "n": "int64", "learned_sign": "Int64"},
    **dict.fromkeys(("spearman", "ci_low", "ci_high", "transferred"), "float64"),
    "remark": "string",
}


def transfer_table(all_samples: Sequence[Samples]) -> pd.DataFrame:
    """The sign of a correlation learned on all groups but one, tested on that one. Controls are left out.

    A monotone rule of one score has nothing to fit but its sign; `transferred` is the correlation of the rule's
    prediction with the target in the held-out group.

    Returns:
        One row per metric, target and held-out group.
    """
    rows = []
    for samples in all_samples:
        expansions = (samples.configurations["arm"] == "expansion").to_numpy(dtype=bool)
        for by in ("dataset", "model", "expansion"):
            values = samples.configurations[by].to_numpy(dtype=object)
            names = sorted(samples.configurations.loc[expansions, by].dropna().unique())
            if len(names) < 2:
                continue
            for name in names:
                held = values == name
                for metric in samples.metrics:
                    test, train = samples.sample(metric, expansions & held), samples.sample(metric, expansions & ~held)
                    learned = spearman(train.score, train.target)
                    rho = spearman_interval(test.score, test.target, test.base_number)
                    sign = None if math.isnan(learned) else np.sign(learned)
                    left = f"{count(len(test), 'configuration')} held out, {len(train)} left"
                    rows.append(
                        {
                            **{"metric": metric, "target": samples.target, "by": by, "held_out": name},
                            **{"n_train": len(train), "n": len(test), "learned_sign": sign, "spearman": rho.rho},
                            **{"ci_low": rho.low, "ci_high": rho.high},
                            "transferred": math.nan if sign is None else sign * rho.rho,
                            "remark": too_few(min(len(test), len(train)), left),
                        }
                    )
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
