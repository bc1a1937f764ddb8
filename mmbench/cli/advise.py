"""The command `mmbench advise`: a ranking of the expansions of a checkpoint, told and written down."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from mmbench import console
from mmbench.advice.advise import DEFAULT, advise, metric_for_advice
from mmbench.config import prepare
from mmbench.errors import ConfigError
from mmbench.metrics.base import METRICS
from mmbench.models.checkpoint import KEY, load_checkpoint

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mmbench.config import Settings
    from mmbench.run import Run

OWN = ("budget", "seconds", "save", "metrics", "expansions", "evidence", KEY)
"""Keys of this command that are no part of a run's config."""


def print_advice(run: Run, settings: Settings, own: Mapping[str, str], metric_given: bool) -> None:
    """Rank the expansions of a checkpoint, print the ranking, and write it to results/advice.

    Args:
        run: its model, data set, training and seed; with `metric_given` its metric, too.
        settings: where and on what.
        own: the values of `OWN` that were given, as text.
        metric_given: whether the command names a metric by its group.
    """
    from mmbench.run import load_data

    if KEY not in own:
        raise ConfigError(f"{KEY} is missing: give the file of the trained weights, {KEY}=FILE")
    budget, seconds = _number(own, "budget", 2.0), _number(own, "seconds", None)
    metrics: list[Any] = _names(own, "metrics") or ([run.metric] if metric_given else list(DEFAULT))
    folder = Path(settings.results) / "advice"
    evidence = _evidence(own.get("evidence"), settings, run, metrics)
    with console.err.status("loading torch"):
        device = prepare(settings)
        data = load_data(run.dataset, device)
        model = load_checkpoint(run.model.build(data.shape), own[KEY]).to(device)
    table = advise(
        model, (data.train.images, data.train.labels), budget if budget is not None else 2.0,
        metrics=metrics, expansions=_names(own, "expansions"), training=run.training,
        validation=(data.validation.images, data.validation.labels), seconds=seconds, seed=run.seed,
        save=own.get("save", "none"), folder=folder, progress=console.track,
    )  # fmt: skip
    _tell(table, evidence, run, budget or 2.0, own[KEY], folder)


def _tell(table: Any, evidence: list[str], run: Run, budget: float, checkpoint: str, folder: Path) -> None:
    from mmbench.advice.page import BRIEF, costs, shown, write_advice
    from mmbench.errors import StoreError

    growth = f"{budget:g} times its parameters, on {run.dataset.title}"
    about = f"Expansions of the {run.model.name} in {checkpoint} to {growth}."
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _, page = write_advice(table, evidence, about, folder)
    except OSError as error:
        raise StoreError(f"cannot write the advice to {folder}: {error.strerror or error}") from error
    ranking = Table(*BRIEF.values(), box=None, padding=(0, 2, 0, 0))
    for row in table[table["rank"].notna()].to_dict("records"):
        ranking.add_row(*map(escape, shown({**row, "expansion": f"{row['expansion']} {row['axis']}"}, BRIEF)))
    console.say(escape(about))
    console.out.print(ranking)
    for sentence in [*costs(table), *evidence]:
        console.say(escape(sentence))
    unscored = table[table["rank"].isna()].to_dict("records")
    for row in unscored:
        console.warn(f"{row['expansion']} {row['axis']} has no score: {row['reason']}")
    if left := table.attrs["left_out"]:
        console.say(f"{len(left)} ways do not fit this network or budget; the page says why.")
    for file in (name for name in table.get("file", []) if isinstance(name, str)):
        console.say(f"Saved: {escape(file)}")
    console.say(f"Page: [bold]{escape(str(page))}[/]")


def _evidence(named: str | None, settings: Settings, run: Run, metrics: list[Any]) -> list[str]:
    """What earlier sweeps say of the metrics; read before anything is computed: a wrong folder is told at once."""
    from mmbench.advice.evidence import track_record
    from mmbench.records.frame import load_records

    folder = Path(named or settings.results)
    if named is None and not (folder / "records").is_dir():
        return [f"There is no evidence: no sweeps are stored in {folder}; evidence=DIR names a store of sweeps."]
    known = [
        metric_for_advice(metric) for metric in metrics if not isinstance(metric, str) or metric in METRICS.names()
    ]
    return track_record(load_records(folder), run.model.name, {metric.name: metric.definition for metric in known})


def _number(own: Mapping[str, str], key: str, default: float | None) -> float | None:
    if key not in own:
        return default
    try:
        return float(own[key])
    except ValueError:
        raise ConfigError(f"{key} = {own[key]!r} is not allowed: must be a number") from None


def _names(own: Mapping[str, str], key: str) -> list[str] | None:
    return [name.strip() for name in own[key].strip("[]").split(",") if name.strip()] if key in own else None
