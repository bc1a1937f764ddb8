from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf

from mmbench.cli import sources
from mmbench.data.digits import Digits
from mmbench.errors import UndefinedError
from mmbench.expansions.base import EXPANSIONS
from mmbench.models.base import MODELS
from mmbench.paths import choices, root

from .data.conftest import encode, noise

FROM_FILES = [
    name
    for name in choices("sweeps")
    if "dataset.path" in (root() / "sweeps" / f"{name}.yaml").read_text().splitlines()[1]
]
"""Sweeps over data that are not here."""
PAPER = [name for name in choices("sweeps") if name.startswith("paper/")]
RIVALS = {"manifold", "synflow", "jacob_cov", "grasp", "grad_norm", "snip", "sotl_e"}
BASELINES = {"parameters", "layer_width", "hessian_trace", "sharpness", "loss_after_k_steps", "random"}


@pytest.fixture(scope="module")
def cifar(tmp_path_factory):
    """Folders with as many rows as CIFAR-10 and CIFAR-100, all of one image."""
    folders = {}
    for classes in (10, 100):
        folders[classes] = tmp_path_factory.mktemp(f"cifar{classes}")
        for split, count in (("train", 50_000), ("test", 10_000)):
            image = {"bytes": encode(noise(1, (32, 32))[0])}
            table = pa.table({"img": pa.array([image]).take([0] * count), "label": np.arange(count) % classes})
            pq.write_table(table, folders[classes] / f"{split}.parquet", use_dictionary=True)
    return folders


@pytest.mark.parametrize("name", choices("sweeps"))
def test_a_sweep_file_has_its_command_its_job_count_and_its_question(name, mmbench_here, cifar):
    lines = (root() / "sweeps" / f"{name}.yaml").read_text().splitlines()
    assert lines[0] == "# @package _global_"
    assert lines[1].startswith(f"# mmbench run -m sweeps={name}")
    count = int(re.match(r"# (\d+) runs", lines[2])[1])
    assert "?" in "".join(line for line in lines if line.startswith("#"))
    data = [f"dataset.path={cifar[100 if 'cifar100' in name else 10]}"] if name in FROM_FILES else []
    plan = mmbench_here("plan", f"sweeps={name}", *data)
    assert f"{count} runs:" in plan.stdout, plan.stdout + plan.stderr
    skipped = re.match(r"# \d+ runs, (\d+) of them skipped", lines[2])
    assert f"{skipped[1] if skipped else 0} skipped" in plan.stdout


@pytest.fixture(scope="module")
def sweeper():
    """The sweeper's settings of a sweep, as Hydra composes them."""
    sources.register()
    with initialize_config_dir(str(root() / "conf"), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        yield lambda name: OmegaConf.to_container(
            loader.load_configuration("config", [f"sweeps={name}"], RunMode.MULTIRUN).hydra.sweeper
        )


@pytest.mark.parametrize("name", PAPER)
def test_a_sweep_of_the_paper_follows_its_protocol(name, sweeper):
    params = sweeper(name)["params"]
    assert set(params["metric"].split(",")) == RIVALS | BASELINES
    assert params["metric.norm"] == "layers"
    assert ("metric.batch_norm" in params) == ("resnet" in name), "the plain networks have no batch norm"
    if name == "paper/small":
        return
    sizes = [params[f"dataset.{part}_size"] for part in ("train", "validation", "test")]
    assert (sizes, params["training.epochs"]) == ([40_000, 10_000, 10_000], 500)
    assert (params["metric.nodes"], params["metric.images"], params["seed"]) == (1000, 512, "range(10)")


def test_the_small_sweep_is_the_first_cell_with_smaller_numbers(sweeper):
    small, whole = sweeper("paper/small")["params"], sweeper("paper/cnn_cifar10")["params"]
    assert whole.keys() | {"training.batch_size"} == small.keys()
    changed = {key for key in whole if small[key] != whole[key]}
    sizes = {f"dataset.{part}_size" for part in ("train", "validation", "test")}
    assert changed == sizes | {"training.epochs", "metric.after", "metric.nodes", "metric.images", "seed"}
    assert all(small[key] < whole[key] for key in changed - {"metric.after", "seed"})


@pytest.mark.parametrize("name", [name for name in choices("sweeps") if name.startswith("equal_")])
def test_a_sweep_of_equal_size_puts_every_operator_at_one_count(name):
    config = yaml.safe_load((root() / "sweeps" / f"{name}.yaml").read_text())
    params = config["hydra"]["sweeper"]["params"]
    sizes = {key.removeprefix("model."): yaml.safe_load(v) for key, v in params.items() if key.startswith("model.")}
    family, shape = name.removeprefix("equal_"), Digits().shape()
    base = MODELS[family](**sizes)
    anchor = EXPANSIONS[params["expansion.match"]]().target(base, shape).architecture.parameters(shape)
    swept = params["expansion"].split(",")
    defined_for = {op for op in EXPANSIONS.names() if family in (EXPANSIONS[op].families or [family])}
    assert set(swept) >= defined_for - {"kernel_pad"}, "every operator of the family"
    depth = {"depth": params["expansion.depth"]} if "expansion.depth" in params else {}
    for operator in swept:
        counts = []
        for axis in set(EXPANSIONS[operator].axes()) & set(params["expansion.axis"].split(",")):
            extra = depth if operator == "width_then_depth" else {}
            expansion = EXPANSIONS[operator](axis=axis, match=params["expansion.match"], **extra)
            try:
                counts.append(expansion.target(base, shape).architecture.parameters(shape))
            except UndefinedError as error:
                assert "nearest counts" in str(error) or "LayerNorm" in str(error)
        assert all(abs(count / anchor - 1) <= 0.01 for count in counts), operator
        if operator not in ("none", "gradmax"):  # gradmax grows hidden units, also where that axis is not swept
            assert counts or (operator, family) == ("kernel_pad", "resnet"), operator
