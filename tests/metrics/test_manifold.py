"""The manifold metric against enumeration, its identities, its coverage, and mutants of its definition."""

from __future__ import annotations

import copy
from functools import cache
from itertools import permutations

import numpy as np
import pytest
import torch

from mmbench import expand, measure
from mmbench.data.base import Split
from mmbench.data.digits import Digits
from mmbench.errors import DataError, UndefinedError
from mmbench.landscape.midpoints import Lines
from mmbench.landscape.permutations import orders
from mmbench.metrics import manifold
from mmbench.metrics.base import METRICS, subject_of
from mmbench.metrics.manifold import Manifold
from mmbench.metrics.subject import Base
from mmbench.models.base import MODELS
from mmbench.statistics import barriers as formulas
from mmbench.statistics.barriers import first_nodes, metric_from_barriers, share, standard_error, threshold
from mmbench.training.loop import train
from mmbench.training.recipes import SGD

QUICK = {"images": 64, "nodes": 40}


@cache
def trained(name="mlp", width=16):
    """A network on digits, trained, and some of the images."""
    data = Digits().load().train
    sizes = {
        "mlp": {"hidden": (width,)},
        "cnn": {"channels": (8, 12), "hidden": (16,)},
        "resnet": {"channels": (8, 12), "layers": (1, 1)},
    }
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = MODELS.create({"name": name, **sizes[name]}).build(Digits().shape())
        train(model, data, SGD(steps=200), torch.Generator())
    return model.eval(), (data.images[:200], data.labels[:200])


def scored(model, data, base, **options):
    return measure(model, data, "manifold", base=base, **{**QUICK, **options})


# Equation 2 in numbers


def test_the_formula_by_hand():
    base, candidate = np.array([[4.0, 1.0, 3.0, 2.0, 5.0]]), np.array([[1.0, 1.0, 2.0, 9.0, 2.5]])
    assert threshold(base, 0.4) == 2  # the ceil(0.4 x 5) = second smallest
    assert threshold(base, 0.41) == 3
    assert threshold(base, 1.0) == 5
    assert threshold(base, 1e-12) == 1, "never below the smallest"
    assert share(candidate, 2) == 3 / 5
    assert metric_from_barriers(candidate, base, 0.4) == pytest.approx(100 * (3 / 5 - 2 / 5))
    assert metric_from_barriers(candidate, base, 0.4, n=3) == pytest.approx(100 * (3 / 3 - 2 / 3))
    assert metric_from_barriers(candidate, base, 1.0) == pytest.approx(-20), "lambda is the largest: m(base) = 1"


def test_the_first_nodes_are_those_of_all_chains_in_turn():
    barriers = np.arange(12.0).reshape(4, 3)
    assert first_nodes(barriers, 6).tolist() == [0, 3, 6, 9, 1, 4]
    with pytest.raises(UndefinedError, match=r"13 nodes.*12 nodes.*metric\.nodes"):
        first_nodes(barriers, 13)


@pytest.mark.parametrize("q", [0.05, 0.07, 0.1, 0.4, 0.9, 1.0])
@pytest.mark.parametrize("n", [50, 99, 100, 250])
def test_a_base_model_has_the_share_q_of_its_own_nodes(q, n):
    barriers = np.random.default_rng(0).random((4, 63))
    assert metric_from_barriers(barriers, barriers, q, n) == 0
    assert round(share(barriers, threshold(barriers, q, n), n) * n) == int(np.ceil(round(q * n, 6)))


# The metric


@pytest.mark.parametrize("name", ["mlp", "resnet"])
def test_a_base_model_scores_zero_against_itself(name):
    model, data = trained(name)
    estimate = scored(model, data, model)
    assert (estimate.value, estimate.stderr) == (0.0, 0.0)
    assert estimate.details["m"] == estimate.details["base_m"] == 0.4


def test_four_units_are_enumerated():
    """Independent whole permutations: their mean of m is that of all 24, within what so many draws allow."""
    model, data = trained(width=4)
    every = torch.tensor(list(permutations(range(4))))
    few = Split(*(part[:64] for part in data))
    exact = Lines(model, few, "fc1").barriers(every)
    options = {"walk": "independent", "pairs": "all", "nodes": 2000, "images": 200}
    few_data = (few.images, few.labels)
    estimate = measure(model, few_data, "manifold", base=model, **options)
    seen = estimate.tensors["barriers"].flatten()
    draws = [subject_of(model, few_data).common_generator(f"manifold fc1 chain {c}") for c in range(4)]
    walk = torch.cat([orders(4, 500, "independent", "all", draw) for draw in draws])
    rows = (walk[:, None] == every).all(2).nonzero()[:, 1]
    torch.testing.assert_close(seen, exact[rows], rtol=1e-3, atol=1e-6)
    height = float(exact.sort().values[9])
    share_of_all, share_seen = (
        float((exact <= height).double().mean()),
        float((seen <= height * (1 + 1e-4)).double().mean()),
    )
    assert abs(share_seen - share_of_all) < 4 * (share_of_all * (1 - share_of_all) / 2000) ** 0.5


