"""A sweep through one of Hydra's other launchers: submitit (Slurm), Ray, joblib, basic.

The sweep is stored first, with its runs grouped into jobs that share an expanded model. A job gets only its number: it
reads its runs from the store (`run_job`) and writes their records there. Only the store says which runs are done or
still being computed, whatever the launcher returns or raises.
"""

from __future__ import annotations

import contextlib
import copy
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, read_write
from rich.markup import escape

from mmbench import console
from mmbench.config import Settings
from mmbench.launcher.local import summarise
from mmbench.launcher.one_run import run_in
from mmbench.launcher.outcome import Outcome, is_undefined, still_to_run
from mmbench.launcher.overrides import command
from mmbench.launcher.schedule import grouped
from mmbench.run import Run, is_final, note_moments
from mmbench.store.store import Store
from mmbench.sweep import as_json, read_job
from mmbench.tracking.follow import following

LOOK = 2.0
"""Seconds between two looks at the store, while waiting for runs that the launcher does not wait for."""
GRACE = 180.0
"""Seconds after which runs that no process computes are given up. A process counts as alive for a minute after its last
heartbeat, a new one loads torch first, and Slurm starts a requeued job after two minutes by default."""
START = 30.0
"""The same while no run of the launch has begun, as after a submission that failed."""


class JobLoader:
    """Replaces Hydra's config loader: the config of a job is its number and the sweep's settings.

    Hydra's loader would compose each job's config on the machine that runs it, from the YAML files at that time. With
    this one, later changes to these files have no effect.
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
    """Launch the missing runs, wait for them, and print how they ended.

    Args:
        launcher: a Hydra launcher that has been set up.
        runs: the sweep, without repeats.
        settings: results folder, device, threads.

    Raises:
        SystemExit: with status 1 if a run failed or has no record, 130 after Ctrl-C.
    """
    store = Store(Path(settings.results), tell=console.warn)
    store.prepare()
    outcome = Outcome()
    groups = grouped([run for run in runs if not is_undefined(run)])
    note_moments(store, runs)
    sweep = store.write_sweep({**as_json(runs), "jobs": [[run.run_id for run in group] for group in groups]})
    missing = {run.run_id for run in still_to_run(runs, store, outcome)}
    jobs = {number: rest for number, group in enumerate(groups) if (rest := missing & {run.run_id for run in group})}
    errors: list[str] = []
    if jobs:
        name = type(launcher).__name__
        console.say(f"Launching {len(missing)} runs in {len(jobs)} jobs of the sweep {sweep} through {name}.")
        launcher.hydra_context = copy.copy(launcher.hydra_context)
        launcher.hydra_context.config_loader = JobLoader(settings)
        try:
            with following(store, runs, settings.tracker, sweep):
                errors, all_ended = _launch(launcher, [[f"job={sweep}:{number}"] for number in jobs])
                if not all_ended:
                    _wait_for(missing, store, errors)
        except KeyboardInterrupt:  # Slurm's jobs live on
            _say_interrupted(name, missing, store)
            raise SystemExit(130) from None
    else:
        console.say("Nothing to launch: every run has its record.")
    lost = _count(missing, store, outcome)
    outcome.statuses += Counter(missing=len(lost))
    summarise(outcome, settings, elsewhere=True)
    if lost:
        ended = sum(1 for rest in jobs.values() if rest & lost)
        reason = "; ".join(errors) or "no reason was given"
        console.say(
            f"[red]{len(lost)} runs of {ended} jobs ended without a record[/]: {escape(reason)}; the same command runs "
            "them again"
        )
    elif errors:
        console.warn("; ".join(errors))
    if lost or outcome.statuses["failed"]:
        raise SystemExit(1)


def run_job(job: str, settings: Settings) -> None:
    """On the machine of a job `SWEEP:INDEX`: execute those of its runs that have no final record."""
    store = Store(Path(settings.results), tell=console.warn)
    with _errors_of_signals():
        for run in read_job(store, job):
            record = store.read_record(run.run_id)
            if record is None or not is_final(record):
                run_in(Store(store.root, store.tell), run, settings)  # a store per run counts what that run computes


class _EndedError(BaseException):
    """The launcher ends the job. The run has not failed, so this must not be in its record."""

    def __init__(self, error: Exception) -> None:
        self.error = error


@contextlib.contextmanager
def _errors_of_signals() -> Iterator[None]:
    """Let an error raised by a launcher's signal handler end the job, without failing the run that is being computed.

    submitit's handler raises one when a job's time is used up.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGUSR1, signal.SIGUSR2)}

    def handle(number: int, frame: Any) -> None:
        handler: Any = before[signal.Signals(number)]
        try:
            handler(number, frame)
        except Exception as error:
            raise _EndedError(error) from None

    ours = [number for number, handler in before.items() if callable(handler)]
    try:
        for number in ours:
            signal.signal(number, handle)
        yield
    except _EndedError as end:
        raise end.error from None
    finally:
        for number in ours:
            signal.signal(number, before[number])


