"""Curvature: mmbench against PyHessian, curvlinops and hessian-eigenthings, interleaved in one process.

    pip install -e '.[peers]'
    OMP_NUM_THREADS=1 python benchmarks/curvature.py [mlp resnet vit convnext]

Networks are trained for a few steps on scikit-learn's digits; the loss is taken on 256 images. Every time is the median
of interleaved rounds. An estimator that needs hundreds of products is charged products x time of one, where the
products are those that bring it to the accuracy in question (its own formula, run on our products, over several seeds).
"""

from __future__ import annotations

import contextlib
import io
import itertools
import math
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.functional import cross_entropy

from mmbench.data.digits import Digits
from mmbench.landscape.gauss_newton import image_traces
from mmbench.landscape.hessian import Curvature, rademacher
from mmbench.landscape.lanczos import Lanczos
from mmbench.landscape.second_differences import TRIED, Differences, trusted_step
from mmbench.landscape.surface import Surface
from mmbench.landscape.traces import FIRST, Goal, xtrace
from mmbench.metrics.hessian_trace import BIAS
from mmbench.metrics.subject import Subject
from mmbench.models.base import Architecture
from mmbench.models.convnext import ConvNeXt
from mmbench.models.mlp import MLP
from mmbench.models.resnet import ResNet
from mmbench.models.vit import ViT
from mmbench.training.loop import train
from mmbench.training.recipes import SGD, AdamW

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import curvlinops
    import hessian_eigenthings as eigenthings
    import pyhessian
    from pyhessian.utils import hessian_vector_product
    from scipy.sparse.linalg import eigsh

NETWORKS: dict[str, tuple[Architecture, Any]] = {
    "mlp": (MLP(hidden=(256, 128)), SGD(steps=100)),
    "resnet": (ResNet(channels=(16, 32, 64)), SGD(steps=60)),
    "vit": (ViT(embed_dim=32, heads=2, hidden=64, layers=2), AdamW()),
    "convnext": (ConvNeXt(), AdamW(steps=150)),
}
ROUNDS = 7
STEPS = 100


@dataclass
class Case:
    """A trained network with its images, and each peer's handle on it."""

    surface: Surface

    @property
    def model(self) -> nn.Module:
        """The network."""
        return self.surface.model

    @property
    def data(self) -> tuple[Tensor, Tensor]:
        """Images and labels."""
        return self.surface.images.images, self.surface.images.labels

    def pyhessian(self) -> Any:
        """PyHessian's object."""
        with sdpa_kernel(SDPBackend.MATH):
            return pyhessian.hessian(self.model, nn.CrossEntropyLoss(), data=self.data, cuda=False)

    def curvlinops(self) -> Any:
        """The Hessian of curvlinops."""
        return curvlinops.HessianLinearOperator(
            self.model, nn.CrossEntropyLoss(), self.surface.flat.parameters, [self.data], check_deterministic=False
        )

    def eigenthings(self) -> Any:
        """The Hessian of hessian-eigenthings."""
        loss = eigenthings.supervised_loss(nn.CrossEntropyLoss())
        return eigenthings.HessianOperator(self.model, [self.data], loss)


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    with sdpa_kernel(SDPBackend.MATH), contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        work()
    return time.perf_counter() - start


def runs(work: Callable[[], object]) -> bool:
    """Whether it runs at all: a peer may be too old for this torch."""
    try:
        seconds(work)
    except RuntimeError:
        return False
    return True


def interleaved(works: dict[str, Callable[[], object]], rounds: int = ROUNDS) -> dict[str, float]:
    """Median seconds of each, the works taking turns."""
    for work in works.values():
        seconds(work)
    times = [{name: seconds(work) for name, work in works.items()} for _ in range(rounds)]
    return {name: statistics.median(turn[name] for turn in times) for name in works}


def trained(name: str) -> Case:
    architecture, recipe = NETWORKS[name]
    torch.manual_seed(0)
    data = Digits().load()
    model = architecture.build(data.shape)
    train(model, data.train, recipe, torch.Generator().manual_seed(0))
    return Case(Subject(model, data.train).surface(256))


