"""What takes seconds to load and every run may need; the server that workers are forked from imports this once."""

import pkgutil
from importlib import import_module

import scipy.linalg  # loaded here, since it would count as the time of the first metric that imports it
import scipy.optimize
import scipy.special  # noqa: F401
import timm  # noqa: F401
import torch._dynamo  # some layers of torch load it
import torch.utils.flop_counter  # noqa: F401

from mmbench import landscape, models
from mmbench.launcher import worker  # noqa: F401
from mmbench.models.base import MODELS

for package in (models, landscape):  # any family may be asked to read a network
    for module in pkgutil.iter_modules(package.__path__, f"{package.__name__}."):
        import_module(module.name)
MODELS.names()
