"""Zero-cost proxies against their definitions, written out slowly in float64, and against slips in them."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy

from mmbench import measure
from mmbench.data.base import Split
from mmbench.errors import MmbenchError, UndefinedError
from mmbench.models.base import MODELS
from mmbench.testing.networks import images, network

from .conftest import Linear

DATA = images(12, torch.float64)
LAYERS = (nn.Linear, nn.Conv2d)
families = pytest.mark.parametrize("family", MODELS.names())


def live(family: str) -> nn.Module:
    """A float64 network whose classifier is not zero, as some are at their beginning."""
    model, generator = network(family, torch.float64), torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.3, generator=generator)
    return model


def score(name: str, model: nn.Module, data: Split = DATA, **options: object) -> float:
    return measure(model, (data.images, data.labels), name, **options).value


def loss(model: nn.Module, data: Split = DATA) -> Tensor:
    return cross_entropy(model(data.images), data.labels)


def kernels(model: nn.Module) -> dict[str, nn.Parameter]:
    return {f"{name}.weight": layer.weight for name, layer in model.named_modules() if isinstance(layer, LAYERS)}


def gradients(value: Tensor, weights: list[nn.Parameter]) -> list[Tensor]:
    return list(torch.autograd.grad(value, weights, materialize_grads=True))


def sequential(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers).double().eval()


# grad_norm


def grad_norm_slips(model: nn.Module) -> dict[str, float]:
    parts = gradients(loss(model), list(model.parameters()))
    norms = torch.stack([part.norm() for part in parts])
    return {
        "the definition": norms.norm().item(),
        "norms of layers, added up": norms.sum().item(),
        "its square": norms.square().sum().item(),
        "of the summed loss": norms.norm().item() * len(DATA),
        "of the kernels only": torch.cat([p.flatten() for p in parts if p.dim() > 1]).norm().item(),
    }


# snip


def snip_slips(model: nn.Module) -> dict[str, float]:
    weights = kernels(model)
    masks = {name: torch.ones_like(weight, requires_grad=True) for name, weight in weights.items()}
    masked = {name: weights[name].detach() * mask for name, mask in masks.items()}
    values = functional_call(model, masked, (DATA.images,))
    by_mask = gradients(cross_entropy(values, DATA.labels), list(masks.values()))
    every = list(model.parameters())
    products = [w * g for w, g in zip(every, gradients(loss(model), every), strict=True)]
    return {
        "the definition": sum(g.abs().sum() for g in by_mask).item(),
        "signs left to cancel": sum(g.sum() for g in by_mask).item(),
        "biases and norms, too": sum(p.abs().sum() for p in products).item(),
        "the gradient alone": sum(g.abs().sum() for g in gradients(loss(model), list(weights.values()))).item(),
        "of the summed loss": sum(g.abs().sum() for g in by_mask).item() * len(DATA),
    }


# grasp


def grasp_slips(model: nn.Module) -> dict[str, float]:
    """w' H g as half the slope of ||g||^2 when all kernels are scaled."""
    weights = kernels(model)

    def moved(step: float, direction: dict[str, Tensor]) -> list[Tensor]:
        at = {name: (w + step * direction[name]).detach().requires_grad_() for name, w in weights.items()}
        logits = functional_call(model, at, (DATA.images,))
        return gradients(cross_entropy(logits, DATA.labels), list(at.values()))

    def dot(a: list[Tensor], b: list[Tensor]) -> float:
        return sum((x * y).sum() for x, y in zip(a, b, strict=True)).item()

    def slope(direction: dict[str, Tensor], against: list[Tensor]) -> float:
        step = 1e-6  # so small that no ReLU switches
        return (dot(moved(step, direction), against) - dot(moved(-step, direction), against)) / (2 * step)

    g = gradients(loss(model), list(weights.values()))
    truth = -slope(dict(weights), g)
    return {
        "the definition": truth,
        "the other sign": -truth,
        "w'Hw": -slope(dict(weights), list(weights.values())),
        "g'Hg": -slope(dict(zip(weights, g, strict=True)), g),
        "of the summed loss": truth * len(DATA) ** 2,
    }


# fisher