def products_to(case: Case, truth: float, accuracy: float) -> dict[str, float]:
    """Products that Hutchinson's estimator and XTrace need of H until their rms error is `accuracy` of the trace."""
    product, like = Curvature(case.surface), case.surface.point
    generator = torch.Generator().manual_seed(0)
    forms = torch.tensor(
        [float(torch.dot(v, product(v))) for v in (rademacher(len(like), generator, like) for _ in range(150))]
    )
    needed = {"hutchinson": (float(forms.std()) / (accuracy * abs(truth))) ** 2}
    for count in (24, 32, 48, 64, 96, 128, 192, 256, 384, 512):
        errors = [
            xtrace(product, like, Goal(0.0, count), torch.Generator().manual_seed(seed)).value / truth - 1
            for seed in range(4)
        ]
        if statistics.fmean(e * e for e in errors) ** 0.5 <= accuracy:
            break
    needed["xtrace"] = count
    return needed


def trace_of(case: Case, accuracy: float) -> tuple[float, Callable[[], object], float]:
    """The true trace, our work for it, and how many random directions that takes beside the exact part."""
    surface, share = case.surface, BIAS * accuracy
    exact = image_traces(surface)
    known, known_of_few = float(exact.mean()), float(exact[:TRIED].mean())
    rest = Curvature(surface, "rest")
    generator = torch.Generator().manual_seed(1)
    signs = (rademacher(rest.size, generator, surface.point) for _ in range(400))
    truth = known + statistics.fmean(float(torch.dot(v, rest(v))) for v in signs)
    step = trusted_step(surface, generator, share, known_of_few)
    assert step is not None, "differences are not right here"
    forms = list(itertools.islice(Differences(surface).draws(generator, step), 400))
    assert abs(known + statistics.fmean(forms) - truth) < accuracy * abs(truth)
    count = max(FIRST, math.ceil((statistics.stdev(forms) / (accuracy * abs(truth))) ** 2))

    def ours() -> None:
        image_traces(surface)
        trusted_step(surface, generator, share, known_of_few)
        list(itertools.islice(Differences(surface).draws(generator, step), count))

    return truth, ours, count


def report_trace(name: str, case: Case, table: Table) -> None:
    relu = name in ("mlp", "resnet")
    accuracy = 0.01 if relu else 0.05
    if relu:
        truth, ours, count = float(image_traces(case.surface).mean()), lambda: image_traces(case.surface), 0
    else:
        truth, ours, count = trace_of(case, accuracy)
    needed = products_to(case, truth, accuracy)
    peer, operator = case.pyhessian(), case.curvlinops()
    times = interleaved(
        {
            "gradient": case.surface.loss_and_gradient,
            "ours": ours,
            "pyhessian": lambda: peer.trace(maxIter=8, tol=-math.inf),
            "curvlinops": lambda: curvlinops.xtrace(operator, 16),
        },
        5,
    )
    hutchinson = needed["hutchinson"] * times["pyhessian"] / 8
    leave_one_out = needed["xtrace"] * times["curvlinops"] / 16
    goal = "1/100, 1/25" if relu else "1/5, 1/5"
    table.add_row(
        name, f"Hessian trace to {accuracy:.0%}",
        f"{times['ours'] / times['gradient']:.1f}" + (f" ({count} directions)" if count else " (exact)"),
        f"PyHessian {hutchinson / times['gradient']:.0f} ({needed['hutchinson']:.0f} probes)\n"
        f"curvlinops XTrace {leave_one_out / times['gradient']:.0f} ({needed['xtrace']:.0f} products)",
        f"1/{hutchinson / times['ours']:.0f}\n1/{leave_one_out / times['ours']:.0f}", goal,
    )  # fmt: skip


def report_product(name: str, case: Case, table: Table) -> None:
    surface = case.surface
    product, v = Curvature(surface), torch.randn_like(surface.point)
    product(v)
    with sdpa_kernel(SDPBackend.MATH):
        loss = cross_entropy(case.model(case.data[0]), case.data[1])
        gradients = torch.autograd.grad(loss, surface.flat.parameters, create_graph=True)
    views = surface.flat.views(v)
    times = interleaved(
        {
            "gradient": surface.loss_and_gradient,
            "ours": lambda: product(v),
            "pyhessian": lambda: hessian_vector_product(gradients, surface.flat.parameters, views),
        },
        25,
    )
    table.add_row(
        name, "one product H v", f"{times['ours'] / times['gradient']:.2f}",
        f"PyHessian {times['pyhessian'] / times['gradient']:.2f}", f"{times['ours'] / times['pyhessian']:.2f}", "1.0",
    )  # fmt: skip


