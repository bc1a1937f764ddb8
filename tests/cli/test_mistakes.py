"""Wrong commands, keys and values: what users read."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["rnu"], ["command = 'rnu' is unknown", "did you mean 'run'?"]),
        (["run", "model=mpl"], ["model = 'mpl' is unknown; did you mean 'mlp'?", "resnet"]),
        (["run", "-m", "metric=manifold,sharpnes"], ["'sharpnes' is unknown; did you mean 'sharpness'?"]),
        (["run", "modle=mlp"], ["'modle' is unknown; did you mean 'model'?"]),
        (["run", "metric=sharpness", "metric.roh=1"], ["metric.roh", "did you mean 'rho'?", "batch_size"]),
        (["run", "-m", "seed=0,1", "metric=sharpness", "metric.roh=1"], ["metric.roh", "did you mean 'rho'?"]),
        (["run", "training.lr=-1"], ["training.lr = -1 is not allowed: must be a number > 0"]),
        (["run", "training.lr=fast"], ["training.lr = 'fast'"]),
        (["run", "model=vit", "model.heads=3"], ["model.embed_dim = 32 must be a multiple of model.heads = 3"]),
        (["run", "device=cuda:77"], ["device = 'cuda:77' is not available"]),
        (["run", "dataset=parquet"], ["dataset.path is needed"]),
        (["run", "dataset=parquet", "dataset.path=nowhere"], ["dataset.path = 'nowhere'"]),
        (["run", "-m", "sweeps=quickstrat"], ["'quickstrat' is unknown; did you mean 'quickstart'?"]),
        (["run", "-m", "sweeps=paper/smal"], ["'paper/smal' is unknown; did you mean 'paper/small'?"]),
        (["run", "results="], ["results = ''"]),
        (["run", "seed=[1"], ["seed=[1"]),
        (["run", "sweeps=quickstart"], ["add -m"]),
        (["run", "-m", "metric=glob(zzz*)"], ["matches nothing", "manifold"]),
        (["run", "-m", "results=a,b"], ["results cannot be swept"]),
        (["run", "-m", "sweeps=quickstart,vit"], ["sweeps"]),
        (["run", "training.batch_size=2000"], ["training.batch_size = 2000", "dataset.train_size = 1000"]),
        (["run", "expansion=scratch", "expansion.match=none"], ["expansion.match = 'none' is unknown", "net2wider"]),
        (["run", "expansion=scratch", "expansion.match=stack", "expansion.budget=2"], ["give one"]),
        (["run", "expansion.to.chanels=[3,4]"], ["expansion.to.chanels", "did you mean 'channels'?"]),
        (["run", "-m", "expansion.to.chanels=[3,4]"], ["expansion.to.chanels", "did you mean 'channels'?"]),
        (["run", "expansion=stack", "expansion.axis=width"], ["expansion.axis = 'width'", "must be one of depth"]),
        (["run", "-m", "expansion=stack,scratch", "expansion.axis=widht"], ["expansion.axis = 'widht'"]),
        (
            ["run", "-m", "expansion=stack", "expansion.axis=width,hidden"],
            ["no operator of this sweep has this axis (stack has depth)"],
        ),
        (["run", "expansion=none", "expansion.budget=2"], ["expansion.budget", "there is nothing to set here"]),
        (["run", "results=r [1"], ["needs quotes"]),
        (["status", "--foo"], ["--foo is not a flag"]),
        (["status", "results=nowhere"], ["results = 'nowhere' is not a folder"]),
        (["analyze", "resluts=nowhere"], ["did you mean 'results'?"]),
        (["analyze", "results=[.,nowhere]"], ["results = 'nowhere' is not a folder"]),
        (["analyze", "results=[]"], ["results is an empty list"]),
        (["analyze", "results=.", "where=budgte > 2"], ["where = 'budgte > 2' cannot be understood", "budget"]),
        (["status", "results=[.,.]"], ["results names 2 folders; this command takes one"]),
    ],
    ids=lambda value: " ".join(value) if value[0] in ("run", "status", "analyze", "rnu") else "",
)
def test_a_mistake_gets_a_message_and_no_stack_trace(mmbench_here, tmp_path, arguments, said):
    done = mmbench_here(*arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    assert all(words in done.stderr for words in said), done.stderr
    assert "Traceback" not in done.stderr
    assert "Error executing job" not in done.stderr
    assert not (tmp_path / "results" / "records").exists(), "nothing is started"


TINY = ["model.hidden=[5]", "dataset.train_size=200", "training.steps=20", "training.warmup_steps=2"]


def test_in_a_sweep_all_jobs_are_checked_before_the_first_starts(mmbench_here, tmp_path):
    done = mmbench_here("run", "-m", *TINY, "training.lr=0.1,-1", "seed=0,-5")
    assert done.returncode == 2
    assert "training.lr = -1" in done.stderr
    assert "seed = -5" in done.stderr
    assert not list(tmp_path.rglob("*.json"))


def test_a_folder_of_results_beside_the_command_is_no_group(mmbench_here, tmp_path):
    (tmp_path / "results").mkdir()
    done = mmbench_here("plan", "-cd", ".", "metric=parameters,random", "results=other")
    assert done.returncode == 0
    assert "in other" in done.stdout
