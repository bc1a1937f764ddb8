"""A sweep through a launcher that is not ours: Slurm by submitit, Ray, joblib, Hydra's own basic one.

The runs are written down first, grouped into jobs that share an expanded model, and each job is told only its number:
it reads its runs from the store (`run_job`) and writes their records there. What the launcher returns or raises decides
nothing; what became of the runs is read from the store.
"""

from __future__ import annotations

import contextlib
import copy
import re
import signal
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, read_write
from rich.markup import escape

from mmbench import console
from mmbench.config import Settings
from mmbench.launcher.local import summarise
from mmbench.launcher.outcome import Outcome, is_undefined, still_to_run
from mmbench.launcher.schedule import grouped
from mmbench.launcher.single import run_in
from mmbench.run import Run, is_final
from mmbench.store.store import Store
from mmbench.sweep import frozen, thawed
from mmbench.tracking.follow import following


class FrozenLoader:
    """In place of Hydra's config loader: a job's config is the one that was composed before, and its number.

    Launchers compose each job's config on the machine that runs it, from the YAML files as they are by then.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = {**settings.model_dump(exclude={"tracker"}), "results": str(Path(settings.results).absolute())}

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """Called by the launcher with the one override `job=SWEEP:INDEX`."""
        config = OmegaConf.create({**self.settings, "job": sweep_overrides[0].removeprefix("job=")})
        config.hydra = copy.deepcopy(master_config.hydra)
        with read_write(config):
            config.hydra.overrides.task = list(sweep_overrides)
        return config


def run_elsewhere(launcher: Any, runs: list[Run], settings: Settings) -> None:
    """Launch what is missing, wait for it, say what became of it. Exits with status 1 if a run failed or is missing.

    Args:
        launcher: a Hydra launcher that has been set up.
        runs: the sweep, without repeats.
        settings: results folder, device, threads.
    """
    store = Store(Path(settings.results), tell=console.warn)
    store.prepare()
    outcome = Outcome()
    groups = grouped([run for run in runs if not is_undefined(run)])
    sweep = store.write_sweep({**frozen(runs), "jobs": [[run.run_id for run in group] for group in groups]})
    missing = {run.run_id for run in still_to_run(runs, store, outcome)}
    jobs = {number: rest for number, group in enumerate(groups) if (rest := missing & {run.run_id for run in group})}
    errors: list[str] = []
    if jobs:
        name = type(launcher).__name__
        console.say(f"Launching {len(missing)} runs in {len(jobs)} jobs of the sweep {sweep} through {name}.")
        launcher.hydra_context = copy.copy(launcher.hydra_context)
        launcher.hydra_context.config_loader = FrozenLoader(settings)
        try:
            with following(store, runs, settings.tracker, sweep):
                errors = _launch(launcher, [[f"job={sweep}:{number}"] for number in jobs])
        except KeyboardInterrupt:  # Slurm's jobs live on
            _interrupted(name, missing, store)
            raise SystemExit(130) from None
    else:
        console.say("Nothing to launch: every run has its record.")
    lost = _count(missing, store, outcome)
    outcome.statuses += Counter(missing=len(lost))
    summarise(outcome, settings, elsewhere=True)
    if lost:
        ended = sum(1 for rest in jobs.values() if rest & lost)
        reason = "; ".join(dict.fromkeys(errors)) or "no reason was given"
        console.say(
            f"[red]{len(lost)} runs of {ended} jobs ended without a record[/]: {escape(reason)}; the same command runs "
            "them again"
        )
    elif errors:
        console.warn("; ".join(dict.fromkeys(errors)))
    if lost or outcome.statuses["failed"]:
        raise SystemExit(1)


def run_job(job: str, settings: Settings) -> None:
    """On the machine of a job `SWEEP:INDEX`: execute those of its runs that have no final record."""
    store = Store(Path(settings.results), tell=console.warn)
    with _told_by_signals():
        for run in thawed(store, job):
            record = store.read_record(run.run_id)
            if record is None or not is_final(record):
                run_in(
                    Store(store.root, store.tell), run, settings
                )  # a store of its own, which counts what it computes


class _EndedError(BaseException):
    """The launcher ends the job; nothing that a run has to do with, so that it must not be in its record."""

    def __init__(self, error: Exception) -> None:
        self.error = error


@contextlib.contextmanager
def _told_by_signals() -> Iterator[None]:
    """Take an error that a launcher's signal handler raises past the run that is at work.

    submitit's handler does so at the end of a job's time, wherever the job is then.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGUSR2)}

    def heard(number: int, frame: Any) -> None:
        handler: Any = before[signal.Signals(number)]
        try:
            handler(number, frame)
        except Exception as error:
            raise _EndedError(error) from None

    ours = [number for number, handler in before.items() if callable(handler)]
    try:
        for number in ours:
            signal.signal(number, heard)
        yield
    except _EndedError as end:
        raise end.error from None
    finally:
        for number in ours:
            signal.signal(number, before[number])