def lanczos(surface: Surface, steps: int, tolerance: float = 0.0) -> tuple[float, int]:
    product = Curvature(surface)
    start = rademacher(product.size, torch.Generator().manual_seed(0), surface.point)
    run = Lanczos(product, start)
    for step in range(1, steps + 1):
        run.step()
        if tolerance:
            values, _, residuals = run.ritz(step)
            if residuals[-1] <= tolerance * abs(values[-1]):
                break
    return float(run.ritz(steps)[0][-1]), run.steps


def report_eigenvalue(name: str, case: Case, table: Table) -> None:
    surface = case.surface
    truth, _ = lanczos(surface, 200, 1e-5)
    peer, operator, thing = case.pyhessian(), case.curvlinops(), case.eigenthings()
    found: dict[str, float] = {}

    def by_pyhessian() -> None:
        found["PyHessian"] = float(peer.eigenvalues(maxIter=100, tol=1e-3)[0][0])

    def by_curvlinops() -> None:
        found["curvlinops + eigsh"] = float(
            eigsh(operator.to_scipy(), k=1, which="LA", tol=1e-2, return_eigenvectors=False)[0]
        )

    def by_eigenthings() -> None:
        result = eigenthings.lanczos(thing, k=1, max_iter=20, tol=1e-2, which="LA", seed=0)
        found["hessian-eigenthings"] = float(result.eigenvalues[0])

    def by_us() -> None:
        found["ours"], found["products"] = lanczos(surface, 60, 0.01)

    works = {
        "ours": by_us,
        "PyHessian": by_pyhessian,
        "curvlinops + eigsh": by_curvlinops,
        "hessian-eigenthings": by_eigenthings,
    }
    times = interleaved({"gradient": surface.loss_and_gradient, **works}, 5)
    errors = {peer: abs(found[peer] / truth - 1) for peer in works}
    right = [peer for peer in works if peer != "ours" and errors[peer] <= 0.01]
    fastest = min(right, key=times.__getitem__)
    table.add_row(
        name, "top eigenvalue to 1%",
        f"{times['ours'] / times['gradient']:.1f} ({found['products']} products, error {errors['ours']:.2%})",
        "\n".join(f"{p} {times[p] / times['gradient']:.1f} (error {errors[p]:.2%})" for p in works if p != "ours"),
        f"{times['ours'] / times[fastest]:.2f} of {fastest}", "0.8",
    )  # fmt: skip


def report_density(name: str, case: Case, table: Table) -> None:
    surface = case.surface
    peer, operator, thing = case.pyhessian(), case.curvlinops(), case.eigenthings()
    works: dict[str, Callable[[], object]] = {
        "ours": lambda: lanczos(surface, STEPS),
        "PyHessian": lambda: peer.density(iter=STEPS, n_v=1),
        "curvlinops": lambda: curvlinops.lanczos_approximate_spectrum(operator, STEPS, boundaries=(-1.0, 100.0)),
        "hessian-eigenthings": lambda: eigenthings.spectral_density(thing, num_runs=1, lanczos_steps=STEPS, seed=0),
    }
    broken = [p for p in works if not runs(works[p])]
    times = interleaved(
        {"gradient": surface.loss_and_gradient, **{p: work for p, work in works.items() if p not in broken}}, 3
    )
    fastest = min((p for p in times if p not in ("ours", "gradient")), key=times.__getitem__)
    table.add_row(
        name, f"spectral density, {STEPS} steps", f"{times['ours'] / times['gradient']:.0f}",
        "\n".join(
            f"{p} " + ("fails" if p in broken else f"{times[p] / times['gradient']:.0f}") for p in works if p != "ours"
        ),
        f"{times['ours'] / times[fastest]:.2f} of {fastest}", "0.8",
    )  # fmt: skip


def main() -> None:
    torch.set_num_threads(1)
    table = Table("network", "quantity", "ours, in gradients", "peers, in gradients", "ratio", "goal", show_lines=True)
    for name in sys.argv[1:] or NETWORKS:
        case = trained(name)
        for report in (report_trace, report_product, report_eigenvalue, report_density):
            try:
                report(name, case, table)
            except Exception as error:  # a peer that cannot do this network is a result, too
                table.add_row(
                    name, report.__name__.removeprefix("report_"), "-", f"{type(error).__name__}: {error}"[:80]
                )
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
