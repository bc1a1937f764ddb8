"""Imported once by the server that workers are forked from, instead of for seconds in each worker."""

import pandas as pandas
import torch as torch
from timm.models import vision_transformer as vision_transformer