def test_every_choice_of_nodes_and_chains_is_the_start_of_a_larger_one():
    model, data = trained()
    long = scored(model, data, model, nodes=60, chains=3).tensors["barriers"]
    short = scored(model, data, model, nodes=12, chains=2).tensors["barriers"]
    assert (long.shape, short.shape, long.dtype) == ((3, 20), (2, 6), torch.float64)
    torch.testing.assert_close(short, long[:2, :6], rtol=1e-4, atol=1e-6)


def test_doubled_units_are_counted_and_raise_the_score():
    model, data = trained()
    large = expand(model, "net2wider", factor=2.0).eval()
    estimate = scored(large, data, model, nodes=200)
    details = estimate.details
    assert (details["layer"], details["width"]) == ("fc1", 32.0)
    assert details["clones"] > 16
    assert estimate.value == pytest.approx(100 * (details["m"] - details["base_m"]))
    assert details["threshold"] == threshold(subject_of(model, data, base=model).reference(
        METRICS.create({"name": "manifold", **QUICK, "nodes": 200}))["barriers"].numpy(), 0.4)  # fmt: skip
    assert len(details["curve0"]) == len(details["base_curve1"]) == 50


def test_a_layer_is_doubled_and_swapped_among_its_clones(monkeypatch):
    """Swaps among clones only: all nodes are connected."""
    model, data = trained()
    large = MODELS.create({"name": "mlp", "hidden": (32,)}).build(Digits().shape()).eval()
    with torch.no_grad():
        for name in ("weight", "bias"):
            getattr(large.fc1, name).copy_(torch.cat([getattr(model.fc1, name)] * 2))
        large.head.weight.copy_(torch.cat([model.head.weight] * 2, 1) / 2)
        large.head.bias.copy_(model.head.bias)

    def among_clones(size, steps, *_):
        if size == 16:
            return orders(size, steps, "chain", "log2", torch.Generator())
        order = torch.arange(size).repeat(steps, 1)
        for s in range(steps):
            order[s, s % 16], order[s, s % 16 + 16] = s % 16 + 16, s % 16
        return order

    monkeypatch.setattr(manifold, "orders", among_clones)
    estimate = scored(large, data, model)
    assert not estimate.tensors["barriers"].any()
    assert estimate.details["m"] == 1
    assert estimate.details["clones"] == 32


def test_a_base_model_with_dead_units_is_flagged():
    model, data = trained()
    dead = MODELS.create({"name": "mlp", "hidden": (16,)}).build(Digits().shape())
    dead.load_state_dict(model.state_dict())
    with torch.no_grad():
        dead.fc1.bias[:14] = -1000.0
    assert scored(model, data, dead, walk="independent", pairs=1).details["degenerate_threshold"] == 1
    assert scored(model, data, model).details["degenerate_threshold"] == 0


def test_expansions_of_depth_permute_the_same_layer():
    model, data = trained()
    deep = expand(model, "net2deeper", axis="depth", factor=2.0).eval()
    estimate = scored(deep, data, model)
    assert estimate.details["layer"] == "fc1"
    assert estimate.value == 0, "the first layer and the function are the base model's"


@pytest.mark.parametrize(
    "options",
    [{"alphas": 3}, {"batches": 2}, {"layer": "inner"}, {"layer": "each"}, {"statistics": "recompute"},
     {"statistics": "fold"}, {"chains": 1}, {"pairs": 2}, {"walk": "independent"}],
    ids=str,
)  # fmt: skip
def test_every_option_gives_a_score(options):
    model, data = trained("resnet")
    large = expand(model, "net2wider", factor=1.5).eval()
    estimate = scored(large, data, model, **options)
    assert -40 <= estimate.value <= 60
    assert (estimate.stderr is None) == (options == {"chains": 1})


def test_layers_in_turn_are_each_permuted_alone():
    model, data = trained("resnet")
    each = scored(model, data, model, layer="each", nodes=40)
    names = str(each.details["layer"]).split(", ")
    assert names[:2] == ["stage0", "stages.0.0.1"]
    alone = scored(model, data, model, layer=names[1], nodes=4 * 2).tensors["barriers"]
    torch.testing.assert_close(each.tensors["barriers"][:, 1 :: len(names)][:, :2], alone[:, :2], rtol=1e-4, atol=1e-6)


def test_without_the_base_model_it_says_what_is_missing():
    model, data = trained()
    with pytest.raises(UndefinedError, match=r"give base="):
        measure(model, data, "manifold")


