"""Advice: every operator that fits is ranked, noise is told from difference, and nothing is lost on the way."""

from __future__ import annotations

import csv
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import mmbench
from mmbench.advice.advise import DRAWS_PER_ROUND, ROUNDS, _Measurer
from mmbench.advice.arguments import asked
from mmbench.advice.candidates import find_candidates
from mmbench.advice.time_budget import TimeBudget
from mmbench.data.base import InputShape
from mmbench.errors import MmbenchError
from mmbench.expansions.base import EXPANSIONS
from mmbench.models.base import MODELS
from mmbench.models.reading import architecture_of
from mmbench.models.saving import load
from mmbench.training.recipes import SGD

SMALL = {"vit": {"layers": 1, "embed_dim": 8, "hidden": 12}, "resnet": {"channels": [2, 3, 4]},
         "mixer": {"layers": 1, "embed_dim": 8, "token_hidden": 6, "channel_hidden": 12}, "mlp": {},
         "convnext": {"channels": [2, 4, 4, 4]}, "cnn": {"channels": [3, 4], "hidden": [6]}}  # fmt: skip
QUICK = SGD(steps=6, warmup_steps=1, batch_size=10)


def network(family: str = "mlp") -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return MODELS.create({"name": family, **SMALL[family]}).build(InputShape(1, 8, 10)).eval()


def data(count: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(count, 1, 8, 8, generator=generator), torch.arange(count) % 10


@pytest.mark.parametrize("family", MODELS.names())
def test_every_operator_is_ranked_or_has_its_reason(family: str) -> None:
    model = network(family)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    quick = [name for name in EXPANSIONS.names() if EXPANSIONS[name].arm == "expansion" and name != "ligo"]  # it learns
    table = mmbench.advise(model, data(), budget=2.0, metrics="training_loss", training=QUICK, expansions=quick)
    assert table["rank"].tolist() == list(range(1, len(table) + 1))
    assert table["score"].is_monotonic_increasing  # of a loss the smallest is the best
    count = architecture_of(model)[0].parameters(InputShape(1, 8, 10))
    assert ((table["parameters"] / (2 * count) - 1).abs() <= 0.05).all()
    ways = {(name, axis) for name, axis in zip(table["expansion"], table["axis"], strict=True)}
    assert len(ways) == len(table) >= 3
    assert all(len(out["reason"]) > 10 for out in table.attrs["left_out"])
    assert (table["train_seconds"] > 0).all()
    assert 0 < table["seconds"].sum() <= table.attrs["seconds"]
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    for row in table.itertuples():  # what is advised can be made
        large = mmbench.expand(model, row.expansion, axis=row.axis, budget=2.0, tolerance=0.05, data=data())
        assert sum(p.numel() for p in large.parameters()) == row.parameters


def test_a_score_is_the_metric_of_the_expanded_network() -> None:
    model, (images, labels) = network(), data()
    table = mmbench.advise(model, (images, labels), metrics="training_loss", expansions=["net2wider"], seed=5)
    for row in table.itertuples():
        large = mmbench.expand(model, row.expansion, axis=row.axis, budget=2.0, tolerance=0.05, seed=5)
        assert row.score == pytest.approx(mmbench.measure(large, (images, labels), "training_loss").value, rel=1e-6)


def test_the_same_seed_gives_the_same_advice_and_a_loader_the_same_as_tensors() -> None:
    images, labels = data()
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(images, labels), batch_size=7)
    options = {
        "metrics": "injected_randomness",
        "expansions": ["random_pad", "net2wider"],
        "training": QUICK,
        "seed": 3,
    }
    first, again, loaded = (mmbench.advise(network(), given, **options)
                            for given in ((images, labels), (images, labels), loader))  # fmt: skip
    columns = ["rank", "expansion", "axis", "score", "score_stderr", "rounds"]
    pd.testing.assert_frame_equal(first[columns], again[columns])
    pd.testing.assert_frame_equal(first[columns], loaded[columns])
    other = mmbench.advise(network(), (images, labels), **{**options, "seed": 4})
    assert other["score"].tolist() != first["score"].tolist()


def test_by_default_it_ranks_by_the_score_that_predicted_gains_best_so_far() -> None:
    table = mmbench.advise(network(), data(), expansions=["net2wider", "random_pad", "zero_pad"], training=QUICK)
    assert table.attrs["metrics"] == ["injected_randomness()"]
    assert table["expansion"].iloc[0] == "random_pad"
    assert (table["score"] > 0).all()


