"""SoTL-E: the sum of the training losses of the most recent E epochs (Ru et al., 2021).

sum of l_i over the last E B steps before the moment, B the steps per epoch and l_i the loss (nats) of step i's batch
under the weights at that step. It needs no measurement of its own: the training has computed all l_i. A network that
trains fast has small losses, so the expected sign is -1.

Of less than E epochs, the mean loss so far times E B is taken, so that moments inside the first epochs are on the same
scale. At moment 0 (`metric.after=0`) there are no losses, and the metric is undefined; so it is in `mmbench.measure`,
which knows no training: there, a `Subject` takes `losses` and `epoch_steps`.
"""

from __future__ import annotations

from pydantic import Field

from mmbench.metrics.base import METRICS, Estimate, Metric
from mmbench.metrics.subject import Subject


@METRICS.register("sotl_e")
class SoTLE(Metric):
    """Summed losses of one training; exact for it, with an unknown error over its order of the images."""

    expected_sign = -1

    epochs: int = Field(1, ge=1)
    """E, the most recent epochs that are summed over."""

    def measure(self, subject: Subject) -> Estimate:
        """The sum in nats."""
        losses, window = subject.losses, self.epochs * subject.epoch_steps
        return Estimate(window * float(losses[-window:].double().mean()), None)
