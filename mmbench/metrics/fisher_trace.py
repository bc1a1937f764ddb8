"""Trace of the Fisher information, tr F = E_x E_{y ~ p(y|x)} ||grad log p(y|x)||^2 (Jastrzebski et al., 2021).

The labels are the model's own, and their expectation is taken exactly. For softmax and cross-entropy F equals the
Gauss-Newton matrix (Martens, 2020), so this is `ggn_trace` under its other common name, computed once for both.
Expected sign -1. The empirical Fisher, in contrast, takes the true labels.
"""

from __future__ import annotations

from mmbench.metrics.base import METRICS, Estimate
from mmbench.metrics.ggn_trace import GGNTrace
from mmbench.metrics.subject import Subject


@METRICS.register("fisher_trace")
class FisherTrace(GGNTrace):
    """tr F with the model's own labels, exact for the images drawn."""

    def measure(self, subject: Subject) -> Estimate:
        """In nats squared per squared parameter unit; `details` has the error due to the choice of images."""
        return super().measure(subject)