def _count(run_ids: set[str], store: Store, outcome: Outcome) -> set[str]:
    """Count the runs that have been launched; those without a record are returned."""
    lost = set()
    for run_id in run_ids:
        record = store.read_record(run_id)
        if record is None:
            lost.add(run_id)
        else:
            outcome.add(record)
    return lost


def _launch(launcher: Any, jobs: list[list[str]]) -> list[str]:
    """Launch the jobs and wait until the last has ended; what went wrong with any of them, a line each."""
    try:
        returned = list(launcher.launch(jobs, initial_job_idx=0))
    except Exception as error:
        handles = _handles(error)
        if not handles:
            return [_line(error)]
        returned = [_awaited(handle) for handle in handles]
    return [_line(problem) for job in returned if (problem := _error(job)) is not None]


def _handles(error: Exception) -> list[Any]:
    """The jobs that a launcher was waiting for.

    The launchers of submitit and Ray ask for the results one after the other and give up at the first job that was
    killed, while the others are at work. Nothing but the launcher's own frame knows these.
    """
    for frame, _ in traceback.walk_tb(error.__traceback__):
        for name in ("jobs", "runs"):
            value = frame.f_locals.get(name)
            if isinstance(value, list) and value and (hasattr(value[0], "results") or _of_ray(value[0])):
                return value
    return []


def _of_ray(handle: Any) -> bool:
    return type(handle).__module__.partition(".")[0] == "ray"


def _awaited(handle: Any) -> Any:
    """What a job came to: Hydra's JobReturn, or an error."""
    try:
        if _of_ray(handle):
            import ray

            return ray.get(handle)
        return handle.results()[0]
    except Exception as error:
        return error


def _error(job: Any) -> BaseException | None:
    """The error of a job, given as itself or inside Hydra's JobReturn."""
    value = getattr(job, "_return_value", job)
    return value if isinstance(value, BaseException) else None


def _line(error: BaseException) -> str:
    """An error in one line, without the log that submitit puts behind it."""
    text = re.split(r"\n(?:Error stream|No error stream|No output)", str(error))[0]
    return f"{type(error).__name__}: {' '.join(text.split())}"[:400]


def _interrupted(name: str, run_ids: set[str], store: Store) -> None:
    done = len(run_ids & store.record_ids())
    if name.startswith("Slurm"):
        console.warn(
            f"no longer waiting: {done} of {len(run_ids)} runs have their record, and the jobs go on in Slurm (squeue "
            f"shows them, scancel ends them). mmbench status results={store.root} counts; when no job is left, the "
            "same command collects, and launches what is missing"
        )
    else:
        console.warn(
            f"stopped: {done} of {len(run_ids)} runs have their record, and every finished stage is stored in "
            f"{store.root}; the same command goes on from there"
        )
