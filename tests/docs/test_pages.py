"""What the README and the pages of docs/ show must work: their links, their Python, their sweeps and their commands."""

import re
import shlex
from pathlib import Path

import pandas as pd
import pytest
import timm
import torch
from omegaconf import OmegaConf

import mmbench
from mmbench.data.base import DATASETS
from mmbench.data.digits import Digits
from mmbench.expansions.base import EXPANSIONS
from mmbench.metrics.base import METRICS
from mmbench.models.mlp import MLP

ROOT = Path(__file__).parents[2]
PAGES = {path.name: path.read_text() for path in [*ROOT.glob("*.md"), *sorted((ROOT / "docs").glob("*.md"))]}
LANGUAGES = {"", "python", "yaml", "toml", "text"}


def blocks(page, language):
    """The code blocks of a page in one language."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", PAGES[page], flags=re.DOTALL | re.MULTILINE)
    return [code for name, code in found if name == language]


@pytest.fixture(scope="module")
def digits():
    return Digits().load()


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    """Inside docs/ mkdocs checks the anchors, too."""
    folder = ROOT if (ROOT / page).exists() else ROOT / "docs"
    for target in re.findall(r"\]\(((?!http|#)[^)#]+)[^)]*\)", PAGES[page]):
        assert (folder / target).exists(), target


@pytest.mark.parametrize("page", PAGES)
def test_every_block_is_in_a_language_that_is_tested(page):
    opened = re.findall(r"^```(.*)$", PAGES[page], flags=re.MULTILINE)[::2]
    assert set(opened) <= LANGUAGES


def test_all_python_is_run_here():
    shown = {page for page in PAGES if blocks(page, "python")}
    assert shown == {"README.md", "advise.md", "components.md", "grow.md", "python.md"}


def test_readme():
    (block,) = blocks("README.md", "python")
    names = {}
    exec(block, names)
    assert_same_function(names["model"], names["large"])


def test_grow(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    model = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=10)
    torch.save(model.state_dict(), "tiny.pth")
    names = {}
    for block in blocks("grow.md", "python"):
        exec(block, names)
    images = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(names["model"](images), model(images)), "the file's weights"
        assert torch.equal(names["again"](images), names["large"](images))
    for larger in ("large", "twice", "nearly", "equal", "exact"):
        assert_same_function(names["model"], names[larger])
    small = sum(p.numel() for p in model.parameters())
    for name, multiple in {"twice": 2.0, "nearly": 1.91}.items():
        assert round(sum(p.numel() for p in names[name].parameters()) / small, 2) == multiple


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "python")])
def test_comments_offer_no_options_since_they_are_not_run(page):
    comments = [comment for block in blocks(page, "python") for comment in re.findall(r"#(.*)", block)]
    assert [comment for comment in comments if re.search(r"\w+=[\w\"\[]", comment)] == []


def assert_same_function(model, large):
    images = torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        assert torch.allclose(large(images), model(images), atol=1e-5)


def test_python(monkeypatch, tmp_path, digits):
    (tmp_path / "results" / "records").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    names = {"images": digits.train.images, "labels": digits.train.labels, "model": MLP().build(digits.shape)}
    (block,) = blocks("python.md", "python")
    exec(block, names)
    assert torch.allclose(names["large"](names["images"]), names["model"](names["images"]), atol=1e-5)
    assert names["trace"].value > 0
    assert all(estimate.value > 0 for estimate in names["scores"].values())
    assert names["advice"]["score"].notna().all()


def test_advise(capsys):
    """With shorter trainings and fewer operators."""
    shown, names = blocks("advise.md", "python"), {}
    assert len(shown) == 3
    for block in shown:
        shorter = block.replace("SGD(steps=200)", "SGD(steps=60)")
        exec(shorter.replace("training=recipe", "training=recipe, expansions=['net2wider', 'zero_pad']"), names)
    advice, printed = names["advice"], capsys.readouterr().out
    assert isinstance(advice, pd.DataFrame)
    assert advice["rank"].iloc[0] == 1
    assert advice["score"].notna().all()
    assert len(names["gains"]) == 2
    assert "base model: 0." in printed
    assert f"{advice['expansion'].iloc[0]} {advice['axis'].iloc[0]}: gain " in printed


@pytest.fixture
def component_examples(monkeypatch):
    """The examples of the page on components, registered while the test runs; the last block, on tests, is left out."""
    for registry in (METRICS, EXPANSIONS, DATASETS):
        registry.names()  # what mmbench has is found first, so that only the examples are forgotten afterwards
        monkeypatch.setattr(registry, "_classes", dict(registry._classes))
    for block in blocks("components.md", "python")[:-1]:
        exec(block, {"__name__": "example"})


@pytest.mark.usefixtures("component_examples")
def test_components(digits):
    model = MLP(hidden=(8, 8)).build(digits.shape)
    measured = mmbench.measure(model, (digits.train.images, digits.train.labels), "gradient_norm", images=64)
    assert measured.value > 0

    options = OmegaConf.create(blocks("components.md", "yaml")[0])
    assert METRICS.create(OmegaConf.to_container(options)) == METRICS["gradient_norm"]()

    mixer = timm.models.MlpMixer(img_size=32, patch_size=16, num_blocks=2, embed_dim=8, num_classes=3)
    assert len(mmbench.expand(mixer, "in_place", factor=2.0).blocks) == 4

    noise = DATASETS.create({"name": "noise"})
    assert noise.load().shape == noise.shape()


def test_components_contract_test_is_a_test():
    names = {}
    exec(blocks("components.md", "python")[-1], names)
    contract = names["TestGradientNorm"]
    assert any(name.startswith("test_") for name in dir(contract))


def test_sweep(mmbench_here, tmp_path):
    (sweep,) = blocks("sweep.md", "yaml")
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "mine.yaml").write_text(sweep)
    done = mmbench_here("plan", "-cd", ".", "sweeps=mine")
    assert done.returncode == 0, done.stderr
    metrics, seeds = len(METRICS.names()), 3
    assert f"{metrics * seeds} of {4 * metrics * seeds} combinations are left out" in done.stdout
    assert f"{3 * metrics * seeds} runs:" in done.stdout


def commands():
    """All lines that start with mmbench, without comments; those of the catalogue of sweeps are tested elsewhere."""
    for page in PAGES.keys() - {"sweeps.md"}:
        for block in blocks(page, ""):
            for line in block.replace("\\\n", " ").splitlines():
                parts = [part.strip().removeprefix(".venv/bin/") for part in line.split("&&")]
                yield from (tuple(shlex.split(part, comments=True)) for part in parts if part.startswith("mmbench "))


SHOWN = sorted(set(commands()))
OWN = {
    *("where", "all", "forget", "yes", "by", "target", "format"),
    *("model.checkpoint", "budget", "metrics", "expansions", "seconds", "save", "evidence"),
}
"""Keys of single commands, which are no part of a run's config."""
ELSEWHERE = re.compile(r"hydra|slurm|ray|glob|gradient_norm|--help|[A-Z]{4}|RUN")
"""Extras that may be missing, sweeps over values, the example's metric, and placeholders: not composed here."""


@pytest.mark.parametrize("command", sorted({words[1] for words in SHOWN} - {"COMMAND"}))
def test_commands_exist(command, mmbench_here):
    done = mmbench_here(command, "--help")
    assert done.returncode == 0, done.stderr


def overrides(words):
    """The part of a command that is a run's config."""
    return tuple(word for word in words[2:] if word != "-m" and word.split("=")[0] not in OWN)


COMPOSED = {overrides(words) for words in SHOWN if not ELSEWHERE.search(" ".join(words))} - {()}


@pytest.mark.parametrize("arguments", sorted(COMPOSED), ids=" ".join)
def test_overrides_compose(arguments, mmbench_here, tmp_path):
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "mine.yaml").write_text("# @package _global_\nseed: 3\n")
    done = mmbench_here("run", *arguments, *(() if "--cfg" in arguments else ("--cfg", "job")))
    assert done.returncode == 0, done.stderr
