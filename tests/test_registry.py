from __future__ import annotations

import pytest
from pydantic import Field

from mmbench.data.base import DATASETS
from mmbench.errors import ConfigError
from mmbench.expansions.base import EXPANSIONS
from mmbench.metrics.base import METRICS
from mmbench.models.base import MODELS
from mmbench.registry import Component, Registry, checked
from mmbench.training.recipes import TRAININGS, AdamW

REGISTRIES = {"model": MODELS, "dataset": DATASETS, "expansion": EXPANSIONS, "metric": METRICS, "training": TRAININGS}


class Options(Component):
    name = "options"
    count: int = Field(3, ge=1, le=9)
    rate: float | None = Field(None, gt=0)
    flag: bool = False


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"count": 0}, ["thing.count = 0", ">= 1", "<= 9"]),
        ({"count": 10}, ["thing.count = 10", "<= 9"]),
        ({"count": 2.5}, ["thing.count = 2.5", "an integer"]),
        ({"count": "3"}, ["thing.count = '3'", "an integer"]),
        ({"count": True}, ["thing.count = True"]),
        ({"rate": 0}, ["thing.rate = 0", "> 0", "null"]),
        ({"rate": float("nan")}, ["thing.rate = nan"]),
        ({"flag": "yes"}, ["thing.flag = 'yes'", "true or false"]),
        ({"cuont": 1}, ["thing.cuont", "did you mean 'count'?", "flag"]),
    ],
    ids=lambda value: str(value),
)
def test_a_wrong_option_names_its_key_the_value_and_what_is_allowed(options, said):
    with pytest.raises(ConfigError) as caught:
        checked(Options, options, "thing")
    assert all(words in str(caught.value) for words in said), str(caught.value)


def test_all_wrong_options_are_told_at_once():
    with pytest.raises(ConfigError) as caught:
        checked(Options, {"count": 0, "rate": -1, "other": 2}, "thing")
    assert len(caught.value.problems) == 3


@pytest.mark.parametrize("registry", REGISTRIES.values(), ids=REGISTRIES)
def test_an_unknown_name_lists_the_known_ones_and_the_closest(registry):
    known = registry.names()
    with pytest.raises(ConfigError) as caught:
        registry.create({"name": known[0] + "x"})
    assert f"did you mean {known[0]!r}?" in str(caught.value)
    assert all(name in str(caught.value) for name in known)
    with pytest.raises(ConfigError, match="name is missing"):
        registry.create({})


@pytest.mark.parametrize("registry", REGISTRIES.values(), ids=REGISTRIES)
def test_every_component_is_described_by_its_name_and_options_and_made_again_from_them(registry):
    for name in registry.names():
        component = registry[name]()
        again = registry.create(component.describe())
        assert again == component
        assert component.describe()["name"] == name


def test_a_name_is_registered_once():
    registry: Registry[Component] = Registry("thing", "mmbench.tracking.options")
    registry.register("a")(type("A", (Component,), {"__module__": __name__}))
    with pytest.raises(ValueError, match="registered twice"):
        registry.register("a")(type("B", (Component,), {"__module__": __name__}))


def test_a_recipe_inside_a_metric_keeps_its_kind_and_options():
    metric = METRICS.create({"name": "branch_distance", "training": {"name": "adamw", "beta2": 0.9}})
    assert metric.training == AdamW(beta2=0.9)
    assert metric.describe()["training"]["name"] == "adamw"
    with pytest.raises(ConfigError, match=r"training\.lr = -1"):
        METRICS.create({"name": "branch_distance", "training": {"name": "adamw", "lr": -1}})