def test_the_base_model_is_measured_once_for_all_quantiles(monkeypatch):
    model, data = trained()
    base, calls = Base(model), []
    original = Manifold.reference
    monkeypatch.setattr(Manifold, "reference", lambda self, subject: calls.append(1) or original(self, subject))
    for quantile in (0.1, 0.4):
        metric = METRICS.create({"name": "manifold", **QUICK, "quantile": quantile})
        metric.measure(subject_of(model, data, base=base))
    assert len(calls) == 1
    metric = METRICS.create({"name": "manifold", **QUICK, "pairs": 1})
    metric.measure(subject_of(model, data, base=base))
    assert len(calls) == 2


# The standard error


@pytest.mark.parametrize(("name", "group"), [("mlp", "fc1"), ("cnn", "conv1")])
def test_the_standard_error_covers(name, group):
    """200 independent estimates of 4 chains of 25 nodes, against 800 chains together."""
    model, data = trained(name)
    large, few = expand(model, "net2wider", factor=1.5).eval(), Split(*(part[:24] for part in data))
    found = {}
    for first, network in enumerate((model, large)):
        size = network.get_submodule(group).weight.shape[0]
        walks = [orders(size, 25, "chain", "log2", torch.Generator().manual_seed(2 * c + first)) for c in range(800)]
        found[first] = Lines(network, few, group).barriers(torch.cat(walks)).view(800, 25).numpy()
    truth = metric_from_barriers(found[1], found[0], 0.4)
    parts = [(found[1][i : i + 4], found[0][i : i + 4]) for i in range(0, 800, 4)]
    scores = np.array([metric_from_barriers(*part, 0.4) for part in parts])
    errors = np.array([standard_error(*part, 0.4) for part in parts])
    assert np.mean(abs(scores - truth) <= 1.96 * errors) >= 0.89
    assert errors.mean() < 2.2 * scores.std(), "and not by being far too wide"
    ours, theirs = parts[0]
    assert standard_error(ours[:1], theirs[:1], 0.4) is None


def test_a_score_at_its_bound_still_has_an_error():
    base, low = np.random.default_rng(1).random((4, 50)), np.zeros((4, 50))
    assert 0 < standard_error(low, base, 0.4) < 5
    assert standard_error(base, base, 0.4) == 0


# Mutants: each fails a test above


def test_the_threshold_of_the_candidate_is_seen(monkeypatch):
    monkeypatch.setattr(formulas, "threshold", lambda base, q, n=None: threshold(np.asarray(base) / 3, q, n))
    with pytest.raises(AssertionError):
        test_the_formula_by_hand()

    def of_candidate(candidate, base, q, n=None):
        return 100 * (share(candidate, threshold(candidate, q, n), n) - share(base, threshold(base, q, n), n))

    monkeypatch.setattr(manifold, "metric_from_barriers", of_candidate)
    with pytest.raises(AssertionError):
        test_doubled_units_are_counted_and_raise_the_score()


def test_barriers_between_neighbours_of_the_chain_are_seen(monkeypatch):
    """A mutant: node i against node i - 1, which is one step of swaps from the start."""

    def steps_alone(size, steps, walk, pairs, generator):
        return orders(size, steps, "independent", pairs, generator)

    monkeypatch.setattr(manifold, "orders", steps_alone)
    with pytest.raises(AssertionError):
        test_nodes_are_joined_to_the_start()


def test_nodes_are_joined_to_the_start():
    """Far along the chain, barriers are those of whole random permutations; after one step they are lower."""
    model, data = trained()
    chain = scored(model, data, model, nodes=400, pairs=1).tensors["barriers"]
    whole = scored(model, data, model, nodes=400, pairs="all").tensors["barriers"]
    late = chain[:, 40:]
    assert float(late.mean()) == pytest.approx(float(whole.mean()), rel=0.15)
    assert float(chain[:, 0].mean()) < 0.8 * float(late.mean())


def test_a_base_that_cannot_be_compared_is_refused_with_the_reason():
    model, data = trained()
    with pytest.raises(DataError, match="base must be a network"):
        scored(model, data, "base.pt")
    with pytest.raises(DataError, match=r"base has parameters of torch\.float64, the network of torch\.float32"):
        scored(model, data, copy.deepcopy(model).double())
    narrow = MODELS.create({"name": "mlp", "hidden": (1,)}).build(Digits().shape())
    with pytest.raises(UndefinedError, match="has 1 units; the metric permutes a layer of at least 4"):
        scored(narrow, data, model)


def test_more_chains_than_nodes_are_as_many_as_nodes():
    model, data = trained()
    large = expand(model, "net2wider", factor=2.0)
    few, many = (scored(large, data, model, nodes=5, chains=chains) for chains in (5, 1000))
    assert many.tensors["barriers"].shape == (5, 1)
    assert (many.value, many.stderr) == (few.value, few.stderr)
