"""From overrides and a sweep's YAML to runs: as Hydra composes them, and what pairs, exclude and plain mistakes do."""

from __future__ import annotations

import itertools

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import OmegaConf

from mmbench.cli import sources
from mmbench.config import GROUPS
from mmbench.errors import ConfigError
from mmbench.launcher.compose import Composer
from mmbench.launcher.plugins import BaseLauncher, BaseSweeper
from mmbench.launcher.pool import Pool
from mmbench.paths import choices, root
from mmbench.store.store import Store

TINY = ["dataset.train_size=128", "training.steps=5", "training.warmup_steps=1"]


@pytest.fixture(scope="module")
def hydra():
    """Hydra's loader over conf/, and the config of a multirun."""
    sources.register()
    with initialize_config_dir(str(root() / "conf"), version_base="1.3"):
        loader = GlobalHydra.instance().config_loader()
        yield loader, loader.load_configuration("config", [], RunMode.MULTIRUN)


@pytest.fixture(scope="module")
def composer(hydra):
    return Composer(*hydra)


class Here(BaseLauncher):
    """A launcher that keeps what it is to launch."""

    def launch_runs(self, runs, settings):
        self.runs = runs


@pytest.fixture
def runs_of(hydra):
    """The runs of a sweep with these params, pairs and exclude."""

    def runs(*arguments, **sweeper):
        found = BaseSweeper(**sweeper)
        found.config, found.hydra_context, found.launcher = hydra[1], type("Context", (), {}), Here()
        found.hydra_context.config_loader = hydra[0]
        found.sweep([*TINY, *arguments])
        return found.launcher.runs

    return runs


def by_hydra(hydra, overrides):
    """The job's config as Hydra and OmegaConf make it, without Hydra's own part."""
    loader, master = hydra
    config = loader.load_sweep_config(master, overrides)
    return {str(k): v for k, v in OmegaConf.to_container(config, resolve=False).items() if k != "hydra"}


def resolved(config):
    return OmegaConf.to_container(OmegaConf.create(config), resolve=True)


# -- composing ---------------------------------------------------------------------------------------------------------

EXTRAS = ("ray", "slurm")
"""Sweeps whose launchers are extras."""
EVERY_CHOICE = [
    [f"{group}={choices(group)[i % len(choices(group))]}" for group in GROUPS]
    for i in range(max(len(choices(group)) for group in GROUPS))
]
"""Jobs with a choice of every group each, which together make every choice."""


def test_a_job_is_composed_as_hydra_composes_it(hydra, composer):
    assert {text for job in EVERY_CHOICE for text in job} == {
        f"{group}={name}" for group in GROUPS for name in choices(group)
    }
    for job in EVERY_CHOICE:
        config, without_meaning = composer.compose([*job, "seed=3"])
        assert config == resolved(by_hydra(hydra, [*job, "seed=3"])), job
        assert without_meaning == []