def test_no_more_rounds_than_there_are() -> None:
    table = mmbench.advise(network(), data(), metrics="random", training=QUICK)
    assert 1 <= table["rounds"].min() <= table["rounds"].max() <= ROUNDS
    assert table["rounds"].max() > 1


def test_a_candidate_that_fails_has_its_reason_and_the_others_are_ranked(monkeypatch: pytest.MonkeyPatch) -> None:
    from mmbench.expansions import apply

    real = apply.Expander

    def failing(model: Any, operator: Any, **given: Any) -> Any:
        if operator.name == "random_pad":
            raise MmbenchError("this one does not work")
        if operator.name == "net2deeper":
            raise RuntimeError("mat1 and mat2 shapes\ncannot be multiplied")
        return real(model, operator, **given)

    monkeypatch.setattr("mmbench.advice.advise.Expander", failing)
    table = mmbench.advise(network(), data(), metrics="training_loss", training=QUICK)
    failed = table[table["rank"].isna()].set_index("expansion")["reason"]
    assert set(failed[failed.index == "random_pad"]) == {"this one does not work"}
    assert failed["net2deeper"] == "RuntimeError: mat1 and mat2 shapes"
    assert table["rank"].notna().sum() >= 2


@pytest.mark.parametrize("save", ["best", "all"])
def test_candidates_are_saved_ready_to_train(save: str, tmp_path: Path) -> None:
    model, (images, labels) = network("resnet"), data()
    table = mmbench.advise(
        model, (images, labels), metrics="parameters", expansions=["net2wider", "zero_pad"], save=save,
        folder=tmp_path / "new", seed=2,
    )  # fmt: skip
    written = [Path(name) for name in table["file"].dropna()]
    assert len(written) == (1 if save == "best" else len(table))
    assert sorted(written) == sorted((tmp_path / "new").iterdir())
    with safe_open(written[0], "pt") as file:
        again = mmbench.build(json.loads(file.metadata()["mmbench"]))
    again.load_state_dict(load_file(written[0]))
    large = mmbench.expand(model, table["expansion"][0], axis=table["axis"][0], budget=2.0, tolerance=0.05, seed=2)
    assert torch.equal(again.eval()(images), large.eval()(images))


def test_candidates_that_are_the_same_network_are_measured_once() -> None:
    model, seen = network("resnet"), []
    table = mmbench.advise(
        model, data(), metrics="parameters", expansions="net2wider,net2net,width_then_depth",
        progress=lambda items, description: seen.append(description) or items,
    )  # fmt: skip
    same = {f"{out['expansion']} {out['axis']}": out["reason"] for out in table.attrs["left_out"]}
    assert same["net2wider convolutions"] == "the same network as net2wider width"
    assert same["width_then_depth hidden"].startswith("the same network as net2net ")
    ways = set(table["expansion"] + " " + table["axis"])
    assert "net2wider width" in ways and not ways & same.keys()
    large = {}
    for name in ("net2wider width", "net2wider convolutions", "net2wider hidden"):
        operator, axis = name.split()
        grown = mmbench.expand(model, operator, axis=axis, budget=2.0, tolerance=0.05)
        large[name] = torch.cat([tensor.flatten().double() for tensor in grown.state_dict().values()])
    assert torch.equal(large["net2wider width"], large["net2wider convolutions"])
    assert not torch.equal(large["net2wider width"], large["net2wider hidden"])
    assert table.attrs["measured"] == table.attrs["candidates"] == len(table)
    assert seen[0].startswith("measuring ")


@pytest.mark.parametrize("family", MODELS.names())
def test_no_two_candidates_are_the_same_network(family: str, tmp_path: Path) -> None:
    quick = [name for name in EXPANSIONS.names() if EXPANSIONS[name].arm == "expansion" and name != "ligo"]  # it learns
    table = mmbench.advise(
        network(family), data(), metrics="parameters", expansions=quick, training=QUICK, save="all", folder=tmp_path
    )
    contents = set()
    for name in table["file"]:
        with safe_open(name, "pt") as file:
            built = file.metadata()["mmbench"]
        contents.add((built, *(tensor.numpy().tobytes() for tensor in load_file(name).values())))
    assert len(contents) == len(table) >= 3


