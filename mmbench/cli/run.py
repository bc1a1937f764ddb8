"""One run; with -m a multirun; with -m sweeps=NAME a sweep.

usage: mmbench run [-m] [OVERRIDES]

Train a base model, expand it, measure the expanded model, train it, and store the record. Stored results are not
computed again. With -m, comma-separated values are swept, and all jobs are checked before the first starts.

  mmbench run model=resnet expansion=zero_pad expansion.factor=1.5 metric=sharpness
  mmbench run -m model=mlp,resnet expansion=none,net2wider metric='glob(*)' seed=0,1
  mmbench run -m sweeps=quickstart results=my_results
  mmbench run -m -cd . sweeps=mine             a sweep of your own, in ./sweeps/mine.yaml
  mmbench run expansion=net2wider --cfg job    show the composed config, run nothing

{groups}
With tracker=wandb, each trained model becomes a run in Weights & Biases as soon as it is finished: see mmbench track.
Other keys: results (folder), seed, device (auto, cpu, cuda, cuda:N), threads, deterministic; hydra.launcher.slots
(workers of a sweep). Flags of Hydra (--cfg, --package, -cd, --info, ...) work too: see --hydra-help.
"""

from __future__ import annotations

from mmbench.cli.compose import MULTIRUN, SHOW, hand_over, split
from mmbench.errors import ConfigError

MANY_OR_NONE = {*MULTIRUN, *SHOW}
"""Flags that allow sweeps=NAME: they start the sweep, or only show it."""


def command(arguments: list[str]) -> int:
    """Run it."""
    flags, overrides = split(arguments)
    if any(override.startswith("sweeps=") for override in overrides) and not MANY_OR_NONE & set(flags):
        raise ConfigError("sweeps=NAME makes many runs: add -m to start them, or use mmbench plan to see them")
    return hand_over("run", [*flags, *overrides])
