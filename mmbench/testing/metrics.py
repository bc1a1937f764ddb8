"""Contract of a metric: what every metric must satisfy.

from mmbench.testing.metrics import MetricContract

class TestMine(MetricContract):
    metric = "mine"
"""

from __future__ import annotations

import copy
import math
import re
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from mmbench.errors import MmbenchError, UndefinedError
from mmbench.landscape import surface
from mmbench.metrics.base import METRICS, Estimate, Metric, measure, measure_all
from mmbench.metrics.subject import Expand
from mmbench.models.base import MODELS
from mmbench.testing.networks import WithUnused, images, network, random_state, state_of
from mmbench.training.recipes import SGD

QUICK: Mapping[str, Any] = {
    "images": 24,
    "batch_size": 8,
    "probes": 3,
    "steps": 4,
    "fraction": 0.5,
    "pairs": 4,
    "directions": 4,
    "chains": 2,
    "nodes": 8,
    "burn_in": 2,
    "training": SGD(steps=8, warmup_steps=1, batch_size=16),
}
"""Options that make a metric cheap; each metric takes those that it has."""
OTHERS = ("grad_norm", "loss_after_k_steps", "top_eigenvalue")
"""Metrics that share a gradient, a training and a Lanczos run with others."""
TYPICAL = ("resnet", "vit")
"""Families that together cover what a metric may mishandle: convolutions, batch norm, ReLU, attention, layer norm and
GELU. Properties that cannot depend on other details of a network are tested on these only."""


@dataclass(frozen=True)
class Observation:
    """One measurement, and what it changed."""

    estimate: Estimate
    elapsed: float
    """Wall-clock seconds."""
    model_before: list[object]
    model_after: list[object]
    random_before: list[object]
    random_after: list[object]
    reseeded: list[object]
    """Seeds passed to the generators of all GPUs."""
    images_unchanged: bool


