"""Time and peak memory of expanding timm's stock networks, over building the large network alone.

    python benchmarks/expand_stock.py [--operator net2wider] [--threads 1] [--repeats 5]

Times are medians of interleaved repeats in one process; peak memory is measured in a fresh process for each. The error
is max |F - f| / max |f| on weights of order one (fresh ones are vacuous: a zero-initialised branch or head hides all).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import timm
import torch
from rich.console import Console
from rich.table import Table

from mmbench.expansions.apply import expand
from mmbench.expansions.base import EXPANSIONS
from mmbench.models.reading import architecture_of

NETWORKS = ("resnet18", "resnet50", "vit_tiny_patch16_224", "vit_small_patch16_224", "mixer_s32_224", "convnext_atto")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--operator", default="net2wider", choices=EXPANSIONS.names())
    parser.add_argument("--networks", nargs="+", default=NETWORKS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--peak", choices=("build", "expand"), help="print the peak memory of one network, in MiB")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.peak:
        print(peak(options.networks[0], options.operator, options.peak))
        return
    table = Table(title=f"{options.operator}, {options.threads} threads, float32")
    for column in ("network", "parameters", "build", "expand", "ratio", "peak build", "peak expand", "ratio", "error"):
        table.add_column(column, justify="left" if column == "network" else "right")
    for name in options.networks:
        table.add_row(name, *row(name, options))
    Console(width=140).print(table)


def row(name: str, options: argparse.Namespace) -> list[str]:
    """The measurements of one network."""
    model = timm.create_model(name)
    base, shape = architecture_of(model)
    target = EXPANSIONS[options.operator]().target(base, shape).architecture
    jobs = {"build": lambda: target.build(shape), "expand": lambda: expand(model, options.operator)}
    seconds: dict[str, list[float]] = {job: [] for job in jobs}
    for _ in range(options.repeats + 1):
        for job, run in jobs.items():
            start = time.perf_counter()
            run()
            seconds[job].append(time.perf_counter() - start)
    build, whole = (median(seconds[job][1:]) for job in jobs)  # the first repeat warms up
    peaks = []
    for job in jobs:
        command = [sys.executable, __file__, "--networks", name, "--operator", options.operator, "--peak", job]
        peaks.append(float(subprocess.run(command, capture_output=True, text=True, check=True).stdout))
    return [
        f"{base.parameters(shape) / 1e6:.1f} M -> {target.parameters(shape) / 1e6:.1f} M",
        *(f"{build:.2f} s", f"{whole:.2f} s", f"{whole / build:.2f}"),
        *(f"{peaks[0]:.0f} MiB", f"{peaks[1]:.0f} MiB", f"{peaks[1] / peaks[0]:.2f}"),
        f"{error(model, options.operator):.0e}",
    ]


def peak(name: str, operator: str, job: str) -> float:
    """By how much the process grows at most, in MiB."""
    model = timm.create_model(name)
    base, shape = architecture_of(model)
    target = EXPANSIONS[operator]().target(base, shape).architecture
    before = high_water()
    large = target.build(shape) if job == "build" else expand(model, operator)
    assert next(large.parameters()).device.type == "cpu"
    return high_water() - before


def high_water() -> float:
    """The largest resident set so far, in MiB (Linux; `ru_maxrss` would count the parent's)."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def error(model: torch.nn.Module, operator: str) -> float:
    """Largest difference of logits in float64, over the largest logit, in evaluation mode."""
    generator = torch.Generator().manual_seed(0)
    model = model.double().eval()
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            if name.endswith("running_var"):
                tensor.uniform_(0.5, 1.5, generator=generator)
            elif tensor.dim() > 1 and name.endswith("weight"):
                tensor.normal_(std=tensor[0].numel() ** -0.5, generator=generator)
            elif tensor.is_floating_point():
                tensor.normal_(mean=float(name.endswith("weight")), std=0.3, generator=generator)
        images = torch.randn(2, 3, 224, 224, dtype=torch.float64, generator=generator)
        logits = model(images)
        assert (logits[0] - logits[1]).abs().max() > 1e-2 * logits.abs().max(), "the logits hardly depend on the image"
        return float((expand(model, operator)(images) - logits).abs().max() / logits.abs().max())


if __name__ == "__main__":
    main()