def _count(run_ids: set[str], store: Store, outcome: Outcome) -> set[str]:
    """Count the runs that have been launched, and return those without a record."""
    lost = set()
    for run_id in run_ids:
        record = store.read_record(run_id)
        if record is None:
            lost.add(run_id)
        else:
            outcome.add(record)
    return lost


def _launch(launcher: Any, jobs: list[list[str]]) -> tuple[list[str], bool]:
    """Launch the jobs and wait for as long as the launcher does.

    Returns:
        A line per error; and whether all jobs have ended. The launchers of submitit and Ray ask for the results one
        after the other, and raise at the first job that was killed, while others still run.
    """
    try:
        returned = list(launcher.launch(jobs, initial_job_idx=0))
    except Exception as error:
        return [_line(error)], False
    errors = [_line(problem) for job in returned if (problem := _error(job)) is not None]
    return list(dict.fromkeys(errors)), len(returned) >= len(jobs)


def _wait_for(run_ids: set[str], store: Store, errors: list[str]) -> None:
    """Wait until each run has its record, or no process has computed any of the others for `GRACE` seconds."""
    left = run_ids - store.record_ids()
    if not left:
        return
    begun = left != run_ids or bool(run_ids & {beat.run_id for beat in store.interrupted()})
    patience = GRACE if begun else START
    console.warn(
        f"the launcher has ended ({'; '.join(errors) or 'without an error'}), and {len(left)} runs have no record yet: "
        f"waiting until they have one, or until no process has computed any of them for {patience:g} s (Ctrl-C stops "
        "waiting)"
    )
    alive = time.monotonic()
    while left and time.monotonic() - alive < patience:
        time.sleep(LOOK)
        still = left - store.record_ids()
        if still != left or still & store.running().keys():
            left, alive, patience = still, time.monotonic(), GRACE
    if left:
        console.warn(
            f"no longer waiting: no process has computed any of {len(left)} runs for {patience:g} s. If their jobs are "
            "still in a queue, they go on; give the same command again when none is left"
        )


def _error(job: Any) -> BaseException | None:
    """The error of a job, which a launcher returns as it is or inside Hydra's JobReturn."""
    value = getattr(job, "_return_value", job)
    return value if isinstance(value, BaseException) else None


def _line(error: BaseException) -> str:
    """An error in one line, without the log that submitit appends."""
    text = re.split(r"\n(?:Error stream|No error stream|No output)", str(error))[0]
    return f"{type(error).__name__}: {' '.join(text.split())}"[:400]


def _say_interrupted(name: str, run_ids: set[str], store: Store) -> None:
    done = len(run_ids & store.record_ids())
    if name.startswith("Slurm"):
        console.warn(
            f"no longer waiting: {done} of {len(run_ids)} runs have their record, and the jobs go on in Slurm (squeue "
            f"shows them, scancel ends them). {command('status', results=str(store.root))} shows the progress; when no "
            "job is left, the same command launches the runs that are still missing"
        )
    else:
        console.warn(
            f"stopped: {done} of {len(run_ids)} runs have their record, and every finished stage is stored in "
            f"{store.root}; the same command goes on from there"
        )
