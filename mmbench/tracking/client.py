"""Talks to the W&B client: the only file that imports it for runs. Runs in a process of its own (see `worker`)."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from mmbench.tracking.content import Content
from mmbench.tracking.ledger import Ledger
from mmbench.tracking.options import Wandb

RETRIES = 2
"""How often the client tries a request again."""


class UploadError(Exception):
    """The client has ended before everything was uploaded."""


class Logged(NamedTuple):
    """The state of a W&B run after a task."""

    where: str
    """`online`, `offline`, or `stored` if it was logged before."""
    url: str | None = None


def log(content: Content, tracker: Wandb, mode: str, ledger: Ledger, group: str | None, extra: Any = None) -> Logged:
    """Log a run unless it was logged before, and note it. A run that has grown is logged again as a whole.

    Args:
        content: the run.
        tracker: where to log.
        mode: `online` or `offline`, whatever the tracker asks for.
        ledger: the notes of what was logged.
        group: the W&B group.
        extra: called with the W&B run, to log what is not a plain value.

    Returns:
        Where it is, and its address if it is online.

    Raises:
        UploadError: the client ended before everything was uploaded; nothing is noted. The client's own errors pass
            through.
    """
    with ledger.lock(content.id):
        if ledger.holds(content.id, content.digest, mode):
            return Logged("stored")
        ledger.supersede(content.id)
        with _opened(content, tracker, mode, ledger.folder, group) as run:
            if extra is not None:
                extra(run)
            for row in content.history:
                run.log(row)
            run.summary.update(content.summary)
        folder = Path(run.settings.sync_dir)
        if mode == "online":
            for reason in _errors(folder):  # `finish` does not raise when uploads have failed
                raise UploadError(reason)
            ledger.supersede(content.id)
        note = {"digest": content.digest, "where": mode, "folder": folder.name, "name": content.name}
        ledger.write(content.id, note)
        return Logged(mode, run.url if mode == "online" else None)


@contextlib.contextmanager
def _opened(content: Content, tracker: Wandb, mode: str, folder: Path, group: str | None) -> Iterator[Any]:
    """A W&B run, finished at the end of the block. W&B replaces an existing one, since `resume` is not set."""
    import wandb

    folder.mkdir(parents=True, exist_ok=True)
    try:
        run = wandb.init(
            project=tracker.project,
            entity=tracker.entity,
            id=content.id,
            name=content.name,
            group=group,
            job_type=content.job_type,
            tags=content.tags,
            config=content.config,
            reinit="create_new",
            settings=_settings(mode, folder, tracker.time_limit),
        )
    except wandb.errors.CommError as error:
        reason = str(error).partition("\n")[0]
        if not reason or "no message" in reason:  # a refusal has no message; the client's log has one
            reason = next((e for path in folder.glob(f"wandb/*run-*-{content.id}") for e in _errors(path)), reason)
        raise UploadError(reason) from error
    if content.history:
        run.define_metric("step", hidden=True, summary="none")
        run.define_metric("loss/*", step_metric="step", summary="none")
    try:
        yield run
    except BaseException:
        run.finish(exit_code=1)
        raise
    run.finish(exit_code=int(content.failed))


def _settings(mode: str, folder: Path, limit: float) -> Any:
    """Short time limits, since the caller ends this process after `limit` seconds; sends nothing about this machine."""
    import wandb

    limits = {
        f"x_{kind}_{name}": value
        for kind in ("graphql", "file_stream", "file_transfer")
        for name, value in {
            "retry_max": RETRIES,
            "retry_wait_min_seconds": min(1.0, limit / 20),
            "retry_wait_max_seconds": min(5.0, limit / 10),
            "timeout_seconds": limit / 4,
        }.items()
    }
    return wandb.Settings(
        mode=mode,
        root_dir=str(folder),
        init_timeout=limit / 3,
        finish_timeout=limit / 3,
        finish_timeout_raises=True,
        console="off",
        silent=True,
        disable_git=True,
        disable_code=True,
        disable_job_creation=True,
        save_code=False,
        x_save_requirements=False,
        x_disable_meta=True,
        x_disable_stats=True,
        x_disable_machine_info=True,
        **limits,
    )


def _errors(folder: Path) -> Iterator[str]:
    """The errors in the client's own log of a run."""
    path = folder / "logs" / "debug-internal.log"
    for line in path.read_text(errors="replace").splitlines() if path.exists() else []:
        with contextlib.suppress(ValueError):
            entry = json.loads(line)
            if str(entry.get("level")).startswith("ERROR"):
                status = f" {entry['status']}" if "status" in entry else ""
                yield f"{entry.get('msg', 'unknown')}{status}".partition("\n")[0]