def fisher_slips(model: nn.Module, data: Split = DATA) -> dict[str, float]:
    """One image at a time, one layer at a time, positions and channels as the layer's documentation has them."""
    per_image, no_half, squares, mixed = [], 0.0, 0.0, 0.0
    for image, label in zip(data.images, data.labels, strict=True):
        seen: list[tuple[nn.Module, Tensor]] = []
        hooks = [
            layer.register_forward_hook(lambda layer, inputs, output, seen=seen: seen.append((layer, output)))
            for layer in model.modules()
            if isinstance(layer, LAYERS)
        ]
        value = cross_entropy(model(image[None]), label[None])
        for hook in hooks:
            hook.remove()
        total = 0.0
        for layer, activation in seen:
            product = activation * torch.autograd.grad(value, activation, retain_graph=True)[0]
            channel = 1 if isinstance(layer, nn.Conv2d) else activation.dim() - 1
            others = [d for d in range(1, activation.dim()) if d != channel]
            summed = product.sum(others) if others else product
            total += 0.5 * summed.square().sum().item()
            squares += 0.5 * product.square().sum().item() / len(data)
            wrong = product.sum(list(range(2, product.dim()))) if product.dim() > 2 else product
            mixed += 0.5 * wrong.square().sum().item() / len(data)
        per_image.append(total)
        no_half += 2 * total / len(data)
    values = torch.tensor(per_image, dtype=torch.float64)
    return {
        "the definition": values.mean().item(),
        "its error": values.std().item() / len(data) ** 0.5,
        "gradients of the mean loss": values.mean().item() / len(data) ** 2,
        "no half": no_half,
        "squared before the sum over positions": squares,
        "every layer's channels in axis 1": mixed,
    }


# jacob_cov


def jacob_cov_slips(model: nn.Module, data: Split = DATA) -> dict[str, float]:
    rows = []
    for image in data.images:
        jacobian = torch.autograd.functional.jacobian(lambda x: model(x[None])[0], image)
        rows.append(jacobian.sum(0).flatten())
    stacked = torch.stack(rows)

    def published(matrix: Tensor, k: float = 1e-5) -> float:
        eigenvalues = torch.linalg.eigvalsh(matrix)
        return -(torch.log(eigenvalues + k) + 1 / (eigenvalues + k)).sum().item()

    unit = stacked / stacked.norm(dim=1, keepdim=True)
    return {
        "the definition": published(torch.corrcoef(stacked)),
        "covariances": published(torch.cov(stacked)),
        "not centred": published(unit @ unit.T),
        "correlations of pixels": published(torch.corrcoef(stacked.T)),
        "the other sign": -published(torch.corrcoef(stacked)),
    }


# naswot


def naswot_slips(model: nn.Module, data: Split = DATA) -> dict[str, float]:
    """Units compared one pair of images at a time."""
    seen: list[Tensor] = []
    hooks = [
        layer.register_forward_hook(lambda layer, inputs, output: seen.append(inputs[0].flatten(1) > 0))
        for layer in model.modules()
        if isinstance(layer, nn.ReLU | nn.GELU)
    ]
    model(data.images)
    for hook in hooks:
        hook.remove()
    codes = torch.cat(seen, 1)
    agree = torch.tensor([[float((a == b).sum()) for b in codes] for a in codes], dtype=torch.float64)
    on = torch.tensor([[float((a & b).sum()) for b in codes] for a in codes], dtype=torch.float64)
    one = torch.eye(len(codes), dtype=torch.float64)
    return {
        "the definition": torch.logdet(agree + one).item(),
        "units on at both only": torch.logdet(on + one).item(),
        "distance for agreement": torch.linalg.slogdet(codes.shape[1] - agree + one)[1].item(),
        "fractions of units": torch.logdet(agree / codes.shape[1] + one).item(),
        "the last layer only": torch.logdet(2 * (seen[-1].double() @ seen[-1].double().T) + one).item(),
    }


SLIPS: dict[str, Callable[[nn.Module], dict[str, float]]] = {
    "grad_norm": grad_norm_slips,
    "snip": snip_slips,
    "grasp": grasp_slips,
    "fisher": fisher_slips,
    "jacob_cov": jacob_cov_slips,
    "naswot": naswot_slips,
}
SAME = {
    ("fisher", "mlp", "squared before the sum over positions"),
    ("fisher", "mlp", "every layer's channels in axis 1"),
    ("fisher", "cnn", "every layer's channels in axis 1"),
    ("fisher", "resnet", "every layer's channels in axis 1"),
}
"""Slips that make no difference: a perceptron has one position, a convolutional network no linear layer on tokens."""


@families
@pytest.mark.parametrize("name", SLIPS)
def test_it_is_its_definition_and_none_of_its_slips(name: str, family: str) -> None:
    model = live(family)
    with sdpa_kernel(SDPBackend.MATH):
        slips = SLIPS[name](model)
    estimate = measure(model, (DATA.images, DATA.labels), name)
    truth = slips.pop("the definition")
    tolerance = 1e-5 if name == "grasp" else 1e-9
    assert estimate.value == pytest.approx(truth, rel=tolerance)
    assert estimate.stderr == pytest.approx(slips.pop("its error", 0.0), rel=1e-9)
    for slip, value in slips.items():
        alike = math.isclose(value, estimate.value, rel_tol=100 * tolerance)
        assert alike == ((name, family, slip) in SAME), slip


