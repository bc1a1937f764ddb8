"""Validation accuracy of the base model: the better it is, the less is left to gain. Expected sign -1.

It is the same for all expansions of one base model, so it ranks base models only. A metric that correlates with the
gain across many base models may reflect nothing else.
"""

from __future__ import annotations

import torch

from mmbench.landscape import surface
from mmbench.metrics.base import METRICS, Estimate, Metric, mean_and_error
from mmbench.metrics.subject import Subject


@METRICS.register("base_accuracy")
class BaseAccuracy(Metric):
    """Accuracy of the base model on the validation images; the standard error is over the images."""

    expected_sign = -1

    def measure(self, subject: Subject) -> Estimate:
        """In [0, 1]."""
        base, held_out = subject.base, subject.validation
        reference = next(base.parameters())
        with torch.no_grad():
            logits = torch.cat([base(images.to(reference)) for images in held_out.images.split(surface.CHUNK)])
        return Estimate(*mean_and_error((logits.argmax(1) == held_out.labels.to(logits.device)).double()))
