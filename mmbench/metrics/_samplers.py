"""Where the points of a cloud come from: networks near the expanded one, or near what it might have been.

    sgd_branch      K trainings from the network, each with its own order of the images (Frankle et al., 2020)
    seeds           K expansions of the base with draws of their own, each trained
    perturb_retrain K copies of the network with Gaussian noise on the weights, each trained
    permute_align   as seeds, then the channels of each permuted to match the first's (Ainsworth et al., 2023)
    symmetry_null   K trainings of the base, each then put through the expansion with the same draws and not trained:
                    what widening alone makes of the base's own cloud (after Simsek et al., 2021)
    expansions      K expansions of the base with draws of their own, not trained
    aligned_expansions  the same, the channels of each permuted to match the first's

All trainings of a cloud are short ones: the run's recipe with `fraction` of its steps, annealed to zero. The last three
are the symmetry nulls: of a cloud that starts from one network, of one that starts from K, and of one that is matched.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from mmbench.landscape.branches import branches_from, perturbed, sgd_branches
from mmbench.landscape.matching import gathered, match
from mmbench.metrics.subject import Subject
from mmbench.models.copies import copied
from mmbench.training.recipes import Training

Sampler = Literal[
    "sgd_branch", "seeds", "perturb_retrain", "permute_align", "symmetry_null", "expansions", "aligned_expansions"
]
NULLS: dict[Sampler, Sampler] = {
    "sgd_branch": "symmetry_null",
    "perturb_retrain": "symmetry_null",
    "seeds": "expansions",
    "permute_align": "aligned_expansions",
}
"""What each sampler's cloud would be if nothing but the expansion had made it."""


class Points(NamedTuple):
    """A start, the points around it, and the loss of each step of their training (steps,) per point, if any."""

    start: nn.Module
    models: list[nn.Module]
    losses: list[Tensor]


def sample(sampler: Sampler, subject: Subject, count: int, recipe: Training, noise: float) -> Points:
    """`count` points around the subject's network.

    Args:
        sampler: where they come from.
        subject: whose network is the start; the generator of its draws is that of the name `manifold`.
        count: K.
        recipe: of each point's training.
        noise: of `perturb_retrain`, in units of each tensor's root mean square.

    Raises:
        UndefinedError: the sampler repeats the expansion, and the subject does not know it.
        DivergedError: a training left the finite numbers.

    Returns:
        The points.
    """
    generator = subject.generator("manifold")

    start = subject.network()
    if sampler == "sgd_branch":
        branches = sgd_branches(start, subject.train, recipe, count, generator)
    elif sampler == "perturb_retrain":
        starts = [perturbed(start, noise, generator) for _ in range(count)]
        branches = branches_from(starts, subject.train, recipe, generator)
    elif sampler == "symmetry_null":
        return _pushed(subject, count, recipe, generator)
    else:
        starts = subject.once(("expansions", count), lambda: [subject.expanded(subject.base, i) for i in range(count)])
        if sampler == "expansions":
            return Points(start, starts, [])
        if sampler == "aligned_expansions":
            return Points(start, _aligned([copied(one) for one in starts], generator), [])
        branches = branches_from(starts, subject.train, recipe, generator)
    models = [branch.model for branch in branches]
    if sampler == "permute_align":
        models = _aligned(models, generator)
    return Points(start, models, [branch.losses for branch in branches])


def _pushed(subject: Subject, count: int, recipe: Training, generator: torch.Generator) -> Points:
    branches = subject.of_base(
        ("branches", count, repr(recipe.describe())),
        lambda: sgd_branches(subject.base, subject.train, recipe, count, generator),
    )
    models = [subject.expanded(branch.model) for branch in branches]
    return Points(subject.network(), models, [branch.losses for branch in branches])


def _aligned(models: list[nn.Module], generator: torch.Generator) -> list[nn.Module]:
    """The models, which are changed: the channels of each in the order that matches the first's."""
    first, *others = models
    for model in others:
        model.load_state_dict(gathered(model, match(first, model, generator)))
    return models
