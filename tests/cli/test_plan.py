from __future__ import annotations

import pytest


def test_an_option_that_some_choices_lack_applies_to_the_others(mmbench_here):
    plan = mmbench_here("plan", "expansion=none,zero_pad", "expansion.factor=2,3", "metric=parameters")
    assert "3 runs: 3 defined" in plan.stdout, plan.stdout + plan.stderr
    plan = mmbench_here(
        "plan", "model=vit,resnet", "model.channels=[3,4,6]", "training.clip_norm=null", "metric=parameters"
    )
    assert "2 runs: 2 defined" in plan.stdout, plan.stdout + plan.stderr
    wrong = mmbench_here("plan", "model=vit,resnet", "model.chanels=[3,4,6]")
    assert "model.chanels = 'chanels' is unknown; did you mean 'channels'?" in wrong.stderr


def test_a_sweep_of_ones_own_folder_is_found(mmbench_here, tmp_path):
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "mine.yaml").write_text(
        "# @package _global_\nhydra:\n  sweeper:\n    params:\n      seed: 0,1,2\n"
    )
    plan = mmbench_here("plan", "-cd", ".", "sweeps=mine", "metric=parameters")
    assert "3 runs" in plan.stdout, plan.stdout + plan.stderr


def test_an_axis_counts_for_the_operators_that_have_it(mmbench_here):
    plan = mmbench_here(
        "plan", "expansion=none,scratch,net2wider,net2deeper", "expansion.axis=width,depth", "model=mlp"
    )
    assert "5 runs: 5 defined" in plan.stdout, plan.stdout + plan.stderr


@pytest.mark.parametrize("moments", ["epochs(0,1,2)", "0epochs,epochs(1,2)"])
def test_moments_may_be_given_in_epochs(moments, mmbench_here):
    plan = mmbench_here("plan", "metric=parameters", f"metric.after={moments}", "seed=0,1")
    assert "6 runs: 6 defined" in plan.stdout, plan.stderr


def test_an_option_of_another_choice_is_named_with_that_choice(mmbench_here):
    wrong = mmbench_here("plan", "dataset.path=/x")
    assert wrong.returncode == 2
    assert "option dataset.path = 'path' is unknown" in wrong.stderr
    assert "dataset=parquet has it" in wrong.stderr.replace("\n", " ")
