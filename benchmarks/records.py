"""Time and memory to load a store of many records and to judge it, against one parquet file with the same rows.

    python benchmarks/records.py [--sizes 1000 5000 20000] [--folder DIR]

Records are synthetic, with the columns of real ones, written as `Store.write_record` writes them (about 1.6 kB each);
the files are in the page cache, having just been written. Each case runs in a process of its own, whose peak memory is
that of the whole process, imports included (from /proc, so on Linux); `imports` is a process that loads nothing. A case
that does not get as many rows as were written fails. What was measured is printed as it comes, so that a run can be
stopped early.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

import mmbench
from mmbench.store.files import write_json
from mmbench.store.store import VERSION

METRICS = 40
EXPANSIONS = ("net2wider", "zero_pad", "random_pad", "hypercloning", "lemon", "gradmax", "stack", "identity_block")
CASES = ("imports", "records", "one parquet", "correlate", "judge")


def records(count: int) -> list[dict[str, Any]]:
    """Runs of 40 metrics over data sets, models, expansions, budgets and seeds, the fastest index first."""
    draw = np.random.default_rng(0)
    rows = []
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
        rows.append(
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
    return rows


def write(folder: Path, rows: list[dict[str, Any]]) -> None:
    """As a store does, without waiting for the disk; and all rows in one parquet file."""
    (folder / "records").mkdir(parents=True)
    for row in rows:
        path = folder / "records" / f"{row['run_id']}.json"
        write_json(path, {**row, "store_version": VERSION}, durable=False)
    pd.DataFrame(rows).to_parquet(folder / "one.parquet", index=False)


def measure(case: str, folder: Path) -> dict[str, Any]:
    """Seconds and CPU seconds of one case in this process, the peak of its memory in MB, and the rows that it read."""
    frame = mmbench.load_records(folder) if case in ("correlate", "judge") else pd.DataFrame()
    start, cpu = time.perf_counter(), time.process_time()
    if case == "records":
        frame = mmbench.load_records(folder)
    elif case == "one parquet":
        frame = pd.read_parquet(folder / "one.parquet")
    elif case == "correlate":
        mmbench.correlate(frame)
    elif case == "judge":
        mmbench.judge(frame)
    seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
    # Not getrusage: a process inherits its parent's peak there.
    peak = int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())[1]) / 1024
    return {"seconds": seconds, "cpu": cpu, "peak": peak, "rows": len(frame)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 5000, 20_000])
    parser.add_argument("--folder", type=Path, default=None, help="where to make the stores (default: a temporary one)")
    parser.add_argument("--case", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(measure(options.case[0], Path(options.case[1]))))
        return
    table = Table("records", "case", "seconds", "CPU seconds", "peak MB", title="load and judge")
    try:
        with tempfile.TemporaryDirectory(dir=options.folder) as root:
            for size in options.sizes:
                folder = Path(root) / str(size)
                write(folder, records(size))
                for case in CASES:
                    command = [sys.executable, __file__, "--case", case, str(folder)]
                    result = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
                    if result["rows"] != (0 if case == "imports" else size):
                        sys.exit(f"{case}: {result['rows']:,} rows were read of the {size:,} that were written")
                    row = (
                        f"{size:,}",
                        case,
                        f"{result['seconds']:.2f}",
                        f"{result['cpu']:.2f}",
                        f"{result['peak']:.0f}",
                    )
                    table.add_row(*row)
                    print(*row, flush=True)
    except KeyboardInterrupt:
        print("stopped")
    Console().print(table)


if __name__ == "__main__":
    main()
