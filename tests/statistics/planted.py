"""Frames with a planted truth: what the gain is made of, and what a score knows of it."""

import math

import numpy as np
import pandas as pd

from mmbench.statistics.configurations import prepare
from mmbench.statistics.sample import Samples
from mmbench.statistics.summary import summarise
from tests.records.synthetic import make_record

BUDGETS = (1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0)
OPERATORS = tuple("abcdefgh")
SIZE = {"manifold": (1, lambda size, quality, noise: size + 0.02 * noise)}
TRUE = {"manifold": (1, lambda size, quality, noise: quality + 0.3 * noise)}


def planted(scores, seed=0, datasets=("one", "two", "three", "four"), seeds=(0,), budgets=BUDGETS, effect=0.0):
    """Gain is log2(budget) / 10 + quality / 100, the operator's effect in it; `scores` are of size, quality, noise."""
    draw = np.random.default_rng(seed)
    effects = dict(zip(OPERATORS, effect * draw.normal(size=8), strict=True))
    rows = []
    for dataset in datasets:
        for budget in budgets:
            for operator in OPERATORS:
                quality = draw.normal() + effects[operator]
                for turn in seeds:
                    gain = 0.1 * math.log2(budget) + 0.01 * quality + 0.003 * draw.normal()
                    for metric, (sign, score) in scores.items():
                        rows.append(
                            make_record(
                                dataset=dataset, budget=budget, expansion=operator, metric=metric, expected_sign=sign,
                                seed=turn, gain=gain, final_accuracy=0.5 + gain, parameters=round(1000 * budget),
                                score=float(score(math.log2(budget), quality, draw.normal())),
                                configuration=f"{dataset}{budget}{operator}", base_configuration=dataset,
                            )
                        )  # fmt: skip
    return pd.DataFrame(rows)


def row(judgement, metric="manifold", target="gain", group="all"):
    table = judgement if isinstance(judgement, pd.DataFrame) else judgement.correlations
    return table[(table["metric"] == metric) & (table["target"] == target) & (table["group"] == group)].iloc[0]


def summary_of(records, metric="manifold", target="gain"):
    """The statistics of one metric and target over all configurations: a fifth of the work of `correlate`."""
    samples = Samples(prepare(pd.DataFrame(records)), target)
    return pd.Series(summarise(samples, samples.sample(metric)), dtype=object)
