"""The runs of a store to try again, recreated from the stored sweeps."""

from __future__ import annotations

from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from mmbench import console
from mmbench.config import Settings
from mmbench.errors import ConfigError, StoreError
from mmbench.run import Run, is_final
from mmbench.store.store import Store, look
from mmbench.store.survey import superseded
from mmbench.sweep import enter, recreate


def failed(settings: Settings) -> list[Run]:
    """The failed runs that may succeed now; prints which are left out, and changes to the folder of their sweeps.

    Returns:
        The runs; none if there is nothing to try again.

    Raises:
        StoreError: there is no store, or its failed runs were started in different folders.
    """
    store = Store(Path(settings.results), tell=console.warn)
    if not store.root.is_dir():
        raise StoreError(f"results = {settings.results!r} is not a folder; name the folder of a sweep with results=DIR")
    rows = [look(path).record for path in sorted((store.root / "records").glob("*.json"))]
    records = {row["run_id"]: row for row in rows if row and row["status"] == "failed"}
    final = Counter(str(record["error_type"]) for record in records.values() if is_final(record))
    for kind, count in sorted(final.items()):
        console.say(f"{count} runs are not tried again: they would give the same {kind}.")
    wanted = {run_id for run_id, record in records.items() if not is_final(record)}
    folders: defaultdict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
    sweeps = store.sweeps()
    wanted -= superseded(sweeps)  # the sweep was started again with other data
    for sweep in sweeps:
        for run_id in wanted & sweep.get("configs", {}).keys():
            folders[sweep["folder"]][run_id] = sweep["configs"][run_id]
    if not folders:
        console.say("Nothing to retry.")
        return []
    if len(folders) > 1:
        raise StoreError(
            f"the failed runs were started in {len(folders)} folders ({', '.join(sorted(folders))}), "
            "where their relative paths start; repeat the command of each sweep in its folder"
        )
    (folder, configs), results = folders.popitem(), store.root
    enter(folder)
    return [run for run_id, config in configs.items() if (run := _recreated(run_id, config, results))]


def _recreated(run_id: str, config: dict[str, Any], results: Path) -> Run | None:
    try:
        return recreate(run_id, config)
    except (ConfigError, StoreError) as error:
        console.warn(f"{run_id} in {results} cannot be tried again: {error}")
        return None
