"""Records without training: rows as a run would leave them behind, and fixtures that write them to a store."""

import hashlib

import numpy as np
import pandas as pd
import pytest

from mmbench.statistics.judge import correlate
from mmbench.store.store import Store

EXPANSIONS = {
    "none": (None, 1.0),
    "scratch": ("width", 2.0),
    "net2wider": ("width", 2.0),
    "zero_pad": ("width", 2.0),
    "random_pad": ("width", 1.5),
    "identity_block": ("depth", 2.0),
}
SIGNS = {"manifold": 1, "hessian_trace": -1, "parameters": 1, "loss_after_k_steps": -1, "random": 0}


def make_record(**changes):
    """A run that is done; `changes` overrides columns."""
    record = {
        "status": "done", "error": None, "model": "mlp", "dataset": "digits", "expansion": "net2wider", "axis": "width",
        "factor": 2.0, "budget": 2.0, "training": "sgd", "seed": 0, "metric": "manifold", "expected_sign": 1,
        "score": 1.0, "score_stderr": 0.1, "metric_seconds": 2.0, "parameters": 2000, "base_parameters": 1000,
        "base_accuracy": 0.8, "final_accuracy": 0.9, "gain": 0.1, "base_loss": 0.5, "final_loss": 0.3,
        "train_seconds": 10.0,
    }  # fmt: skip
    record |= changes
    return {"run_id": hashlib.sha256(repr(sorted(record.items())).encode()).hexdigest()[:16], **record}


def make_points(scores, gains, **changes):
    """One configuration per point, of one metric."""
    lists = {name: value for name, value in changes.items() if isinstance(value, list)}
    return [
        make_record(
            configuration=f"c{changes.get('base_configuration', '')}{place}",
            score=score,
            gain=gain,
            final_accuracy=0.8 + gain,
            **{**changes, **{name: values[place] for name, values in lists.items()}},
        )
        for place, (score, gain) in enumerate(zip(scores, gains, strict=True))
    ]


def make_sweep():
    """Two models, six expansions, five metrics, two seeds; one combination is skipped and one run diverged."""
    draw = np.random.default_rng(0)
    records = []
    for model in ("mlp", "resnet"):
        for expansion, (axis, budget) in EXPANSIONS.items():
            quality = draw.normal(scale=0.01)
            parameters = round(1000 * budget * (1 + draw.uniform(-0.01, 0.01)))
            for seed in (0, 1):
                gain = 0.02 * np.log2(budget) + quality + draw.normal(scale=0.002)
                for metric, sign in SIGNS.items():
                    score = {
                        "manifold": gain + draw.normal(scale=0.003),
                        "hessian_trace": 10 ** (2 - 60 * gain + draw.normal(scale=0.5)),
                        "parameters": parameters,
                        "loss_after_k_steps": 0.5 - gain + draw.normal(scale=0.003),
                        "random": draw.uniform(-1, 1),
                    }[metric]
                    record = make_record(
                        model=model, expansion=expansion, axis=axis, budget=budget, seed=seed, metric=metric,
                        expected_sign=sign, score=float(score), parameters=parameters, gain=float(gain),
                        base_accuracy=0.8 + 0.01 * seed, final_accuracy=float(0.8 + 0.01 * seed + gain), depth=3,
                        configuration=f"{model}-{expansion}", base_configuration=f"base-{model}",
                        arm="control" if expansion in ("none", "scratch") else "expansion",
                    )  # fmt: skip
                    if model == "mlp" and expansion == "identity_block":
                        record |= {"status": "skipped", "error": "no <residual> blocks", "score": None, "gain": None}
                    elif metric == "hessian_trace" and expansion == "zero_pad" and seed == 1:
                        step = 12 if model == "mlp" else 99
                        record |= {"status": "failed", "error": f"diverged at step {step}", "score": None, "gain": None}
                    records.append(record)
    return records


@pytest.fixture(scope="session")
def record():
    return make_record


@pytest.fixture(scope="session")
def points():
    return make_points


@pytest.fixture(scope="session")
def sweep():
    return make_sweep()


@pytest.fixture(scope="session")
def sweep_frame(sweep):
    return pd.DataFrame(sweep)


@pytest.fixture(scope="session")
def sweep_table(sweep_frame):
    return correlate(sweep_frame)


def write_store(records, root):
    """Write records to a new store and return its folder."""
    store = Store(root)
    store.prepare()
    for entry in records:
        store.write_record(entry)
    return store.root


@pytest.fixture
def stored(tmp_path):
    """Write records to a new store and return its folder."""
    return lambda records, name="results": write_store(records, tmp_path / name)
