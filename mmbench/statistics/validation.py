"""How far the best validation gain flatters: it is the best of many evaluations, on the images that choose it.

The paper's target G* (arXiv:2405.15895) is the best validation accuracy of the expanded model's training minus that of
the base model's. The `gain` is the difference in test accuracy, on images that chose nothing. Both networks are chosen
on validation, so part of the flattery cancels; what is left is mean(best_validation_gain - gain).
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd

from mmbench.statistics.correlation import kendall, spearman
from mmbench.statistics.inference import t_quantile
from mmbench.statistics.seed_luck import TRAINED_BASE

COLUMNS = {
    **dict.fromkeys(("dataset", "model", "training"), "string"),
    **dict.fromkeys(("n", "n_base_models"), "int64"),
    **dict.fromkeys(("best_validation_gain", "gain", "flattery", "flattery_low", "flattery_high"), "float64"),
    **dict.fromkeys(("spearman", "kendall"), "float64"),
}


def validation_table(runs: pd.DataFrame) -> pd.DataFrame:
    """The best validation gain against the gain in test accuracy, over trainings.

    * n, n_base_models: trainings of expanded models that have both, and the trained base models under them.
    * best_validation_gain, gain: their means; flattery: the mean difference, with Student's t interval over the means
      of the trained base models, whose errors all their expansions share (from two base models on).
    * spearman, kendall: between both, over configurations averaged over seeds.

    Args:
        runs: as of `configurations.prepare`.

    Returns:
        One row per data set, model and training recipe.
    """
    both = ["best_validation_gain", "gain"]
    known = runs[runs["done"] & runs[both].abs().lt(np.inf).all(axis=1)]
    cell = ["dataset", "model", "training"]
    # One training has a record for each metric, but counts once.
    trained = known.groupby([*cell, *TRAINED_BASE[1:], "number"], dropna=False)[both].mean().reset_index()
    rows = []
    for names, members in trained.groupby(cell, dropna=False):
        difference = (members["best_validation_gain"] - members["gain"]).groupby(
            [members["base"].fillna(""), members["seed"].fillna(-1)]
        )
        by_base, means = difference.mean(), members.groupby("number")[both].mean().round(12)
        half = math.nan
        if len(by_base) > 1:
            half = t_quantile(len(by_base) - 1) * by_base.std() / math.sqrt(len(by_base))
        validation, test = (means[name].to_numpy(dtype=float) for name in both)
        rows.append(
            {
                **dict(zip(cell, names, strict=True)),
                **{"n": len(members), "n_base_models": len(by_base)},
                **{name: members[name].mean() for name in both},
                **{"flattery": by_base.mean(), "flattery_low": by_base.mean() - half},
                **{"flattery_high": by_base.mean() + half, "spearman": spearman(validation, test)},
                "kendall": kendall(validation, test) if len(means) > 2 else math.nan,
            }
        )
    return pd.DataFrame(rows, columns=list(COLUMNS)).astype(COLUMNS)