class MetricContract:
    """Tests of one metric on small networks of every family. A subclass sets `metric`, its registered name."""

    metric: ClassVar[str]
    options: ClassVar[Mapping[str, Any]] = {}
    """Options to test with, in place of those in `QUICK`."""
    undefined: ClassVar[frozenset[tuple[str, str]]] = frozenset()
    """Pairs (metric, family) for which the metric is undefined and raises `UndefinedError`."""
    without_weights: ClassVar[frozenset[str]] = frozenset()
    """Metrics that do not read the weights: they are finite even if the weights are not."""
    scale_free: ClassVar[frozenset[str]] = frozenset()
    """Metrics that may be invariant when all weights are multiplied by the same number."""
    couples_images: ClassVar[frozenset[str]] = frozenset()
    """Metrics whose score depends on which images share a forward pass."""
    reads_the_family: ClassVar[frozenset[str]] = frozenset()
    """Metrics that need the axis table of the network, and are undefined for a network of no known family."""
    whole_network: ClassVar[frozenset[str]] = frozenset()
    """Metrics of the whole network, whose score does not depend on which parameters are frozen."""
    compares_networks: ClassVar[frozenset[str]] = frozenset()
    """Metrics of several networks, whose frozen parameters may differ from each other, too."""
    dead: ClassVar[str] = "dead|not a finite number|are zero"
    """Pattern of the error for a network whose parameters are all zero."""

    @classmethod
    def metrics(cls) -> Sequence[str]:
        """Names of the metrics that are tested."""
        return [cls.metric]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run each test for every metric and, if the test takes one, every family of networks."""
        wanted, names = set(metafunc.fixturenames), self.metrics()
        if "name" not in wanted:
            return
        families = {"family": MODELS.names(), "typical": TYPICAL}
        for argument in wanted & families.keys():
            pairs = [pair for pair in product(names, families[argument]) if pair not in self.undefined]
            metafunc.parametrize(("name", argument), pairs, scope="class")
        if not wanted & families.keys():
            metafunc.parametrize("name", names, scope="class")

    # Scores

    @classmethod
    def quick(cls, name: str) -> Metric:
        """The metric with cheap options."""
        fields = METRICS[name].model_fields
        chosen = {key: value for key, value in {**QUICK, **cls.options}.items() if key in fields}
        return METRICS.create({"name": name, **chosen})

    @classmethod
    def score(cls, model: nn.Module, name: str, count: int = 40, seed: int = 0, **others: nn.Module) -> Estimate:
        """Measure a network.

        Args:
            model: takes the images of `mmbench.testing.networks.images`.
            name: of the metric.
            count: training images.
            seed: of all random draws.
            others: `base`, by default one of the network's dtype, and `expanded`, what the expansion makes of it, by
                default the network.

        Returns:
            The score with cheap options.
        """
        data, held_out = images(count), images(30, seed=1)
        return measure(
            model,
            (data.images, data.labels),
            cls.quick(name),
            seed=seed,
            validation=(held_out.images, held_out.labels),
            base=others.get("base") or network("mlp", next(model.parameters()).dtype),
            expand=repeating(others.get("expanded", model)),
        )

    @classmethod
    @cache
    def observed(cls, name: str, family: str) -> Observation:
        """Measure a network with mixed modes, no trainable parameter and a gradient, under a global seed of its own."""
        model, data, held_out, base = network(family), images(), images(30, seed=1), network("mlp")
        metric, reseeded = cls.quick(name), list[object]()
        parameters = list(model.parameters())
        model.train()
        next(model.children()).eval()
        model.requires_grad_(False)
        parameters[-1].grad = torch.full_like(parameters[-1], 7.0)
        torch.manual_seed(314)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(torch.cuda, "manual_seed_all", reseeded.append)
            model_before, random_before, start = state_of(model), random_state(), time.perf_counter()
            estimate = measure(
                model,
                (data.images, data.labels),
                metric,
                validation=(held_out.images, held_out.labels),
                base=base,
                expand=repeating(model),
            )
            elapsed, random_after = time.perf_counter() - start, random_state()
        same = torch.equal(data.images, images().images) and torch.equal(data.labels, images().labels)
        return Observation(
            estimate, elapsed, model_before, state_of(model), random_before, random_after, reseeded, same
        )

    @classmethod
    @cache
    def in_float64(cls, name: str, family: str) -> tuple[float, set[torch.dtype]]:
        """The score of a network in float64, and the dtypes that went through its modules."""
        return cls.scaled(name, family, 1.0)

    @classmethod
    def scaled(cls, name: str, family: str, factor: float) -> tuple[float, set[torch.dtype]]:
        """As `in_float64`, after multiplying all weights by a factor.

        Args:
            name: of the metric.
            family: of the network.
            factor: for each weight.

        Returns:
            Score and dtypes.
        """
        model, dtypes = network(family, torch.float64), set[torch.dtype]()
        for module in model.modules():
            module.register_forward_hook(lambda module, inputs, output: dtypes.update({inputs[0].dtype, output.dtype}))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(factor)
        return cls.score(model, name).value, dtypes

    @classmethod
    @cache
    def together(cls, backwards: bool) -> Mapping[str, Estimate | MmbenchError]:
        """All metrics, and those in `OTHERS`, on one subject, in the order of their names or the reverse."""
        names = sorted({*cls.metrics(), *OTHERS}, reverse=backwards)
        model, data, held_out = network("resnet"), images(), images(30, seed=1)
        return measure_all(
            model,
            (data.images, data.labels),
            map(cls.quick, names),
            validation=(held_out.images, held_out.labels),
            base=network("mlp"),
            expand=repeating(model),
        )

    # Tests

    def test_its_class_is_documented(self, name: str) -> None:
        """It has an expected sign, and docstrings for module, class and every option."""
        cls = METRICS[name]
        assert cls.expected_sign in {-1, 0, 1}
        assert cls.__doc__, "the class needs a docstring"
        assert (sys.modules[cls.__module__].__doc__ or "").strip(), "the module needs a docstring: formula and source"
        for option, field in cls.model_fields.items():
            assert field.description, f"the option {option!r} needs a docstring"

    def test_its_numeric_options_have_ranges(self, name: str) -> None:
        """Every numeric option has a smallest or a largest value."""
        for option, schema in METRICS[name].model_json_schema()["properties"].items():
            if schema.get("type") in ("integer", "number"):
                assert {"minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"} & schema.keys(), option

    def test_it_is_a_finite_number_with_an_error_and_its_cost(self, name: str, family: str) -> None:
        """Score and details are finite, the standard error is not negative or None, and the cost is measured."""
        observation = self.observed(name, family)
        estimate = observation.estimate
        assert math.isfinite(estimate.value)
        assert estimate.stderr is None or (estimate.stderr >= 0 and math.isfinite(estimate.stderr))
        assert 0 < estimate.seconds <= observation.elapsed
        for key, value in estimate.details.items():
            assert isinstance(key, str)
            if not isinstance(value, str):
                assert all(map(math.isfinite, value if isinstance(value, list) else [value])), key
        assert all(seconds >= 0 for seconds in estimate.costs.values())

    def test_the_model_and_the_images_stay_as_they_were(self, name: str, family: str) -> None:
        """Parameters, buffers, gradients, modes and the images are the same before and after."""
        observation = self.observed(name, family)
        assert observation.model_after == observation.model_before
        assert observation.images_unchanged

    def test_the_global_random_state_stays_as_it_was(self, name: str, family: str) -> None:
        """The global generators of torch, numpy and Python are in the same state before and after."""
        observation = self.observed(name, family)
        assert observation.random_after == observation.random_before
        assert not observation.reseeded, "the network is on the CPU, but the generators of all GPUs were seeded"

    def test_the_same_seed_gives_the_same_score_in_whatever_mode(self, name: str, typical: str) -> None:
        """The global seed, training mode and `no_grad` make no difference, nor whether all parameters or none train."""
        first = self.observed(name, typical).estimate
        torch.manual_seed(2)
        with torch.no_grad():
            again = self.score(network(typical), name)
        assert (first.value, first.stderr, first.details) == (again.value, again.stderr, again.details)

    def test_frozen_parameters_are_constants(self, name: str, typical: str) -> None:
        """They might as well be buffers; metrics in `whole_network` do not tell them from the others."""
        frozen, constant = network(typical), network(typical)
        parameters = list(frozen.named_parameters())
        for path, parameter in parameters[: len(parameters) // 2]:
            parameter.requires_grad_(False)
            home, _, key = path.rpartition(".")
            owner = constant.get_submodule(home)
            value = owner._parameters.pop(key)
            owner.register_buffer(key, None if value is None else value.detach())
        found = self.score(frozen, name).value
        if name in self.whole_network:
            assert found == self.score(network(typical), name).value
        elif name not in self.compares_networks:
            assert found == pytest.approx(self.score(constant, name, expanded=frozen).value, rel=1e-6)

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
    def test_half_precision_is_measured_in_single(self, name: str, typical: str, dtype: torch.dtype) -> None:
        """The score is that of the network's copy in float32, on the images as they were given.

        Args:
            name: of the metric.
            typical: a family of networks.
            dtype: of the network and of its base.
        """
        model, base = network(typical, dtype), network("mlp", dtype)
        half = self.score(model, name, base=base).value
        single = self.score(model.float(), name, base=base.float()).value
        assert half == pytest.approx(single, rel=1e-2)  # the expansion itself may draw in half precision

    def test_a_float64_network_is_measured_in_float64(self, name: str, typical: str) -> None:
        """No module of a float64 network sees float32, and the score equals that in float32 up to rounding."""
        value, dtypes = self.in_float64(name, typical)
        assert dtypes <= {torch.float64}
        if name not in self.scale_free:  # a change of 1e-10 would be lost in float32
            assert self.scaled(name, typical, 1 + 1e-10)[0] != value or self.scaled(name, typical, 1.5)[0] == value
        assert value == pytest.approx(self.observed(name, typical).estimate.value, rel=1e-2, abs=1e-5)

    def test_the_size_of_the_passes_makes_no_difference(
        self, name: str, typical: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The score does not depend on how many images go through the network at a time.

        Args:
            name: of the metric.
            typical: a family of networks.
            monkeypatch: sets the images per pass.
        """
        if name not in self.couples_images:
            whole, _ = self.in_float64(name, typical)
            monkeypatch.setattr(surface, "CHUNK", 7)
            pieces = self.score(network(typical, torch.float64), name)
            assert pieces.value == pytest.approx(whole, rel=1e-6, abs=1e-12)

    def test_it_does_not_depend_on_what_was_measured_before(self, name: str) -> None:
        """Measured with other metrics on one subject, first or last, its score is the same as alone."""
        if (name, "resnet") in self.undefined:
            assert all(isinstance(self.together(order)[name], UndefinedError) for order in (False, True))
            return
        alone = self.score(network("resnet"), name)
        for order in (False, True):
            estimate = self.together(order)[name]
            assert isinstance(estimate, Estimate), estimate
            assert (estimate.value, estimate.stderr, estimate.details) == (alone.value, alone.stderr, alone.details)

    @pytest.mark.parametrize("count", [1, 5])
    def test_few_images_are_enough(self, name: str, typical: str, count: int) -> None:
        """One image gives a finite score, and so do fewer images than a batch.

        Args:
            name: of the metric.
            typical: a family of networks.
            count: training images.
        """
        estimate = self.score(network(typical), name, count)
        assert math.isfinite(estimate.value)
        assert estimate.stderr is None or estimate.stderr >= 0

    def test_a_parameter_without_influence_does_no_harm(self, name: str, typical: str) -> None:
        """A parameter that the network does not use has a zero gradient, not a missing one."""
        if name in self.reads_the_family:
            with pytest.raises(UndefinedError):
                self.score(WithUnused(network(typical)), name)
        else:
            assert math.isfinite(self.score(WithUnused(network(typical)), name).value)

    def test_a_diverged_network_is_an_error(self, name: str, family: str) -> None:
        """If the weights are NaN, the error says so."""
        model = network(family)
        for parameter in model.parameters():
            nn.init.constant_(parameter, math.nan)
        if name in self.without_weights:
            assert math.isfinite(self.score(model, name).value)
        else:
            with pytest.raises(MmbenchError, match=r"diverged at step 0|not a finite number|not finite numbers"):
                self.score(model, name)

    def test_a_dead_network_is_an_error_or_a_finite_number(self, name: str, family: str) -> None:
        """If all parameters are zero, the score is finite or the error says so."""
        model = network(family)
        for parameter in model.parameters():
            nn.init.zeros_(parameter)
        try:
            assert math.isfinite(self.score(model, name).value)
        except MmbenchError as error:
            assert name not in self.without_weights
            assert re.search(self.dead, str(error)), error

    def test_without_meaning_for_a_network_it_says_so(self, name: str) -> None:
        """For the families in `undefined` it raises `UndefinedError`."""
        for family in (family for metric, family in self.undefined if metric == name):
            with pytest.raises(UndefinedError):
                self.score(network(family), name)


def repeating(model: nn.Module) -> Expand:
    """An expansion that makes `model` of whatever network; a draw other than 0 adds noise to its weights."""

    def expand(small: nn.Module, draw: int) -> nn.Module:
        twin, generator = copy.deepcopy(model), torch.Generator().manual_seed(draw)
        for module in twin.modules():
            module._forward_hooks.clear()  # an expansion has none; a network of a known family must not
        with torch.no_grad():
            for parameter in twin.parameters() if draw else ():
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64).to(parameter)
                parameter.add_(noise * parameter.abs().mean(), alpha=0.1)
        return twin

    return expand
