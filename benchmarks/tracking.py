"""What tracking costs a sweep: the same sweep with and without it, in turn, and the time of each run as a ratio.

    python benchmarks/tracking.py [REPEATS] [STEPS]

Every pair is a sweep of eight models of two metrics in a store of its own, offline and without a tracker, in an order
that alternates. Printed are the ratios of the sweep's time by the clock and of the time that its trainings took, which
tracking beside them may slow; and what `mmbench track` takes more where there is something to log, per model.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mmbench import load_records

SWEEP = ["model.hidden=[32]", "metric=parameters,random", "expansion=none,net2wider,zero_pad,random_pad", "seed=0,1"]
SWEEP += ["hydra.launcher.slots=1"]
MODELS = 8
OFFLINE = ("tracker=wandb", "tracker.mode=offline")


def command(folder: str, *arguments: str) -> tuple[float, float]:
    """Seconds of a command by the clock, and of CPU of it and those of its processes that it waited for."""
    start, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    called = [sys.executable, "-m", "mmbench", *arguments, f"results={folder}/results"]
    subprocess.run(called, check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return time.perf_counter() - start, used


def swept(folder: str, steps: int, *overrides: str) -> tuple[float, float]:
    """Seconds of a sweep by the clock, and of all its trainings."""
    seconds, _ = command(folder, "run", "-m", *SWEEP, f"training.steps={steps}", *overrides)
    frame = load_records(Path(folder) / "results")
    return seconds, float(frame.drop_duplicates(["configuration", "seed"])["train_seconds"].sum())


def main(repeats: int, steps: int) -> None:
    ratios: list[list[float]] = []
    models: list[float] = []
    for i in range(repeats):
        sides = {"none": (), "wandb": OFFLINE}
        found = {}
        for name in list(sides) if i % 2 == 0 else list(reversed(sides)):
            with tempfile.TemporaryDirectory() as folder:
                found[name] = swept(folder, steps, *sides[name])
                if name == "none":
                    logged, nothing = (command(folder, "track", *OFFLINE)[1] for _ in range(2))
                    models.append((logged - nothing) / MODELS)
        ratios.append([found["wandb"][k] / found["none"][k] for k in (0, 1)])
        print(f"{found['none'][0]:6.1f} s without: x {ratios[-1][0]:.3f}, trainings x {ratios[-1][1]:.3f}", flush=True)
    for k, what in enumerate(("the sweep", "its trainings")):
        column = [pair[k] for pair in ratios]
        print(f"{what:14} x {statistics.median(column):.3f} (from {min(column):.3f} to {max(column):.3f})")
    print(f"one model      {statistics.median(models):.2f} s of CPU")


if __name__ == "__main__":
    given = [int(argument) for argument in sys.argv[1:]]
    main(*given, *(5, 3000)[len(given) :])
