"""Loads slow modules that any run may need; imported once by the server that workers are forked from."""

import pkgutil
from importlib import import_module

from mmbench import landscape, models
from mmbench.models.base import MODELS

SLOW = (
    *("scipy.linalg", "scipy.optimize", "scipy.special", "sklearn.datasets", "sklearn.model_selection"),
    *("timm", "torch._dynamo", "torch.utils.flop_counter"),
)
"""Modules that mmbench or torch import on first use; loading them would count as that run's time."""
OURS = [
    module.name  # any model family may be asked to read a network
    for package in (models, landscape)
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")
]

for name in (*SLOW, *OURS, "mmbench.launcher.worker"):
    import_module(name)
MODELS.names()  # those of other packages, too
