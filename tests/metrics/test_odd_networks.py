"""Networks built otherwise than the known families: each metric gives the right value, or says why there is none."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

from mmbench import measure
from mmbench.errors import DataError, MmbenchError, UndefinedError
from mmbench.landscape.gauss_newton import image_traces
from mmbench.landscape.surface import Surface
from mmbench.metrics.base import METRICS, Estimate
from mmbench.testing.metrics import MetricContract, repeating
from mmbench.testing.networks import images, network


class Built(nn.Module):
    """Modules by name, and a function of them and the images."""

    def __init__(self, forward: Callable[..., object], **parts: nn.Module | nn.Parameter) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.call = forward

    def forward(self, pixels: Tensor) -> object:
        return self.call(self, pixels)


def flat(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Flatten(), *layers)


def rows(model: nn.Module, pixels: Tensor) -> Tensor:
    """Eight tokens of eight numbers, the images in the second dimension."""
    return pixels.flatten(1, 2).transpose(0, 1)


def temperature() -> nn.Module:
    return Built(lambda m, x: m.head(torch.tanh(m.body(x.flatten(1)))) * m.scale,
                 body=nn.Linear(64, 5), head=nn.Linear(5, 3), scale=nn.Parameter(torch.tensor(1.5)))  # fmt: skip


def tied() -> nn.Module:
    body = nn.Linear(6, 6)
    return flat(nn.Linear(64, 6), nn.Tanh(), body, nn.Tanh(), body, nn.Tanh(), nn.Linear(6, 3))


def frozen() -> nn.Module:
    model = flat(nn.Linear(64, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))
    model[1].requires_grad_(False)
    return model


def sequence_first() -> nn.Module:
    return Built(lambda m, x: m.head(m.layer(rows(m, x))[0]),
                 layer=nn.TransformerEncoderLayer(8, 2, 6, dropout=0.0), head=nn.Linear(8, 3))  # fmt: skip


def tokens_first() -> nn.Module:
    """Without attention: a layer on (tokens, images, features), the tokens told apart by a table."""
    return Built(lambda m, x: m.head((m.act(m.body(rows(m, x))) * m.table).sum(0)), body=nn.Linear(8, 7), act=nn.ReLU(),
                 table=nn.Parameter(torch.rand(8, 1, 1)), head=nn.Linear(7, 3))  # fmt: skip


def checkpointed(reentrant: bool) -> Callable[[], nn.Module]:
    return lambda: Built(lambda m, x: m.head(checkpoint(m.body, x, use_reentrant=reentrant)),
                         body=flat(nn.Linear(64, 5), nn.ReLU(), nn.Linear(5, 5)), head=nn.Linear(5, 3))  # fmt: skip


NETWORKS: Mapping[str, Callable[[], nn.Module]] = {
    "a parameter without dimensions": temperature,
    "tied weights": tied,
    "a frozen part": frozen,
    "a tuple": lambda: Built(lambda m, x: (m.head(x.flatten(1)), x), head=nn.Linear(64, 3)),
    "a dictionary": lambda: Built(lambda m, x: {"logits": m.head(x.flatten(1))}, head=nn.Linear(64, 3)),
    "one logit": lambda: flat(nn.Linear(64, 1)),
    "an LSTM": lambda: Built(lambda m, x: m.head(m.body(x.flatten(1, 2))[0][:, -1]),
                             body=nn.LSTM(8, 4, batch_first=True), head=nn.Linear(4, 3)),
    "a sequence-first transformer": sequence_first,
    "tokens before images": tokens_first,
    "a transposed convolution": lambda: nn.Sequential(nn.ConvTranspose2d(1, 3, 2, 2), nn.BatchNorm2d(3), nn.ReLU(),
                                                      nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(12, 3)),
    "a convolution to one channel": lambda: nn.Sequential(nn.Flatten(1, 2), nn.Conv1d(8, 1, 3), nn.Tanh(), nn.Flatten(),
                                                          nn.Linear(6, 3)),
    "a bilinear layer": lambda: Built(lambda m, x: m.head(torch.tanh(m.both(x.flatten(1), m.body(x.flatten(1))))),
                                      body=nn.Linear(64, 4), both=nn.Bilinear(64, 4, 1), head=nn.Linear(1, 3)),
    "a product with one row, and a token": lambda: Built(
        lambda m, x: m.head(torch.tanh(x.flatten(1) + m.token) @ m.row.T),
        row=nn.Parameter(torch.randn(1, 64)), token=nn.Parameter(torch.randn(1, 64)), head=nn.Linear(1, 3)),
    "batch norm without running statistics": lambda: flat(
        nn.Linear(64, 6), nn.BatchNorm1d(6, track_running_stats=False), nn.ReLU(), nn.Linear(6, 3)),
    "batch norm without weights": lambda: flat(nn.Linear(64, 6), nn.BatchNorm1d(6, affine=False), nn.ReLU(),
                                               nn.Linear(6, 3)),
    "a parametrised weight": lambda: flat(nn.utils.parametrizations.weight_norm(nn.Linear(64, 5)), nn.ReLU(),
                                          nn.Linear(5, 3)),
    "reentrant checkpoints": checkpointed(True),
    "checkpoints": checkpointed(False),
    "a compiled network": lambda: torch.compile(flat(nn.Linear(64, 5), nn.ReLU(), nn.Linear(5, 3))),
    "DataParallel": lambda: nn.DataParallel(flat(nn.Linear(64, 5), nn.ReLU(), nn.Linear(5, 3))),
    "a softmax at the end": lambda: flat(nn.Linear(64, 5), nn.ReLU(), nn.Linear(5, 3), nn.Softmax(1)),
    "an embedding": lambda: Built(lambda m, x: m.head(torch.tanh(m.table((x.flatten(1) > 0).long())).mean(1)),
                                  table=nn.Embedding(2, 6), head=nn.Linear(6, 3)),
}  # fmt: skip
REFUSED = {"a tuple", "a dictionary", "one logit"}
COUPLED = "batch norm without running statistics"
WITHOUT_LOSS = {
    *("base_accuracy", "branch_distance", "depth", "distance_from_expansion", "flops", "injected_randomness"),
    *("l2_norm", "parameters", "random", "synflow"),
}
UNDEFINED = {("a parametrised weight", "top_eigenvalue"), ("an embedding", "jacob_cov")}
"""torch's fused weight norm has a wrong second derivative; an embedding has none in the pixels."""


