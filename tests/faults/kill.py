"""`kill -9` at random moments: of a process that executes runs, and of whole sweeps with all their workers.

    python -m tests.faults.kill                   200 moments and 30 sweeps, some minutes
    python -m tests.faults.kill --moments 20 --sweeps 3 --seed 7

After each kill, everything that had been finished must be there bit for bit, and everything in the store must be intact
and equal to an undisturbed store's. A store is killed again and again until it is complete, then compared as a whole.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from mmbench.execute import execute
from mmbench.store.files import read_json

from .tiny import SWEEP, contents, finished, opened, several


@dataclass
class Tally:
    """What was seen."""

    kills: Counter[str] = field(default_factory=Counter)
    """By what was going on."""
    stores: int = 0
    """Stores brought to their end and compared."""
    lost: list[str] = field(default_factory=list)
    """What had been finished and is no more, or is not the same."""
    wrong: list[str] = field(default_factory=list)
    """What was read and is not as in an undisturbed store."""

    def check(self, root: Path, before: dict[str, bytes], reference: dict[str, object]) -> None:
        """Look at a store after a kill; `before` is what it must hold."""
        after = finished(root)
        self.lost += [name for name, content in before.items() if after.get(name) != content]
        try:
            found = contents(root)
        except AssertionError as error:
            self.wrong.append(str(error))
        else:
            self.wrong += [name for name, content in found.items() if reference.get(name) != content]


def moment(root: Path) -> str:
    """At what a killed process was, by what it has left behind."""
    marks = [mark["stage"] for path in (root / "running").glob("*.json") if (mark := read_json(path))]
    writing = "writing, " if any((root / "tmp").iterdir()) else ""
    return writing + (f"stage {marks[0]}" if marks else "between runs")


# -- one process ------------------------------------------------------------------------------------------------------


def child(root: Path, report: int = -1) -> int:
    """Fork a process that executes the runs; it writes the name and content of each record that it has finished."""
    pid = os.fork()
    if pid:
        return pid
    try:
        store = opened(root)
        for run in several():
            record = execute(run, store)
            if report >= 0:
                path = f"records/{record['run_id']}.json"
                os.write(report, f"{path}\t{(root / path).read_text()}".encode())
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def kill_moments(folder: Path, kills: int, chance: random.Random, tell=lambda text: None) -> Tally:
    """Kill a process `kills` times, each at a moment drawn uniformly from the time that the work takes."""
    for run in several():
        execute(run, opened(folder / "warm"))  # loads, once for all children, what they would load for seconds
    start = time.monotonic()
    assert os.waitpid(child(folder / "reference"), 0)[1] == 0
    duration = time.monotonic() - start
    reference, tally, root = contents(folder / "reference"), Tally(), folder / "store0"
    while tally.kills.total() < kills:
        opened(root)
        before = finished(root)
        reader, writer = os.pipe()
        pid = child(root, writer)
        os.close(writer)
        time.sleep(chance.uniform(0, duration))
        os.kill(pid, signal.SIGKILL)
        status = os.waitpid(pid, 0)[1]
        with os.fdopen(reader) as pipe:
            before |= {path: text.encode() for path, _, text in (line.partition("\t") for line in pipe)}
        if os.WIFSIGNALED(status):
            tally.kills[moment(root)] += 1
            tell(f"{tally.kills.total()} of {kills}")
        assert status in (0, signal.SIGKILL), "the process failed by itself"
        tally.check(root, before, reference)
        if status == 0:
            tally.stores += 1
            root = folder / f"store{tally.stores}"
    assert os.waitpid(child(root), 0)[1] == 0
    tally.stores += 1
    for number in range(tally.stores):
        if contents(folder / f"store{number}") != reference:
            tally.wrong.append(f"store {number}")
    return tally


# -- whole sweeps -----------------------------------------------------------------------------------------------------


def sweep(folder: Path, results: str, *more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "mmbench", "run", "-m", *SWEEP, f"results={results}", *more],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # a process group, to be killed as one
    )


def completed(folder: Path, results: str, *more: str) -> str:
    """What a sweep says that is left in peace."""
    process = sweep(folder, results, *more)
    said = process.communicate(timeout=300)[0]
    assert process.returncode == 0, said
    return said


MORE = ("seed=0,1,2,3", "training.steps=100")
"""Sixteen runs, so that there is something to hit."""


def at_work(process: subprocess.Popen[str], root: Path) -> float:
    """Wait until a worker is at a run, or the sweep is at its end; the seconds that it took."""
    start = time.monotonic()
    while process.poll() is None and not any((root / "running").glob("*")):
        time.sleep(0.002)
    return time.monotonic() - start


def kill_sweeps(folder: Path, kills: int, chance: random.Random, tell=lambda text: None) -> Tally:
    """Kill a sweep with its workers `kills` times: a sixth of them while it loads, the others while it works.

    The undisturbed store is made in this process, so a sweep has to give the same bits.
    """
    start = time.monotonic()
    for run in several(seeds=4, steps=100):
        execute(run, opened(folder / "reference"))
    working, loading = time.monotonic() - start, 0.0
    reference, tally, root = contents(folder / "reference"), Tally(), folder / "store0"
    while tally.kills.total() < kills:
        opened(root)
        for mark in (root / "running").glob("*"):
            mark.unlink()
        before = finished(root)
        process = sweep(folder, root.name, *MORE)
        if loading and chance.random() < 1 / 6:
            time.sleep(chance.uniform(0, loading))
        else:
            loading = at_work(process, root)
            time.sleep(chance.uniform(0, working))
        before |= finished(root)
        ended = process.poll() is not None
        if not ended:
            os.killpg(process.pid, signal.SIGKILL)
        said = process.communicate(timeout=60)[0]
        if not ended:
            tally.kills[moment(root)] += 1
            tell(f"{tally.kills.total()} of {kills}")
        assert process.returncode in (0, -signal.SIGKILL), said
        tally.check(root, before, reference)
        if ended:
            tally.stores += 1
            root = folder / f"store{tally.stores}"
    completed(folder, root.name, *MORE)
    tally.stores += 1
    for number in range(tally.stores):
        if contents(folder / f"store{number}") != reference:
            tally.wrong.append(f"store {number}")
    return tally


def main(arguments: list[str] | None = None) -> None:
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # torch cannot be forked once it has seen a GPU
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--moments", type=int, default=200)
    parser.add_argument("--sweeps", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(arguments)
    console, failed = Console(), False
    table = Table("killed", "while at", "times", "stores completed", "lost", "wrong")
    levels = {"one process": (kill_moments, asked.moments), "a sweep": (kill_sweeps, asked.sweeps)}
    for title, (level, kills) in levels.items():
        if kills:
            with tempfile.TemporaryDirectory() as folder, console.status(title) as status:
                tally = level(Path(folder), kills, random.Random(asked.seed), status.update)
            for name, count in sorted(tally.kills.items()):
                table.add_row(title, name, str(count))
            total = (tally.kills.total(), tally.stores, len(tally.lost), len(tally.wrong))
            table.add_row(title, "in all", *map(str, total), style="bold")
            table.add_section()
            for what in [*tally.lost, *tally.wrong]:
                console.print(what)
            failed = failed or bool(tally.lost or tally.wrong)
    console.print(table)
    raise SystemExit(failed)


if __name__ == "__main__":
    main()
