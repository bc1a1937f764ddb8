"""Narrowing a sweep on the command line, and sweeps of the user's own, as people write them."""

from __future__ import annotations

import re

import pytest

MINE = """
hydra:
  sweeper:
    params:
      metric: sharpness,parameters
      metric.rho: 0.1
      expansion: none,net2wider
      expansion.factor: 2,3
    pairs:
      - model: mlp,vit
        training: sgd,adamw
        model.heads: 2,4
    exclude:
      - model: vit
        metric: sharpness
"""
BODY = "defaults: [override /model: vit]\nmodel: {heads: 4}\nhydra: {sweeper: {params: {metric: parameters}}}\n"


@pytest.fixture
def planned(mmbench_here, tmp_path):
    """Plans a sweep of the user's own folder."""
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "results").mkdir()

    def plan(text, *arguments):
        if text is not None:
            (tmp_path / "sweeps" / "mine.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
        return mmbench_here("plan", "-cd", ".", "sweeps=mine", "results=other", *arguments)

    return plan


@pytest.mark.parametrize(
    ("arguments", "runs"),
    [
        ([], 9),
        (["metric=parameters"], 6),
        (["metric=hessian_trace"], 6),
        (["expansion=none"], 3),
        (["expansion=none", "metric=parameters"], 2),
        (["model=vit"], 3),
        (["model=mlp"], 6),
        (["training=adamw"], 3),
        (["model=vit", "metric=parameters", "expansion=net2wider", "expansion.factor=2"], 1),
    ],
    ids=str,
)
def test_options_of_choices_that_are_left_out_are_dropped(planned, arguments, runs):
    done = planned(MINE, *arguments)
    assert re.match(rf"(\d+ of .*\n)?{runs} runs: ", done.stdout), done.stdout + done.stderr
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["metric=parameters", "metric.rho=0.2"], "option metric.rho = 'rho' is unknown"),
        (["expansion=none", "expansion.factor=2"], "option expansion.factor = 'factor' is unknown"),
        (["metric=parameters", "metric.roh=0.2"], "option metric.roh = 'roh' is unknown"),
        (["model=cnn"], "model=cnn: hydra.sweeper.pairs has no such value; choose among model=mlp, model=vit"),
        (["metric=sharpness", "model=vit"], "hydra.sweeper.exclude leaves none of the"),
    ],
    ids=str,
)
def test_what_the_user_typed_and_nothing_has_is_refused(planned, arguments, said):
    done = planned(MINE, *arguments)
    assert done.returncode == 2
    assert said in done.stderr


def test_a_typo_of_the_sweep_itself_is_refused_however_it_is_narrowed(planned):
    typo = MINE.replace("metric.rho", "metric.roh")
    for arguments in ([], ["metric=parameters"], ["metric=hessian_trace"]):
        assert "option metric.roh = 'roh' is unknown" in planned(typo, *arguments).stderr


def test_what_the_body_of_a_sweep_sets_is_dropped_with_its_choice(planned):
    assert "1 runs: 1 defined" in planned(BODY).stdout
    assert "1 runs: 1 defined" in planned(BODY, "model=mlp").stdout
    assert "option model.heads = 'heads' is unknown" in planned(BODY, "model=mlp", "model.heads=2").stderr
    assert "option model.hedas = 'hedas' is unknown" in planned(BODY.replace("heads", "hedas")).stderr


def test_a_value_that_the_sweep_sets_and_the_choice_refuses_is_told_as_the_sweeps(planned):
    sets = "hydra: {sweeper: {params: {dataset: clusters, dataset.train_size: 1500, metric: parameters}}}"
    done = planned(sets, "dataset=digits")
    assert "dataset.train_size = 1500 is not allowed" in done.stderr
    assert "the sweep sets it, and dataset.train_size=VALUE on the command line replaces that" in done.stderr
    assert "1 runs: 1 defined" in planned(sets, "dataset=digits", "dataset.train_size=200").stdout


@pytest.mark.parametrize("narrowed", ["model=mlp", "metric=sharpness", "expansion=none"])
def test_a_sweep_of_ours_can_be_narrowed(mmbench_here, narrowed):
    done = mmbench_here("plan", "sweeps=quickstart", narrowed)
    assert "runs:" in done.stdout, done.stderr


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("hydra:\n  sweeper: [\n", "mine.yaml is not a YAML file: while parsing"),
        ("seed: 1\nseed: 2\n", "mine.yaml is not a YAML file: while constructing a mapping"),
        (b"\xff\xfe", "mine.yaml is not a YAML file: 'utf-8' codec"),
        ("- a\n", "mine.yaml holds a list; it must hold keys and their values"),
        ("hydra: {sweeper: {params: {training: null}}}", "training = null is not a choice; choose one of: adamw"),
        ("hydra: {sweeper: {prams: {seed: 1}}}", "did you mean 'params'?"),
        ("defaults: [/sweeps/quickstrat]", "'quickstrat' is unknown; did you mean 'quickstart'?"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_a_mistake_in_a_sweep_file_is_told_without_a_trace(planned, text, said):
    done = planned(text)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("text", ['hydra: {sweeper: {params: {seed: "0,1"}}}', "# @package _global_\nseed: 3\n", ""])
def test_a_sweep_file_needs_no_header(planned, text):
    assert "runs:" in planned(text).stdout


def test_an_unknown_sweep_lists_the_users_own(planned, mmbench_here, tmp_path):
    (tmp_path / "sweeps" / "lab").mkdir()
    (tmp_path / "sweeps" / "lab" / "deep.yaml").write_text("seed: 1\n")
    unknown = mmbench_here("plan", "-cd", ".", "sweeps=lab/depe")
    assert "did you mean 'lab/deep'?" in unknown.stderr
    assert "quickstart" in unknown.stderr
    assert "-cd . would find ./sweeps/lab/deep.yaml" in mmbench_here("plan", "sweeps=lab/deep").stderr
    assert "which is not a folder" in mmbench_here("plan", "-cd", "nowhere", "sweeps=lab/deep").stderr


@pytest.mark.parametrize("value", ["~/x", "'~/x'", "[~/x,~/y]"])
def test_a_path_may_begin_at_home(mmbench_here, tmp_path, monkeypatch, value):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    told = mmbench_here("status" if "," not in value else "analyze", f"results={value}").stderr
    assert f"results = {str(tmp_path / 'home' / 'x')!r}" in " ".join(told.split())


def test_many_values_of_a_sweep_that_are_all_wrong_are_told_in_a_few_lines(mmbench_here):
    done = mmbench_here("plan", "seed=range(0,1e3)", "metric=parameters")
    assert done.returncode == 2
    assert "seed = 0.0 is not allowed: must be an integer" in done.stderr
    assert "and 9" in done.stderr
    assert len(done.stderr.splitlines()) < 20