@cache
def built(name: str) -> nn.Module:
    torch.manual_seed(3)
    return NETWORKS[name]().double().eval()


def score(model: nn.Module, metric: str, count: int = 24, **options: object) -> Estimate:
    data, held_out = images(count, torch.float64), images(20, torch.float64, seed=1)
    chosen = METRICS.create({"name": metric, **options}) if options else MetricContract.quick(metric)
    return measure(
        model,
        (data.images, data.labels),
        chosen,
        validation=(held_out.images, held_out.labels),
        base=network("mlp", torch.float64),
        expand=repeating(model),
    )


@pytest.mark.parametrize("name", NETWORKS)
def test_every_metric_is_a_finite_number_or_a_clear_refusal(name: str) -> None:
    found: dict[str, float] = {}
    for metric in METRICS.names():
        try:
            found[metric] = score(built(name), metric).value
        except MmbenchError as error:
            assert len(str(error)) > 20, metric
    assert all(map(math.isfinite, found.values()))
    if name in REFUSED:
        assert found.keys() <= WITHOUT_LOSS | {"weightwatcher_alpha", "layer_width"}
    elif name != COUPLED:
        asked = {"ggn_trace", "grad_norm", "sharpness", "top_eigenvalue", "fisher", "jacob_cov", "depth", "flops"}
        assert found.keys() >= {metric for metric in asked if (name, metric) not in UNDEFINED}