@pytest.mark.parametrize("sweep", [name for name in choices("sweeps") if name not in EXTRAS])
def test_a_sweep_is_composed_as_hydra_composes_it(hydra, composer, sweep):
    loader, _ = hydra
    params = loader.load_configuration("config", [f"sweeps={sweep}"], RunMode.MULTIRUN).hydra.sweeper.params
    jobs = composer.jobs([f"sweeps={sweep}", *(f"{key}={value}" for key, value in params.items())])
    for job in jobs[:: max(1, len(jobs) // 3)]:
        config, without_meaning = composer.compose(job)
        assert config == resolved(by_hydra(hydra, [text for text in job if text not in without_meaning])), job


def test_moments_in_epochs_are_written_out_wherever_a_sweep_names_them(composer):
    """On the command line, among params (which become such arguments), in pairs and in exclude."""
    expected = [["metric.after=0"], ["metric.after=1epochs"], ["metric.after=2epochs"]]
    assert composer.jobs(["metric.after=0,epochs(1,2)"]) == expected
    assert composer.jobs([], [{"metric.after": "0,epochs(1,2)"}]) == expected
    assert composer.jobs([], [{"metric.after": [0, "epochs(1,2)"]}]) == expected
    assert composer.rules([{"metric.after": "epochs(1,2)"}]) == [{"metric.after": ["1epochs", "2epochs"]}]
    assert composer.jobs(["metric.after=epochs(3)"]) == [["metric.after=3epochs"]]


@pytest.mark.parametrize(
    ("size", "header"), [(1000, ""), (128, ""), (1000, "defaults: [override /dataset: teacher]\n")]
)
def test_what_a_sweep_sets_counts_for_every_choice(hydra, tmp_path, size, header):
    """Also what it sets to the value that the default choice has anyway."""
    loader, _ = hydra
    (tmp_path / "sweeps").mkdir()
    text = f"# @package _global_\n{header}dataset: {{train_size: {size}}}\n"
    (tmp_path / "sweeps" / "mine.yaml").write_text(text)
    master = loader.load_configuration("config", [f"hydra.searchpath=[file://{tmp_path}]"], RunMode.MULTIRUN)
    composer = Composer(loader, master)
    for choice in ("digits", "clusters"):
        config, _ = composer.compose(["sweeps=mine", f"dataset={choice}"])
        assert config["dataset"]["train_size"] == size
        assert config == resolved(by_hydra((loader, master), ["sweeps=mine", f"dataset={choice}"]))


@pytest.mark.parametrize(
    "overrides",
    [
        ["metric=branch_distance", "training=adamw", "training.steps=77"],
        ["training.steps=77", "metric=branch_distance", "training=adamw"],
        ["metric=branch_distance", "training.lr=0.5", "metric.images=77"],
        ["model.hidden=[3,4,5]", "training.clip_norm=null"],
        ["results='a b'", "seed=9", "device=cpu"],
        ["+metric.extra=1"],
        ["~training.clip_norm"],
        ["results=${oc.env:HOME}"],
        ["results=x${seed}"],
    ],
    ids=" ".join,
)
def test_options_are_set_and_referred_to_as_hydra_does(hydra, composer, overrides):
    assert composer.compose(overrides)[0] == resolved(by_hydra(hydra, overrides))


def test_jobs_share_nothing_that_one_could_change_for_another(composer):
    first, _ = composer.compose(["training.steps=7", "metric=branch_distance"])
    second, _ = composer.compose(["metric=branch_distance"])
    assert first["training"]["steps"] == first["metric"]["training"]["steps"] == 7
    assert second["training"]["steps"] == second["metric"]["training"]["steps"] == 300


def test_a_circle_of_references_is_an_error(composer):
    from omegaconf.errors import OmegaConfBaseException

    with pytest.raises(OmegaConfBaseException, match=r"(?i)recursive|interpolation"):
        composer.compose(["results=${device}", "device=${results}"])


# -- the product -------------------------------------------------------------------------------------------------------


def test_all_combinations_once(runs_of):
    assert len(runs_of("seed=0,1,1", "metric=parameters,random", "expansion=none,zero_pad")) == 8


def test_the_command_line_counts_for_more_than_the_sweep(runs_of):
    runs = runs_of("seed=5", params={"seed": "0,1", "metric": "parameters,random"})
    assert {run.seed for run in runs} == {5}
    assert len(runs) == 2


@pytest.mark.parametrize(("value", "expected"), [(None, None), (2.5, 2.5), ("null,1", None)])
def test_values_of_a_yaml_file_mean_what_they_say(runs_of, value, expected):
    assert runs_of(params={"training.clip_norm": value})[0].training.clip_norm == expected


def test_an_option_applies_to_the_choices_that_have_it(runs_of):
    runs = runs_of(
        "expansion=none,zero_pad", "expansion.factor=2,3", "metric=parameters,sharpness", "metric.rho=0.1,0.2"
    )
    assert len(runs) == 3 * 3
    with pytest.raises(ConfigError, match=r"option metric\.roh"):
        runs_of("metric=parameters,sharpness", "metric.roh=0.1,0.2")


def test_an_option_that_no_choice_has_is_refused(runs_of):
    with pytest.raises(ConfigError, match=r"metric\.rho"):
        runs_of("metric=parameters,random", "metric.rho=0.1,0.2")


# -- pairs -------------------------------------------------------------------------------------------------------------


def shown(runs):
    return sorted((run.model.name, run.training.name, run.seed) for run in runs)


@pytest.mark.parametrize(
    ("model", "training"),
    [("mlp,vit", "sgd,adamw"), (["mlp", "vit"], ["sgd", "adamw"]), ("mlp,vit", ["sgd", "adamw"])],
)
def test_pairs_change_together(runs_of, model, training):
    runs = runs_of("seed=0,1", pairs=[{"model": model, "training": training}])
    assert shown(runs) == [("mlp", "sgd", 0), ("mlp", "sgd", 1), ("vit", "adamw", 0), ("vit", "adamw", 1)]


def test_pairs_keep_repeats_and_nulls_and_lists(runs_of):
    runs = runs_of(pairs=[{"training.lr": [0.1, 0.1, 0.2], "training.clip_norm": [None, 5.0, None]}])
    assert [(run.training.lr, run.training.clip_norm) for run in runs] == [(0.1, None), (0.1, 5.0), (0.2, None)]
    runs = runs_of(pairs=[{"model.hidden": [[3], [4, 5]], "seed": "range(2)"}])
    assert [(run.model.hidden, run.seed) for run in runs] == [((3,), 0), ((4, 5), 1)]


def test_pairs_are_an_axis_of_the_product_each(runs_of):
    pairs = [{"seed": "0,1", "training.lr": "0.1,0.2"}, {"metric": "parameters,random", "expansion": "zero_pad,none"}]
    assert len(runs_of(pairs=pairs)) == 4


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        ([{"model": "mlp,vit", "training": "sgd"}], "the lists must have one length, and these have"),
        ([{"seed": "0,1", "metric": "parameters,random"}, {"seed": "0,1"}], "seed is swept elsewhere, too"),
        ([{}], "must be a list of entries such as"),
        ({"model": "mlp"}, "must be a list of entries such as"),
        ("mlp", "must be a list of entries such as"),
        ([{"results": "a,b", "seed": "0,1"}], "results cannot be swept"),
        ([{"metric": "glob(zz*)"}], "matches nothing"),
    ],
)
def test_pairs_that_make_no_sense_are_refused(runs_of, pairs, said):
    with pytest.raises(ConfigError, match=said):
        runs_of(pairs=pairs)