def test_controls_are_no_candidates() -> None:
    base, shape = architecture_of(network())
    candidates, left_out = find_candidates(base, shape, 2.0)
    names = {one.operator.name for one in candidates} | {out["expansion"] for out in left_out}
    assert not names & {"none", "scratch", "scratch_matched"}
    assert {"net2wider", "ligo", "identity_block"} <= names


# The command.


@pytest.fixture(scope="module")
def advised(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("advise")
    save_file({name: tensor.clone() for name, tensor in network().state_dict().items()}, folder / "mine.safetensors")
    command = [
        sys.executable, "-m", "mmbench", "advise", "model.checkpoint=mine.safetensors", "metrics=parameters,depth",
        "budget=1.8", "save=best", "training.steps=20", "training.warmup_steps=2",
    ]  # fmt: skip
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    return folder, done


def test_the_command_prints_and_writes_the_ranking(advised: Any) -> None:
    folder, done = advised
    assert done.returncode == 0, done.stderr
    assert "to 1.8 times its parameters, on digits" in done.stdout
    assert "There is no evidence: results holds no sweeps" in done.stdout
    with (folder / "results/advice/advice.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["rank"] for row in rows] == [str(i) for i in range(1, len(rows) + 1)]
    assert all(row["expansion"] in done.stdout for row in rows)
    page = (folder / "results/advice/advice.html").read_text()
    assert all(row["expansion"] in page for row in rows)
    assert "data:image/svg+xml" in page
    assert "Left out" in page
    assert "http" not in page.replace("http-equiv", "")
    assert Path(rows[0]["file"]).name in {path.name for path in (folder / "results/advice").iterdir()}


def test_what_the_command_saved_is_a_checkpoint_with_its_own_sizes(
    advised: Any, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from mmbench.cli.main import main

    monkeypatch.chdir(advised[0])
    (file,) = Path("results/advice").glob("*.safetensors")
    parameters = sum(tensor.numel() for tensor in load(file).parameters())
    rest = ["metrics=parameters", "expansions=stack,net2wider", "training.steps=20", "training.warmup_steps=2"]
    with pytest.raises(SystemExit) as ended:
        main(["advise", f"model.checkpoint={file}", "results=again", *rest])
    assert not ended.value.code
    with Path("again/advice/advice.csv").open() as table:
        counts = [float(row["parameters"]) for row in csv.DictReader(table)]
    assert counts == pytest.approx([2 * parameters] * len(counts), rel=0.05)
    with pytest.raises(SystemExit):
        main(["advise", f"model.checkpoint={file}", "model.hidden=[3]"])
    assert "model.hidden = [3] contradicts model.checkpoint" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "model.checkpoint is missing"),
        (["model.checkpoint=nothing.pt"], "is not a file"),
        (["model.checkpoint=x", "budget=much"], "budget = 'much' is not allowed: must be a number"),
        (["model.checkpoint=x", "evidence=/nowhere"], "does not exist"),
        (["model.checkpoint=x", "model=nope"], "model = 'nope' is unknown"),
        (["model.checkpoint=x", "--force"], "--force is not a flag of this command"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_the_command_tells_what_is_wrong(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    from mmbench.cli.main import main

    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["advise", *arguments])
    assert ended.value.code == 2
    assert message in capsys.readouterr().err.replace("\n", " ")
    assert not list(tmp_path.iterdir())


def test_the_package_offers_it() -> None:
    """A module of the same name would take its place as soon as it is imported."""
    assert callable(mmbench.advise)
    assert "advise" in mmbench.__all__


def test_every_round_has_expansions_of_its_own_beside_the_candidate() -> None:
    model = network()
    candidate = find_candidates(*architecture_of(model), 2.0, names=["random_pad"])[0][0]
    names = ("metrics", "expansions", "seconds", "tolerance", "seed", "save", "progress")
    given = asked({**dict.fromkeys(names), "budget": 2, "training": QUICK, "folder": "."})
    measurer = _Measurer(model, data(), given, None, TimeBudget())
    for number in range(2):
        measurer.measure(candidate, number, math.inf)
    assert not candidate.reason
    assert candidate.expanders.keys() == {0, 1, 2, DRAWS_PER_ROUND + 1, DRAWS_PER_ROUND + 2}
    first, second = candidate.estimates["injected_randomness"]
    assert first.value != second.value