def loss(model: nn.Module, data: object) -> Tensor:
    return cross_entropy(model(data.images), data.labels)


def trainable(model: nn.Module) -> list[Tensor]:
    return [p for p in model.parameters() if p.requires_grad]


def gauss_newton(model: nn.Module, data: object) -> float:
    total = 0.0
    for image in data.images:
        z = model(image[None])[0]
        p = z.softmax(0).detach()
        j = torch.stack([
            torch.cat([g.flatten() for g in torch.autograd.grad(y, trainable(model), retain_graph=True,
                                                                materialize_grads=True)])
            for y in z
        ])  # fmt: skip
        total += float(torch.einsum("cp,cd,dp->", j, torch.diag(p) - torch.outer(p, p), j))
    return total / len(data)


def gradient_norm(model: nn.Module, data: object) -> float:
    gradients = torch.autograd.grad(loss(model, data), trainable(model), materialize_grads=True)
    return float(sum(g.square().sum() for g in gradients)) ** 0.5


def fisher_trace(model: nn.Module, data: object) -> float:
    singles = [type(data)(data.images[i : i + 1], data.labels[i : i + 1]) for i in range(len(data))]
    return sum(gradient_norm(model, single) ** 2 for single in singles) / len(data)


ORACLES = {"ggn_trace": gauss_newton, "grad_norm": gradient_norm, "empirical_fisher_trace": fisher_trace}


@pytest.mark.parametrize("metric", ORACLES)
@pytest.mark.parametrize("name", sorted(NETWORKS.keys() - REFUSED - {COUPLED, "reentrant checkpoints"}))
def test_it_is_the_value_of_the_definition(name: str, metric: str) -> None:
    inside = {"a compiled network": "_orig_mod", "DataParallel": "module"}
    model = getattr(built(name), inside[name]) if name in inside else built(name)
    expected = ORACLES[metric](model, images(24, torch.float64))
    assert score(built(name), metric, images=24).value == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("name", ["a sequence-first transformer", "tokens before images"])
