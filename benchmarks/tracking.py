"""What tracking costs a sweep: the same sweep with and without it, in turn, and the time of each run as a ratio.

    python benchmarks/tracking.py [REPEATS] [STEPS]

Every pair is a sweep of eight models of two metrics in a store of its own, offline and without a tracker, in an order
that alternates. Printed are the ratios of the command's time by the clock, of the CPU time of all its processes, and of
the time that its trainings took, which tracking beside them may slow.
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


def timed(steps: int, *overrides: str) -> tuple[float, float, float]:
    """Seconds of the command by the clock and of CPU, and of all its trainings."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "mmbench", "run", "-m", *SWEEP, f"training.steps={steps}", *overrides]
        start, used = time.perf_counter(), cpu()
        subprocess.run([*command, f"results={folder}/results"], check=True, capture_output=True)
        seconds, used = time.perf_counter() - start, cpu() - used
        frame = load_records(Path(folder) / "results")
        return seconds, used, float(frame.drop_duplicates(["configuration", "seed"])["train_seconds"].sum())


def cpu() -> float:
    """CPU seconds of all processes that were started and have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main(repeats: int, steps: int) -> None:
    pairs = []
    for i in range(repeats):
        sides = {"none": (), "wandb": ("tracker=wandb", "tracker.mode=offline")}
        order = list(sides) if i % 2 == 0 else list(reversed(sides))
        pairs.append({name: timed(steps, *sides[name]) for name in order})
        ratios = [pairs[-1]["wandb"][k] / pairs[-1]["none"][k] for k in (0, 1, 2)]
        print(
            f"{pairs[-1]['none'][0]:6.1f} s without, command x {ratios[0]:.3f}, trainings x {ratios[1]:.3f}", flush=True
        )
    for k, what in enumerate(("by the clock", "CPU", "trainings")):
        found = [pair["wandb"][k] / pair["none"][k] for pair in pairs]
        print(f"{what:10} x {statistics.median(found):.3f} (from {min(found):.3f} to {max(found):.3f})")


if __name__ == "__main__":
    given = [int(argument) for argument in sys.argv[1:]]
    main(*given, *(5, 3000)[len(given) :])