def test_grasp_is_a_product_with_the_dense_hessian() -> None:
    model = live("mlp")
    weights = kernels(model)
    sizes = [w.numel() for w in weights.values()]

    def flat_loss(vector: Tensor) -> Tensor:
        parts = zip(weights.items(), vector.split(sizes), strict=True)
        at = {name: part.view_as(weight) for (name, weight), part in parts}
        return cross_entropy(functional_call(model, at, (DATA.images,)), DATA.labels)

    w = torch.cat([weight.detach().flatten() for weight in weights.values()])
    g = torch.autograd.functional.jacobian(flat_loss, w)
    hessian = torch.autograd.functional.hessian(flat_loss, w)
    assert score("grasp", model) == pytest.approx(-(w @ hessian @ g).item(), rel=1e-9)


def test_fisher_is_an_error_where_outputs_are_written_over() -> None:
    class InPlace(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.head = nn.Linear(64, 5), nn.Linear(5, 3)

        def forward(self, x: Tensor) -> Tensor:
            y = self.first(x.flatten(1))
            y += 1
            return self.head(y)

    with pytest.raises(UndefinedError, match="overwrites the outputs of its layers in place"):
        score("fisher", InPlace().double())


def test_jacobians_of_more_images_than_pixels_lose_a_constant_only() -> None:
    model, data = live("vit"), images(70, torch.float64)
    zero = -(math.log(1e-5) + 1e5)
    published = jacob_cov_slips(model, data)["the definition"]
    assert score("jacob_cov", model, data) == pytest.approx(published - (70 - 63) * zero, abs=1.0)


def test_an_image_without_a_jacobian_is_as_bad_as_a_copy_of_another() -> None:
    """Both leave one eigenvalue at zero."""
    model = sequential(nn.Flatten(), nn.Linear(64, 9), nn.ReLU(), nn.Linear(9, 3))
    with torch.no_grad():
        model[1].bias.zero_()
    data = images(6, torch.float64)
    blank, copied = data.images.clone(), data.images.clone()
    blank[0], copied[0] = 0.0, data.images[1]
    rest = score("jacob_cov", model, Split(data.images[1:], data.labels[1:]))
    penalty = math.log(1e-5) + 1e5
    assert score("jacob_cov", model, Split(blank, data.labels)) == pytest.approx(rest - penalty, rel=1e-9)
    assert score("jacob_cov", model, Split(copied, data.labels)) == pytest.approx(rest - penalty, rel=1e-2)


def test_jacobians_of_a_linear_network_are_all_the_same() -> None:
    """One eigenvalue N, the others zero."""
    truth = -(math.log(12 + 1e-5) + 1 / (12 + 1e-5)) - 11 * (math.log(1e-5) + 1e5)
    model = Linear()
    nn.init.normal_(model.head.weight, generator=torch.Generator().manual_seed(0))
    assert score("jacob_cov", model) == pytest.approx(truth, rel=1e-6)
    with pytest.raises(MmbenchError, match=r"dead|are zero"):
        score("jacob_cov", sequential(nn.Flatten(), nn.Linear(64, 3, bias=False), nn.Threshold(1e9, 0.0)))


def test_naswot_is_the_published_score_where_codes_differ() -> None:
    torch.manual_seed(0)
    model = sequential(nn.Flatten(), nn.Linear(64, 4000), nn.ReLU(), nn.Linear(4000, 3))
    with torch.no_grad():
        code = (model[1](DATA.images.flatten(1)) > 0).double()
    published = torch.logdet(code @ code.T + (1 - code) @ (1 - code).T).item()
    assert score("naswot", model) == pytest.approx(published, rel=1e-3)


def test_naswot_of_equal_codes_is_finite() -> None:
    """Three images, two of them equal, and two units that tell the third from them: K + I has eigenvalues by hand."""
    model = sequential(nn.Flatten(), nn.Linear(1, 2), nn.ReLU(), nn.Linear(2, 2))
    with torch.no_grad():
        model[1].weight.fill_(1.0)
        model[1].bias.zero_()
    data = Split(torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64).view(3, 1, 1, 1), torch.tensor([0, 1, 1]))
    kernel = torch.tensor([[2.0, 2, 0], [2, 2, 0], [0, 0, 2]])
    assert score("naswot", model, data) == pytest.approx(torch.logdet(kernel + torch.eye(3)).item(), rel=1e-6)


def test_networks_without_what_a_proxy_looks_at_are_refused() -> None:
    functional = Linear()
    with pytest.raises(UndefinedError, match="no activation module"):
        score("naswot", functional)

    class Raw(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.randn(64, 3, generator=torch.Generator().manual_seed(0)).double())

        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1) @ self.table

    kernels = "no linear layer or convolution, whose weights"
    for name, reason in (("snip", kernels), ("grasp", kernels), ("synflow", kernels), ("zen", "features"),
                         ("fisher", "no linear layer")):  # fmt: skip
        with pytest.raises(UndefinedError, match=reason):
            score(name, Raw())