@pytest.mark.parametrize("metric", ["fisher", "naswot"])
def test_images_in_the_second_dimension(name: str, metric: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The value is that of passes of a single image, also where there are as many images as tokens."""
    model = built("tokens before images") if metric == "naswot" else built(name)
    for count in (8, 11):
        together = score(model, metric, count).value
        with monkeypatch.context() as patch:
            patch.setattr("mmbench.landscape.surface.CHUNK", 1)
            assert together == pytest.approx(score(model, metric, count).value, rel=1e-9)


def test_images_that_depend_on_each_other_are_noticed_by_every_metric_of_the_loss() -> None:
    for metric in METRICS.names():
        if metric not in WITHOUT_LOSS:
            with pytest.raises(MmbenchError):
                score(built(COUPLED), metric)
    with pytest.raises(UndefinedError, match="depend on the other images"):
        score(built(COUPLED), "ggn_trace")
    whole = [score(built(COUPLED), "jacob_cov", images=count, batch_norm="batch").value for count in (24, 24)]
    assert whole[0] == whole[1]


@pytest.mark.parametrize("pair", [(0, 1), (0, 4), (2, 7)], ids=str)
def test_any_two_images_may_depend_on_each_other(pair: tuple[int, int]) -> None:
    def forward(model: Built, pixels: Tensor) -> Tensor:
        x = pixels.flatten(1).clone()
        if len(x) > max(pair):
            x[pair[1]] = x[pair[1]] + 0.1 * x[pair[0]]
        return model.head(x)

    with pytest.raises(UndefinedError, match="depend on the other images"):
        score(Built(forward, head=nn.Linear(64, 3)).double(), "training_loss", 8)


def test_only_what_needs_it_goes_the_slow_way() -> None:
    """A parameter with one row that cannot be copied does not spoil the rule of a token that can."""
    from mmbench.landscape.per_image import _Rules

    rules = _Rules(Surface(built("a product with one row, and a token"), images(8, torch.float64)))
    assert (rules.copied, rules.rest) == (["token"], ["row"])
    assert torch.isfinite(image_traces(Surface(built("a bilinear layer"), images(8, torch.float64)))).all()


def test_flops_of_attention_and_of_recurrent_layers() -> None:
    attention = 2 * 8 * 8 * (24 + 8 + 6 + 6) + 2 * 2 * 8 * 8 * 8
    assert score(built("a sequence-first transformer"), "flops").value == attention + 2 * 8 * 3
    assert score(built("an LSTM"), "flops").value == 2 * 8 * 16 * (8 + 4) + 2 * 4 * 3
    assert score(built("a bilinear layer"), "flops").value == 2 * 64 * 4 + 2 * 64 * (4 + 1) + 2 * 3


@pytest.mark.parametrize(("name", "layers"), [("an embedding", 1), ("a bilinear layer", 2), ("tied weights", 4)])
def test_depth(name: str, layers: int) -> None:
    assert score(built(name), "depth").value == layers


def test_spectral_norm_has_the_projections_of_attention() -> None:
    model = built("a sequence-first transformer")
    weights = [p for name, p in model.named_parameters() if p.dim() > 1]
    expected = sum(2 * math.log(float(torch.linalg.matrix_norm(w, 2))) for w in weights)
    estimate = score(model, "spectral_norm")
    assert estimate.value == pytest.approx(expected, rel=1e-6)
    assert estimate.details["layers"] == len(weights) == 5
    with pytest.raises(UndefinedError, match="'body' is a LSTM"):
        score(built("an LSTM"), "spectral_norm")


@pytest.mark.parametrize("metric", ["snip", "grasp", "synflow", "path_norm", "spectral_norm"])
def test_a_parametrised_weight_counts_as_the_weight_that_it_is(metric: str) -> None:
    model = flat(nn.Linear(64, 5), nn.ReLU(), nn.Linear(5, 3)).double()
    with torch.no_grad():
        model[1].weight.copy_(built("a parametrised weight")[1].weight)
        model[1].bias.copy_(built("a parametrised weight")[1].bias)
        model[3].load_state_dict(built("a parametrised weight")[3].state_dict())
    assert score(built("a parametrised weight"), metric).value == pytest.approx(score(model, metric).value, rel=1e-9)


def test_frozen_parameters_are_not_counted() -> None:
    estimate = score(built("a frozen part"), "parameters")
    assert (estimate.value, estimate.details["all"]) == (5 * 4 + 4 + 4 * 3 + 3, 64 * 5 + 5 + 5 * 4 + 4 + 4 * 3 + 3)


@pytest.mark.parametrize("metric", ["loss_after_k_steps", "distance_from_expansion", "branch_distance"])
def test_labels_out_of_range_are_refused_by_metrics_that_train(metric: str) -> None:
    data = images(12)
    for model, words in ((network("mlp"), "out of range"), (flat(nn.Linear(64, 1)), "two classes")):
        with pytest.raises(DataError, match=words):
            measure(model, (data.images, data.labels + 9), MetricContract.quick(metric))


def test_a_loader_and_a_data_set_are_data() -> None:
    data, model = images(40), network("mlp")
    expected = measure(model, (data.images, data.labels), "grad_norm").value
    rows_ = TensorDataset(data.images, data.labels)
    state = torch.get_rng_state()
    assert measure(model, rows_, "grad_norm").value == expected
    assert measure(model, DataLoader(rows_, batch_size=7), "grad_norm").value == expected
    assert measure(model, DataLoader(rows_, batch_size=7, shuffle=True), "grad_norm").value == pytest.approx(expected)
    assert torch.equal(torch.get_rng_state(), state)
    for wrong in (DataLoader(TensorDataset(data.images)), [data.images], iter([3, 4]), 7):
        with pytest.raises(DataError, match="pair of tensors"):
            measure(model, wrong, "grad_norm")
