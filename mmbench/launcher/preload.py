"""What takes seconds to load and every run may need; the server that workers are forked from imports this once."""

import pkgutil
from importlib import import_module

# The parts of scipy are loaded here, since they would count as the time of the first metric that imports them;
# torch._dynamo is loaded by some layers of torch.
import scipy.linalg  # noqa: F401
import scipy.optimize  # noqa: F401
import scipy.special  # noqa: F401
import timm  # noqa: F401
import torch._dynamo  # noqa: F401
import torch.utils.flop_counter  # noqa: F401

from mmbench import landscape, models
from mmbench.launcher import worker  # noqa: F401
from mmbench.models.base import MODELS

for package in (models, landscape):  # any family may be asked to read a network
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        import_module(module.name)
MODELS.names()
