"""What tracking costs a sweep: the same sweep without a tracker, with one offline, in turn, and the ratio of the two.

    python benchmarks/tracking.py [REPEATS] [STEPS]

Every pair is a sweep of eight models of two metrics in a store of its own, in an order that alternates. Printed are the
ratios of the time by the clock and of the CPU time of all processes, which others on the machine disturb less; and what
one model more costs, from `mmbench track` on a store with and without something to log.
"""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import sys
import tempfile
import time

import psutil

SWEEP = ["model.hidden=[32]", "metric=parameters,random", "expansion=none,net2wider,zero_pad,random_pad", "seed=0,1"]
SWEEP += ["hydra.launcher.slots=1"]
MODELS = 8
OFFLINE = ("tracker=wandb", "tracker.mode=offline")


def command(folder: str, *arguments: str) -> tuple[float, float]:
    """Seconds of a command by the clock, and of CPU of it and of all processes that it started, as seen meanwhile."""
    start = time.perf_counter()
    called = [sys.executable, "-m", "mmbench", *arguments, f"results={folder}/results"]
    process = subprocess.Popen(called, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    root, used = psutil.Process(process.pid), {}
    while process.poll() is None:
        with contextlib.suppress(psutil.Error):
            for one in [root, *root.children(recursive=True)]:
                with contextlib.suppress(psutil.Error):
                    used[one.pid, one.create_time()] = sum(one.cpu_times()[:2])
        time.sleep(0.1)
    assert process.returncode == 0, arguments
    return time.perf_counter() - start, sum(used.values())


def main(repeats: int, steps: int) -> None:
    ratios: list[list[float]] = []
    models: list[float] = []
    for i in range(repeats):
        sides = {"none": (), "wandb": OFFLINE}
        found = {}
        for name in list(sides) if i % 2 == 0 else list(reversed(sides)):
            with tempfile.TemporaryDirectory() as folder:
                found[name] = command(folder, "run", "-m", *SWEEP, f"training.steps={steps}", *sides[name])
                if name == "none":
                    logged, nothing = (command(folder, "track", *OFFLINE)[1] for _ in range(2))
                    models.append((logged - nothing) / MODELS)
        ratios.append([found["wandb"][k] / found["none"][k] for k in (0, 1)])
        seconds, used = found["none"]
        print(f"{seconds:6.1f} s, {used:.1f} s of CPU: x {ratios[-1][0]:.3f}, x {ratios[-1][1]:.3f}", flush=True)
    for k, what in enumerate(("by the clock", "CPU")):
        column = [pair[k] for pair in ratios]
        print(f"{what:14} x {statistics.median(column):.3f} (from {min(column):.3f} to {max(column):.3f})")
    print(f"one model      {statistics.median(models):.2f} s of CPU, the client's start included")


if __name__ == "__main__":
    given = [int(argument) for argument in sys.argv[1:]]
    main(*given, *(5, 3000)[len(given) :])
