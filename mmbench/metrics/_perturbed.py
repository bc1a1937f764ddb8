"""What worst-case and average-case sharpness have in common (Andriushchenko et al., 2023)."""

from __future__ import annotations

from pydantic import Field
from torch import Tensor

from mmbench.landscape.perturbations import with_normalised_logits
from mmbench.landscape.surface import Surface
from mmbench.metrics.base import Metric
from mmbench.metrics.subject import Subject


class Perturbed(Metric):
    """The options of both, and what they perturb."""

    adaptive: bool = False
    """Perturb each weight in units of its own size |w|; a weight at zero then stays there."""
    normalise_logits: bool = False
    """Normalise each image's logits to mean 0 and mean square 1 over the classes, so that scale does not count."""
    images: int = Field(256, ge=1)
    """Training images used."""

    def perturbed(self, subject: Subject) -> tuple[Surface, Tensor | None]:
        """The loss, and the unit of each weight (P,), or None where it is 1."""
        surface = subject.surface(self.images)
        scale = surface.point.abs() if self.adaptive else None
        return with_normalised_logits(surface) if self.normalise_logits else surface, scale
