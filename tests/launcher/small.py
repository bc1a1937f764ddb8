"""Runs of some hundredths of a second, of components that a store can make again from what is written down."""

from __future__ import annotations

import shutil

from mmbench.data.digits import Digits
from mmbench.execute import execute
from mmbench.expansions.identity_block import IdentityBlock
from mmbench.expansions.net2wider import Net2Wider
from mmbench.expansions.zero_pad import ZeroPad
from mmbench.metrics.parameters import Parameters
from mmbench.metrics.random import Random
from mmbench.models.mlp import MLP
from mmbench.run import Run
from mmbench.store.store import Store
from mmbench.sweep import as_json
from mmbench.training.recipes import SGD


def small(seed=0, expansion=None, metric=None, lr=0.05):
    recipe = SGD(steps=5, warmup_steps=1, lr=lr, clip_norm=None)
    return Run(MLP(hidden=(4,)), Digits(train_size=128), expansion or ZeroPad(), metric or Parameters(), recipe, seed)


FIRST = [small(0), small(0, metric=Random()), small(1), small(0, IdentityBlock())]
"""A sweep; an MLP has no residual blocks, so its last run is skipped."""
SECOND = [small(0), small(0, Net2Wider()), small(2)]
"""Another, which shares a run, and a base model beside, with the first."""
DIVERGES = small(3, lr=1e30)


def swept(root, *sweeps):
    """A store in which the sweeps were run, and their names."""
    store = Store(root)
    store.prepare()
    names = []
    for runs in sweeps:
        names.append(store.write_sweep(as_json(runs)))
        for run in runs:
            execute(run, store)
    return store, names


def copied(store, root):
    shutil.copytree(store.root, root)
    return Store(root)
