"""What was logged, and where: one small file per W&B run and project, written when the client has finished.

    DIR/tracking/PROJECT/ID.json    {"digest": of the content, "where": "online" or "offline", "folder": of its files}
    DIR/tracking/PROJECT/wandb      the client's own files, which `wandb sync` uploads

A process that is killed while it logs leaves no such file, so its model is logged the next time.
"""

from __future__ import annotations

import re
import shutil
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from mmbench.store.files import digest, read_json, replacing, write_json
from mmbench.store.locks import lock
from mmbench.tracking.options import Wandb

MOST_RUNS = 10_000
"""W&B promises to be quick for projects of up to this many runs."""


class Ledger:
    """The notes of one store about one project of an entity."""

    def __init__(self, root: Path, tracker: Wandb) -> None:
        self.root = root
        readable = re.sub(r"[^\w.-]", "_", "-".join(part for part in reversed(tracker.target) if part))
        self.folder = root / "tracking" / f"{readable[:80]}-{digest(tracker.target)[:6]}"
        self.files = self.folder / "wandb"
        """Where the client writes, and `wandb sync` reads."""

    def holds(self, run_id: str, content: str, mode: str) -> bool:
        """Whether a W&B run was logged as it is now.

        Args:
            run_id: the id of the W&B run.
            content: the digest of its content.
            mode: `online` or `offline`; what is offline counts as online once `wandb sync` has uploaded it.

        Returns:
            Whether nothing is left to log.
        """
        note = self.read(run_id)
        if note is None or note.get("digest") != content:
            return False
        return mode == "offline" or note.get("where") == "online" or _synced(self.files / str(note.get("folder")))

    def count(self) -> int:
        """W&B runs that were logged."""
        return sum(1 for _ in self.folder.glob(f"{'[0-9a-f]' * 16}.json"))

    def read(self, name: str) -> dict[str, Any] | None:
        """A note, or None."""
        return read_json(self.folder / f"{name}.json")

    def write(self, name: str, note: dict[str, Any]) -> None:
        """Replace a note whole."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.root / "tmp").mkdir(exist_ok=True)
        with replacing(self.folder / f"{name}.json", self.root / "tmp") as temporary:
            write_json(temporary, note)

    def lock(self, run_id: str) -> AbstractContextManager[bool]:
        """Let one process at a time log a run: W&B does not say what happens if two do."""
        (self.root / "locks").mkdir(exist_ok=True)
        return lock(self.root / "locks" / f"tracking-{self.folder.name}-{run_id}")

    def supersede(self, run_id: str) -> None:
        """Remove the files of a run that were never uploaded: `wandb sync` must not find two folders of one id.

        They are from an interrupted or failed attempt, or hold less than is logged now.
        """
        for folder in self.files.glob(f"*run-*-{run_id}"):
            if not _synced(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _synced(folder: Path) -> bool:
    return any(folder.glob("*.synced"))
