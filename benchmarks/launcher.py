"""What a sweep costs beside its own work, against Hydra's basic launcher and joblib's, interleaved in one go.

    pip install hydra-joblib-launcher
    python benchmarks/launcher.py [--jobs 200] [--rounds 3] [--only stored planned quick]

stored    a sweep whose results are all stored, against as many empty jobs of a trivial Hydra app: the time of N jobs
          less that of one, over N - 1; the median of interleaved rounds
planned   `mmbench plan` of 10,000 jobs
quick     1,000 quick runs: wall time against the sum of their own work over the slots, the launcher's peak memory, and
          the time of the same sweep once more, when all is stored
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path
from statistics import median

import psutil
from rich.console import Console
from rich.table import Table

from mmbench.store.files import read_json

EMPTY = """
import hydra
@hydra.main(version_base="1.3", config_path=None)
def app(config):
    pass
app()
"""
TINY = [
    "model.hidden=[4]",
    "dataset.train_size=128",
    "training.steps=5",
    "training.warmup_steps=1",
    "metric=parameters",
]
MMBENCH = [sys.executable, "-m", "mmbench"]


def timed(command: list[str], folder: Path) -> float:
    start = time.perf_counter()
    subprocess.run(command, cwd=folder, check=True, capture_output=True)
    return time.perf_counter() - start


def stored(folder: Path, jobs: int, rounds: int) -> Table:
    """Seconds per job of the three, all of whose jobs have nothing to do."""
    (folder / "app.py").write_text(textwrap.dedent(EMPTY))
    sweep = [*MMBENCH, "run", "-m", *TINY, "expansion=none"]
    empty = [sys.executable, "app.py", "-m"]
    joblib = [*empty, "hydra/launcher=joblib", f"hydra.launcher.n_jobs={os.cpu_count()}"]
    commands = {
        "mmbench, all stored": lambda n: [*sweep, f"seed=range({n})"],
        "Hydra, basic launcher": lambda n: [*empty, f"+i=range({n})"],
        "Hydra, joblib launcher": lambda n: [*joblib, f"+i=range({n})"],
    }
    subprocess.run(commands["mmbench, all stored"](jobs), cwd=folder, check=True, capture_output=True)
    found: dict[str, list[float]] = {name: [] for name in commands}
    one: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(rounds):
        for name, command in commands.items():
            first = timed(command(1), folder)
            one[name].append(first)
            found[name].append((timed(command(jobs), folder) - first) / (jobs - 1))
    basic = median(found["Hydra, basic launcher"])
    table = Table("launcher", "ms per job", "min .. max", "of basic", "one job, s", title=f"{jobs} jobs, nothing to do")
    for name, seconds in found.items():
        ms = [f"{1000 * value:.1f}" for value in (median(seconds), min(seconds), max(seconds))]
        table.add_row(name, ms[0], f"{ms[1]} .. {ms[2]}", f"{median(seconds) / basic:.3f}", f"{median(one[name]):.1f}")
    return table


def planned(folder: Path) -> Table:
    """Seconds of planning 10,000 jobs."""
    axes = ["seed=range(125)", "metric=parameters,random", "expansion=none,zero_pad,net2wider,scratch,random_pad"]
    axes += ["training.lr=0.1,0.05,0.02,0.01", "training.momentum=0.9,0.8"]
    seconds = timed([*MMBENCH, "plan", *axes, "results=empty"], folder)
    table = Table("jobs", "s", "ms per job", title="planning")
    table.add_row("10,000", f"{seconds:.1f}", f"{seconds / 10:.2f}")
    return table


def quick(folder: Path, jobs: int, slots: int) -> Table:
    """Wall time of quick runs, against the sum of what their stages took by the records' own clocks."""
    sweep = [*MMBENCH, "run", "-m", *TINY, "expansion=none", f"seed=range({jobs})", f"hydra.launcher.slots={slots}"]
    start, peak = time.perf_counter(), 0
    process = psutil.Popen([*sweep, "results=quick"], cwd=folder, stdout=subprocess.DEVNULL)
    workers: dict[int, float] = {}
    while process.poll() is None:
        try:
            peak = max(peak, process.memory_info().rss)
            for child in process.children(recursive=True):
                workers[child.pid] = sum(child.cpu_times()[:2])
        except psutil.Error:
            pass
        time.sleep(0.1)
    wall = time.perf_counter() - start
    again = timed([*sweep, "results=quick"], folder)
    columns = ("base_seconds", "expand_seconds", "metric_seconds", "train_seconds")
    records = [read_json(path) or {} for path in (folder / "quick" / "records").glob("*.json")]
    work = sum(record[column] for record in records for column in columns)
    table = Table(
        "runs", "slots", "wall, s", "stages, s", "workers' CPU, s", "wall / (CPU / slots)", "launcher's peak, MiB"
    )
    cpu = sum(workers.values())
    row = f"{len(records):,}", str(slots), f"{wall:.1f}", f"{work:.1f}", f"{cpu:.1f}", f"{wall / (cpu / slots):.2f}"
    table.add_row(*row, f"{peak / 2**20:.0f}", f"{again:.1f}")
    table.title = "quick runs"
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", type=int, default=1000)
    parser.add_argument("--slots", type=int, default=2)
    parser.add_argument("--only", nargs="+", default=["stored", "planned", "quick"])
    options, console = parser.parse_args(), Console(width=120)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parts = {
            "stored": lambda: stored(folder, options.jobs, options.rounds),
            "planned": lambda: planned(folder),
            "quick": lambda: quick(folder, options.quick, options.slots),
        }
        for part in options.only:
            console.print(parts[part]())
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    console.print(f"{os.cpu_count()} CPUs, load {load}, Python {sys.version.split()[0]}")


if __name__ == "__main__":
    main()
