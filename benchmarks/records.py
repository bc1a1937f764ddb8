"""Time and memory to load a store of many records and to judge it, against one parquet file with the same rows.

    python benchmarks/records.py [--sizes 1000 10000 100000] [--folder DIR]

Records are synthetic, with the columns of real ones, written as `Store.write_record` writes them (about 1.6 kB each).
Each case runs in a process of its own, whose peak memory is that of the whole process, imports included (from /proc, so
on Linux); `imports` is a process that loads nothing. `cold` has no cache beside the records (the files themselves are
in the page cache, having just been written), `warm` has one that fits, `100 new` one that lacks a hundred records.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

METRICS = 40
EXPANSIONS = ("net2wider", "zero_pad", "random_pad", "hypercloning", "lemon", "gradmax", "stack", "identity_block")
CASES = ("imports", "cold", "warm", "100 new", "one parquet", "correlate", "judge")


def records(count: int) -> list[dict[str, Any]]:
    """Runs of 40 metrics over data sets, models, expansions, budgets and seeds, the fastest index first."""
    draw = np.random.default_rng(0)
    made = []
    for place in range(count):
        metric, rest = place % METRICS, place // METRICS
        seed, rest = rest % 3, rest // 3
        expansion, rest = rest % (len(EXPANSIONS) + 2), rest // (len(EXPANSIONS) + 2)
        budget, rest = (1.5, 2.0, 4.0)[rest % 3], rest // 3
        model, data = ("mlp", "resnet", "vit", "mixer", "convnext")[rest % 5], rest // 5
        name = [*EXPANSIONS, "scratch", "scratch_matched"][expansion]
        quality = np.random.default_rng([expansion, data]).normal() / 100
        gain = float(0.02 * np.log2(budget) + quality + np.random.default_rng([expansion, data, seed]).normal() / 200)
        run = hashlib.sha256(str(place).encode()).hexdigest()[:24]
        made.append(
            {
                **{"run_id": run, "status": "done", "error": None, "device": "cpu", "model": model, "seed": seed},
                **{"dataset": f"set{data}", "expansion": name, "axis": "width", "factor": budget**0.5},
                **{"budget": budget, "training": "sgd", "metric": f"metric{metric}" if metric else "manifold"},
                **{"arm": "control" if name.startswith("scratch") else "expansion", "preserves": True},
                **{"metric_id": f"{metric:024x}", "configuration": f"{place // METRICS // 3:024x}"},
                **{"base_configuration": f"{model}{data}".zfill(24), "base_id": f"{model}{data}{seed}".zfill(24)},
                **{"expected_sign": metric % 3 - 1, "score": float(gain * (metric % 3 - 1) + draw.normal() / 50)},
                **{"score_stderr": 0.01, "metric_seconds": 0.5, "parameters": int(1e4 * budget) + expansion % 3},
                **{"base_parameters": 10_000, "depth": 4, "flops": int(2e6 * budget), "base_flops": 2_000_000},
                **{"base_accuracy": 0.8, "base_loss": 0.6, "base_validation_accuracy": 0.79, "base_seconds": 9.0},
                **{"max_difference": 1e-13, "expand_seconds": 0.01, f"metric{metric}_barrier": float(draw.normal())},
                **{"final_accuracy": 0.8 + gain, "final_loss": 0.5 - gain, "final_validation_accuracy": 0.8 + gain},
                **{"final_train_loss": 0.2, "gain": gain, "train_steps": 1000, "train_seconds": 10.0},
            }
        )
    return made


def write(folder: Path, made: list[dict[str, Any]]) -> None:
    """As a store does, without waiting for the disk."""
    from mmbench.store.files import canonical, digest

    (folder / "records").mkdir(parents=True, exist_ok=True)
    for record in made:
        text = canonical({"sha256": digest(record), "content": record}) + "\n"
        (folder / "records" / f"{record['run_id']}.json").write_text(text)


def measure(case: str, folder: Path) -> dict[str, Any]:
    """One case, in this process."""
    import pandas as pd

    import mmbench
    from mmbench.statistics.judge import judge

    frame = None
    if case in ("correlate", "judge"):
        frame = mmbench.load_records(folder)
    start, cpu = time.perf_counter(), time.process_time()
    if case in ("cold", "warm", "100 new"):
        frame = mmbench.load_records(folder)
    elif case == "one parquet":
        frame = pd.read_parquet(folder / "one.parquet")
    elif case == "correlate":
        mmbench.correlate(frame)
    elif case == "judge":
        judge(frame)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    assert "torch" not in sys.modules
    # Not getrusage: its peak is handed down from the parent process.
    peak = int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024
    return {"seconds": seconds, "cpu": cpu, "peak": peak, "rows": 0 if frame is None else len(frame)}


def prepare(case: str, folder: Path, new: list[dict[str, Any]]) -> None:
    """Bring the store into the state that a case begins with."""
    import mmbench

    if case == "cold":
        shutil.rmtree(folder / "cache", ignore_errors=True)
    elif case == "100 new":
        write(folder, new)
    elif case == "one parquet":
        mmbench.load_records(folder).to_parquet(folder / "one.parquet", index=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--folder", type=Path, default=None, help="where to make the stores (default: a temporary one)")
    parser.add_argument("--case", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measure(options.case[0], Path(options.case[1]))))
        return
    table = Table("records", "case", "seconds", "CPU seconds", "peak MB", "rows", title="load and judge")
    with tempfile.TemporaryDirectory(dir=options.folder) as root:
        for size in options.sizes:
            folder = Path(root) / str(size)
            made = records(size + 100)
            write(folder, made[:size])
            time.sleep(2.1)  # files this fresh are read again: see mmbench/records/cache.py
            for case in CASES:
                prepare(case, folder, made[size:])
                command = [sys.executable, __file__, "--case", case, str(folder)]
                found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
                row = (f"{size:,}", case, f"{found['seconds']:.2f}")
                row += (f"{found['cpu']:.2f}", f"{found['peak']:.0f}", f"{found['rows']:,}")
                table.add_row(*row)
                print(*row, flush=True)
    Console().print(table)


if __name__ == "__main__":
    main()
