from __future__ import annotations

import pytest
from omegaconf import OmegaConf

from mmbench.config import GROUPS, parse, resolve_device
from mmbench.errors import ConfigError
from mmbench.paths import choices, root

FILES = [(group, name) for group in GROUPS for name in choices(group)]


def composed(overrides=(), **changes):
    """The config of some overrides as a plain dict, with dotted changes."""
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(root() / "conf"), version_base="1.3"):
        config = compose("config", list(overrides))
    for key, value in changes.items():
        OmegaConf.update(config, key, value)
    return OmegaConf.to_container(config, resolve=True)


def test_the_default_config_is_a_run():
    run, settings = parse({k: v for k, v in composed().items() if k != "sweeps"})
    assert (run.model.name, run.dataset.name, run.metric.name, run.seed) == ("mlp", "digits", "manifold", 0)
    assert settings.results == "results"


def test_a_metric_trains_by_the_runs_recipe():
    run, _ = parse({k: v for k, v in composed(overrides=["metric=branch_distance"]).items() if k != "sweeps"})
    assert run.metric.training == run.training


def test_everything_wrong_is_told_at_once_with_its_key():
    config = composed(**{"metric.images": 0, "seed": -1, "device": "gpu", "training.lr": 0, "model.hidden": []})
    with pytest.raises(ConfigError) as caught:
        parse(config)
    for key in ("metric.images = 0", "seed = -1", "device = 'gpu'", "training.lr = 0", "model.hidden = []"):
        assert key in str(caught.value)


def test_settings_of_several_keys_are_checked_against_each_other():
    config = composed()
    config["metric"] = {"name": "loss_after_k_steps", "steps": 400, "training": config["training"]}
    config["training"] = {**config["training"], "warmup_steps": 300}
    with pytest.raises(ConfigError) as caught:
        parse(config)
    assert "metric.steps = 400" in str(caught.value)
    assert "training.warmup_steps = 300" in str(caught.value)


def test_a_missing_group_and_an_unknown_key_are_told():
    config = composed()
    del config["metric"]
    with pytest.raises(ConfigError, match=r"metric is missing; choose one of: .*manifold"):
        parse(config)
    with pytest.raises(ConfigError, match="'sede' is unknown; did you mean 'seed'"):
        parse({**composed(), "sede": 1})


def test_a_device_that_is_not_there_is_told():
    assert resolve_device("cpu") == "cpu"
    with pytest.raises(ConfigError, match="device = 'cuda:99' is not available"):
        resolve_device("cuda:99")


@pytest.mark.parametrize(("group", "name"), FILES, ids=lambda part: part)
def test_a_yaml_file_holds_exactly_the_options_of_its_component(group, name):
    path = root() / "conf" / group / f"{name}.yaml"
    content = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    component = GROUPS[group][content["name"]]
    assert set(content) - {"name"} == set(component.model_fields), "each option stands in the YAML, and no other"
    assert path.read_text().startswith("# "), "the first line says what it is"
    values = {key: value for key, value in content.items() if value != "${training}"}
    made = GROUPS[group].create(values)
    if group == "metric":
        assert made == component(**({"training": made.training} if "training" in content else {}))


@pytest.mark.parametrize("group", GROUPS)
def test_every_component_has_a_yaml_file(group):
    named = {OmegaConf.load(root() / "conf" / group / f"{name}.yaml").name for name in choices(group)}
    assert named == set(GROUPS[group].names())


def test_no_config_names_a_class():
    files = [*(root() / "conf").rglob("*.yaml"), *(root() / "sweeps").rglob("*.yaml")]
    assert files
    assert not [path for path in files if "_target_" in path.read_text()]
