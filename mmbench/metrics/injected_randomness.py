"""How much randomness an expansion injects: the distance between repetitions of it, before any training.

K expansions of the base model, each with random draws of its own;

    score = mean over the pairs i < j of ||w_i - w_j||_2,

where the channels of j are put in the order in which its weights are closest to those of i (weight matching, Ainsworth
et al., 2023), so that renaming does not count. Every pair is matched anew: with one order for all pairs, those with the
reference would be closer than the others.

It is 0 for an operator without randomness, and for one that only chooses at random which unit it copies, as far as
matching finds the order. It reads no image and no loss, and does not depend on the moment of the training.

A cheap rival, and a warning. An earlier study of ours trained such expansions for 5 % of the training and took their
distance for the size of a set of minima, but with no training at all that distance ranked expansions alike (Spearman's
rho 0.89), predicted the gain better (0.60 against 0.53 on 12 cells) and left nothing to it (partial rho -0.01). So what
predicted the gain was how much new randomness an operator brings, not the landscape; and Gaussian noise added to
`net2wider` on a ViT raised the score twelvefold and the gain not at all. Expected sign +1, by that observation; no
theory predicts it.
"""

from __future__ import annotations

from itertools import combinations

import torch
from pydantic import Field
from torch import Tensor, nn

from mmbench.landscape.distances import distances, pair_mean
from mmbench.landscape.matching import gathered, match
from mmbench.metrics.base import METRICS, Estimate, Metric
from mmbench.metrics.subject import Subject
from mmbench.models.copies import copied


@METRICS.register("injected_randomness")
class InjectedRandomness(Metric):
    """Mean distance of repeated expansions; the standard error is over them (three at least)."""

    expected_sign = 1

    draws: int = Field(4, ge=2)
    """K, the expansions with draws of their own; the first is the expansion that is measured."""
    match: bool = True
    """Whether the channels of each pair are matched; needs a network of a known family."""

    def measure(self, subject: Subject) -> Estimate:
        """The distance, in units of the weights."""
        models = subject.once(("expansions", self.draws), lambda: _expansions(subject, self.draws))
        return Estimate(*pair_mean(_matched(models, subject) if self.match else distances(models)))


def _expansions(subject: Subject, count: int) -> list[nn.Module]:
    return [subject.expanded(subject.base, draw) for draw in range(count)]


def _matched(models: list[nn.Module], subject: Subject) -> Tensor:
    """Distances (K, K), the channels of the second of each pair in the order that matches the first's."""
    generator, apart = subject.generator("injected_randomness"), torch.zeros(len(models), len(models)).double()
    for i, j in combinations(range(len(models)), 2):
        twin = copied(models[j])
        twin.load_state_dict(gathered(models[j], match(models[i], models[j], generator)))
        apart[i, j] = apart[j, i] = distances([models[i], twin])[0, 1]
    return apart