# -- exclude -----------------------------------------------------------------------------------------------------------


def left(runs_of, *exclude):
    runs = runs_of("model=mlp,resnet", "model.channels=[3,4]", "model.layers=[1,1]", "expansion=none,zero_pad,stack",
                   "seed=0,1", exclude=list(exclude))  # fmt: skip
    return {(run.model.name, run.expansion.name, run.seed) for run in runs}


ALL = set(itertools.product(["mlp", "resnet"], ["none", "zero_pad", "stack"], [0, 1]))


@pytest.mark.parametrize("several", [["zero_pad", "stack"], "zero_pad,stack", "glob(*a*)"], ids=str)
def test_what_matches_all_keys_of_an_entry_is_left_out(runs_of, several):
    gone = {run for run in ALL if run[0] == "mlp" and run[1] in ("zero_pad", "stack")}
    assert left(runs_of, {"model": "mlp", "expansion": several}) == ALL - gone


def test_entries_add_up(runs_of):
    assert left(runs_of, {"seed": 0, "model": "mlp"}, {"expansion": "none"}) == {
        run for run in ALL if not (run[2] == 0 and run[0] == "mlp") and run[1] != "none"
    }


@pytest.mark.parametrize("value", [0, "0", "range(1)", [0]], ids=str)
def test_options_match_by_value(runs_of, value):
    assert left(runs_of, {"seed": value}) == {run for run in ALL if run[2] == 1}


