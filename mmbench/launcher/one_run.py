"""One run in this process, with its progress shown."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from rich.markup import escape

from mmbench import console
from mmbench.config import Settings, prepare
from mmbench.execute import execute
from mmbench.run import Run, is_final
from mmbench.store.stages import computed, doing
from mmbench.store.store import Store
from mmbench.sweep import as_json
from mmbench.text import number
from mmbench.tracking.follow import following


def run_one(run: Run, settings: Settings) -> bool:
    """Execute a run, and print its results and where the record is.

    Returns:
        False if it failed.
    """
    store = Store(Path(settings.results), tell=console.warn)
    store.prepare()
    sweep = store.write_sweep(as_json([run]))
    with following(store, [run], settings.tracker, sweep):
        return run_in(store, run, settings)


def run_in(store: Store, run: Run, settings: Settings) -> bool:
    """Like `run_one`, on a prepared store that already lists the run.

    Args:
        store: counts what is computed.
        run: what to execute, unless it has a final record.
        settings: device, threads.

    Returns:
        False if it failed.
    """
    record = store.read_record(run.run_id)
    console.say(f"[bold]{escape(run.label)}[/]")
    if record is None or not is_final(record):
        with console.err.status("loading the data") as status:
            device = prepare(settings)
            record = execute(run, store, device, console.track, lambda stage: status.update(doing(stage)))
    if record["status"] != "done":
        console.say(f"[yellow]{record['status']}[/]: {escape(str(record['error']))}")
    else:
        _show(record)
    path = store.root / "records" / f"{run.run_id}.json"
    console.say(f"  computed         {computed(store.computed)}; stored results were not computed again")
    console.say(f"  record           {escape(str(path))}")
    return bool(record["status"] != "failed")


def _show(r: dict[str, object]) -> None:
    n = partial(number, digits=4)
    error = f" ± {n(r['score_stderr'], digits=2)}" if r["score_stderr"] is not None else ""
    console.say(
        f"  base model       {r['base_parameters']:,} parameters, test accuracy {n(r['base_accuracy'])}\n"
        f"  expanded         {r['parameters']:,} parameters ({n(r['budget'], digits=3)}x),"
        f" {r['axis']} factor {n(r['factor'])}, max |f_large - f_small| = {n(r['max_difference'], digits=2)}\n"
        f"  {r['metric']:16} {n(r['score'])}{error} in {n(r['metric_seconds'], digits=2)} s\n"
        f"  after training   test accuracy {n(r['final_accuracy'])}, gain {r['gain']:+.4f},"
        f" in {n(r['train_seconds'], digits=2)} s"
    )
