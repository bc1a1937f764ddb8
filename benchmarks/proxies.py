"""Time per zero-cost proxy: mmbench's metric against its published formula coded straightforwardly, interleaved.

    OMP_NUM_THREADS=1 python benchmarks/proxies.py [--rounds 15]

Each side begins with the model and 256 images and leaves the model as it was; "ours" is `mmbench.measure`, whose checks
of the network and of the data are in its time; "all eight" is `mmbench.measure_all`, which makes them once. Prints
medians over rounds, and the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy

from mmbench import measure, measure_all
from mmbench.data.base import InputShape
from mmbench.data.digits import Digits
from mmbench.models.resnet import ResNet
from mmbench.models.vit import ViT

CASES = {
    "resnet 16-32-64": ResNet(channels=(16, 32, 64)),
    "vit d64 L4": ViT(embed_dim=64, heads=4, hidden=256, layers=4),
}
IMAGES = 256
Proxy = Callable[[nn.Module, Tensor, Tensor], float]


def kernels(model: nn.Module) -> list[nn.Parameter]:
    return [layer.weight for layer in model.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]


def watch(model: nn.Module, kinds: tuple[type[nn.Module], ...], hook: Callable[..., None]) -> None:
    for layer in model.modules():
        if isinstance(layer, kinds):
            layer.register_forward_hook(hook)


def grad_norm(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    cross_entropy(model(images), labels).backward()
    return sum(p.grad.square().sum() for p in model.parameters()).sqrt().item()


def snip(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """The gradient in a mask of ones on every kernel."""
    weights = {name: p for name, p in model.named_parameters() if any(p is kernel for kernel in kernels(model))}
    masks = {name: torch.ones_like(p, requires_grad=True) for name, p in weights.items()}
    masked = {name: weights[name].detach() * mask for name, mask in masks.items()}
    cross_entropy(torch.func.functional_call(model, masked, (images,)), labels).backward()
    return sum(mask.grad.abs().sum() for mask in masks.values()).item()


def grasp(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """First the gradient, then its product with the Hessian."""
    weights = kernels(model)
    gradient = torch.autograd.grad(cross_entropy(model(images), labels), weights)
    with sdpa_kernel(SDPBackend.MATH):
        again = torch.autograd.grad(cross_entropy(model(images), labels), weights, create_graph=True)
        slope = sum((g * h).sum() for g, h in zip(gradient, again, strict=True))
        products = torch.autograd.grad(slope, weights)
    return -sum((w * hg).sum() for w, hg in zip(weights, products, strict=True)).item()


def synflow(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """On networks whose norms and activations do nothing; their attention is as it is."""
    model = model.double()
    for layer in list(model.modules()):
        for name, child in layer.named_children():
            if isinstance(child, nn.BatchNorm2d | nn.LayerNorm | nn.ReLU | nn.GELU):
                setattr(layer, name, nn.Identity())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.abs_()
    model(torch.ones_like(images[:1]).double()).sum().backward()
    return sum((w * w.grad).abs().sum() for w in kernels(model)).item()


def fisher(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    seen: list[Tensor] = []

    def keep(layer: nn.Module, inputs: Any, output: Tensor) -> None:
        output.retain_grad()
        seen.append(output)

    watch(model, (nn.Conv2d, nn.Linear), keep)
    cross_entropy(model(images), labels, reduction="sum").backward()
    total = 0.0
    for a in seen:
        product = a.detach() * a.grad
        channels = product.sum((2, 3)) if a.dim() == 4 else product.sum(1) if a.dim() == 3 else product
        total += channels.square().mean(0).sum().item() / 2
    return total


def jacob_cov(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    images = images.clone().requires_grad_()
    model(images).sum().backward()
    eigenvalues = torch.linalg.eigvalsh(torch.corrcoef(images.grad.flatten(1).double()))
    return -((eigenvalues + 1e-5).log() + 1 / (eigenvalues + 1e-5)).sum().item()


def naswot(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    kernel = torch.zeros(len(images), len(images))

    def add(layer: nn.Module, inputs: Any, output: Tensor) -> None:
        code = (inputs[0].flatten(1) > 0).float()
        kernel.add_(code @ code.T).add_((1 - code) @ (1 - code).T)

    watch(model, (nn.ReLU, nn.GELU), add)
    with torch.no_grad():
        model(images)
    return torch.linalg.slogdet(kernel)[1].item()


def zen(model: nn.Module, images: Tensor, labels: Tensor) -> float:
    """In training mode and at the weights as they are; new ones, as published, would take longer."""
    seen: list[Tensor] = []
    watch(model, (nn.Linear,), lambda layer, inputs, output: seen.append(inputs[0]))
    model.train()
    with torch.no_grad():
        x, e = torch.randn_like(images), torch.randn_like(images)
        answers = []
        for pixels in (x, x + 0.01 * e):
            model(pixels)
            answers.append(seen[-1].flatten(1))
    score = (answers[0] - answers[1]).norm(dim=1).mean().log()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            score = score + layer.running_var.mean().sqrt().log()
    return score.item()


PROXIES = (snip, grasp, synflow, fisher, jacob_cov, naswot, zen, grad_norm)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    split = Digits().load().train
    images, labels = split.images[:IMAGES], split.labels[:IMAGES]
    table = Table(title=f"zero-cost proxies, digits, {IMAGES} images, one thread, float32")
    for column in ("network", "proxy", "ours, ms", "formula, ms", "ours / formula", "score", "formula's"):
        table.add_column(column, justify="left" if column in ("network", "proxy") else "right")
    for name, architecture in CASES.items():
        torch.manual_seed(0)
        model = architecture.build(InputShape(1, 8, 10)).eval()
        for proxy in PROXIES:
            jobs = {
                "ours": partial(ours, proxy.__name__, model, images, labels),
                "formula": partial(alone, proxy, model, images, labels),
            }
            table.add_row(name, proxy.__name__, *timed(jobs, rounds))
        together = {
            "ours": partial(all_ours, model, images, labels),
            "formula": partial(all_alone, model, images, labels),
        }
        table.add_row(name, "all eight", *timed(together, rounds)[:3], end_section=True)
    Console(width=120).print(table)


def ours(name: str, model: nn.Module, images: Tensor, labels: Tensor) -> float:
    return measure(model, (images, labels), name).value


def alone(proxy: Proxy, model: nn.Module, images: Tensor, labels: Tensor) -> float:
    return proxy(copy.deepcopy(model), images, labels)


def all_ours(model: nn.Module, images: Tensor, labels: Tensor) -> None:
    measure_all(model, (images, labels), [proxy.__name__ for proxy in PROXIES])


def all_alone(model: nn.Module, images: Tensor, labels: Tensor) -> None:
    for proxy in PROXIES:
        alone(proxy, model, images, labels)


def timed(jobs: dict[str, Callable[[], Any]], rounds: int) -> list[str]:
    """Milliseconds of both jobs, their ratio, and what they return."""
    seconds: dict[str, list[float]] = {job: [] for job in jobs}
    results: dict[str, Any] = {}
    for i in range(rounds + 1):  # the first round warms up
        for job in sorted(jobs, reverse=i % 2 == 0):
            start = time.perf_counter()
            results[job] = jobs[job]()
            seconds[job].append(time.perf_counter() - start)
    mine, theirs = (seconds[job][1:] for job in ("ours", "formula"))
    ratio = median(a / b for a, b in zip(mine, theirs, strict=True))
    times = [f"{median(mine) * 1e3:.1f}", f"{median(theirs) * 1e3:.1f}", f"{ratio:.2f}"]
    return times + [f"{results[job]:.6g}" if results[job] else "" for job in ("ours", "formula")]


if __name__ == "__main__":
    main()
