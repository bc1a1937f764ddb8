"""Trace of the Fisher information, tr F = E_x E_{y ~ p(y|x)} ||grad log p(y|x)||^2 (Jastrzebski et al., 2021).

The labels are the model's own, and their expectation is taken exactly. For softmax and cross-entropy F is the
Gauss-Newton matrix (Martens, 2020), so this is `ggn_trace`, computed once for both; it is listed on its own because it
is known, and looked for, under this name. Expected sign -1. Not the empirical Fisher, which has the true labels.
"""

from __future__ import annotations

from mmbench.metrics.base import METRICS, Estimate
from mmbench.metrics.ggn_trace import GGNTrace
from mmbench.metrics.subject import Subject


@METRICS.register("fisher_trace")
class FisherTrace(GGNTrace):
    """tr F with the model's own labels, exact for the images drawn."""

    def measure(self, subject: Subject) -> Estimate:
        """In nats squared per squared parameter unit; `details` has the error that the choice of images makes."""
        return super().measure(subject)