def test_an_option_that_is_a_list_matches_as_a_whole(runs_of):
    runs = runs_of("model.hidden=[4],[5,6]", exclude=[{"model.hidden": "[5,6]"}])
    assert [run.model.hidden for run in runs] == [(4,)]


def test_an_option_that_only_some_choices_have_excludes_among_those(runs_of):
    runs = runs_of("expansion=none,zero_pad", "expansion.factor=2,3", exclude=[{"expansion.factor": 3}])
    assert sorted(run.expansion.label for run in runs) == sorted(
        run.expansion.label for run in runs_of("expansion=none,zero_pad", "expansion.factor=2")
    )


@pytest.mark.parametrize(
    ("exclude", "said"),
    [
        ([{"modle": "mlp"}], "no job has the key 'modle'"),
        ([{"metric.roh": 1}], "no job has the key 'metric.roh'"),
        ([{"model": "mpl"}], "exclude: model = 'mpl' is unknown; did you mean 'mlp'"),
        ([{"model": "glob(*)"}], "leaves none of the 1 jobs"),
        ([{}], "must be a list of entries"),
        ({"model": "mlp"}, "must be a list of entries"),
    ],
)
def test_exclusions_that_make_no_sense_are_refused(runs_of, exclude, said):
    with pytest.raises(ConfigError, match=said):
        runs_of(exclude=exclude)


def test_an_entry_that_no_job_matches_is_told(runs_of, capsys):
    assert len(runs_of("seed=0,1", exclude=[{"seed": 7}])) == 2
    assert "exclude: no job matches {'seed': 7}" in capsys.readouterr().err


def test_what_is_left_out_is_not_checked(runs_of):
    """A combination that would be refused can be excluded."""
    runs = runs_of("model=vit", "model.heads=2,3", exclude=[{"model.heads": 3}])
    assert [run.model.heads for run in runs] == [2]


def test_pairs_and_exclusions_in_a_file(mmbench_here, tmp_path):
    (tmp_path / "sweeps").mkdir()
    (tmp_path / "sweeps" / "mine.yaml").write_text(
        "# @package _global_\nhydra:\n  sweeper:\n    params:\n      seed: 0,1\n      metric: parameters\n"
        "    pairs:\n      - {model: 'mlp,vit', training: 'sgd,adamw'}\n"
        "    exclude:\n      - {model: vit, seed: 1}\n"
    )
    plan = mmbench_here("plan", "-cd", ".", "sweeps=mine")
    assert "1 of 4 combinations are left out by hydra.sweeper.exclude." in plan.stdout, plan.stdout + plan.stderr
    assert "3 runs: 3 defined" in plan.stdout


# -- what was composed stands ------------------------------------------------------------------------------------------


def test_what_is_edited_while_a_sweep_runs_changes_nothing(mmbench_here, worker_server, monkeypatch, tmp_path):
    (tmp_path / "sweeps").mkdir()
    mine = tmp_path / "sweeps" / "mine.yaml"
    mine.write_text("# @package _global_\nseed: 7\nhydra:\n  sweeper:\n    params:\n      metric: parameters,random\n")
    run = Pool.run

    def edit_and_run(self, tick):
        mine.write_text("no: [yaml")
        return run(self, tick)

    monkeypatch.setattr(Pool, "run", edit_and_run)
    done = mmbench_here("run", "-m", "-cd", ".", "sweeps=mine", *TINY)
    assert done.returncode == 0, done.stdout + done.stderr
    assert mine.read_text() == "no: [yaml"
    store = Store(tmp_path / "results")
    rows = [store.read_record(run_id) for run_id in store.record_ids()]
    assert [(row["status"], row["seed"]) for row in rows] == [("done", 7)] * 2
