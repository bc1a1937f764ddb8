"""Rank the expansions of a checkpoint.

usage: mmbench advise model.checkpoint=FILE [model=... dataset=...] [budget=2.0] [OVERRIDES]

Rank the expansions of a trained network at one parameter budget, before any of them is trained. All operators that fit
the model family are applied and scored; candidates that may be the best are measured again. Prints the ranking with
standard errors, its cost, and how well the metric chose in the sweeps of the store; writes DIR/advice/advice.html and
advice.csv. FILE is what save= or mmbench.save wrote, which has its own sizes; or a safetensors or torch file
of weights, as timm saves them, with the model and its sizes.

  mmbench advise model=vit model.checkpoint=vit.safetensors dataset=digits budget=2.0 save=best
  mmbench advise model=resnet model.checkpoint=resnet.pt metric=jacob_cov metric.steps=50 evidence=my_results

  budget=2.0        parameters as a multiple of the checkpoint's
  metrics=a,b       rank by these metrics (for one with options: metric=NAME metric.OPTION=VALUE)
  expansions=a,b    consider these operators only
  seconds=600       time limit; what is not measured by then is said
  save=best|all     write candidates, ready to train, as mmbench.save does
  evidence=DIR      the store of sweeps to judge the metric by; by default the results folder

{groups}
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from mmbench import console
from mmbench.advice.advise import advise
from mmbench.advice.arguments import DEFAULT, metric_for_advice
from mmbench.advice.evidence import track_record
from mmbench.advice.page import BRIEF, costs, shown, unmeasured, write_advice
from mmbench.cli.compose import composed, own_keys, set_environment
from mmbench.config import Settings, parse, prepare
from mmbench.data.base import load_data
from mmbench.errors import ConfigError, StoreError
from mmbench.metrics.base import METRICS
from mmbench.models.files import KEY, is_there
from mmbench.models.saving import architecture_for, load_for
from mmbench.records.frame import load_records
from mmbench.run import Run

OWN = ("budget", "seconds", "save", "metrics", "expansions", "evidence", KEY)
"""Keys of this command that are not part of a run's config."""


def command(arguments: list[str]) -> None:
    """Rank the expansions of a checkpoint, print the ranking, and write it to results/advice."""
    own, rest = own_keys(arguments, *OWN)
    run, settings = parse(composed(rest))
    if KEY not in own:
        raise ConfigError(f"{KEY} is missing: give the file of the trained weights, {KEY}=FILE")
    set_environment()
    budget, seconds = _number(own, "budget", 2.0), _number(own, "seconds", None)
    names_a_metric = any(argument.startswith(("metric=", "metric.")) for argument in rest)
    metrics: list[Any] = _names(own, "metrics") or ([run.metric] if names_a_metric else list(DEFAULT))
    folder = Path(settings.results) / "advice"
    if is_there(own[KEY]):  # a wrong folder of evidence is told first
        typed = [name for name in run.model.describe() if _is_typed(name, rest)]
        run = replace(run, model=architecture_for(own[KEY], run.model, typed))
    evidence = _evidence(own.get("evidence"), settings, run, metrics)
    with console.err.status("loading the checkpoint and the data"):
        device = prepare(settings)
        data = load_data(run.dataset, device)
        model = load_for(data.shape, run.model, own[KEY], console.warn)
    table = advise(
        model.to(device), (data.train.images, data.train.labels), budget,
        metrics=metrics, expansions=_names(own, "expansions"), training=run.training,
        validation=(data.validation.images, data.validation.labels), seconds=seconds, seed=run.seed,
        save=own.get("save", "none"), folder=folder, progress=console.track,
    )  # fmt: skip
    _print(table, evidence, run, budget, own[KEY], folder)


def _print(table: Any, evidence: list[str], run: Run, budget: float, checkpoint: str, folder: Path) -> None:
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
    for sentence in unmeasured(table):
        console.warn(sentence)
    if left_out := table.attrs["left_out"]:
        console.say(
            f"{len(left_out)} expansions do not fit this network or budget, or give the same network as another; the "
            "page gives the reasons."
        )
    for file in (name for name in table.get("file", []) if isinstance(name, str)):
        console.say(f"Saved: {escape(file)}")
    console.say(f"Page: [bold]{escape(str(page))}[/]")


def _evidence(store: str | None, settings: Settings, run: Run, metrics: list[Any]) -> list[str]:
    """What earlier sweeps say about the metrics; read first, so that a wrong folder costs no time."""
    folder = Path(store or settings.results)
    if store is None and not (folder / "records").is_dir():
        return [f"There is no evidence: {folder} holds no sweeps; name a store of sweeps with evidence=DIR."]
    known = [metric_for_advice(metric) for metric in metrics if not isinstance(metric, str) or metric in METRICS]
    return track_record(load_records(folder), run.model.name, {metric.name: metric.definition for metric in known})


def _is_typed(option: str, arguments: list[str]) -> bool:
    """Whether the user chose an option of the model (or, as `name`, the model) on the command line."""
    key = "model" if option == "name" else f"model.{option}"
    return any(argument.lstrip("+").startswith(f"{key}=") for argument in arguments)


def _number(own: Mapping[str, str], key: str, default: Any) -> Any:
    if key not in own:
        return default
    try:
        return float(own[key])
    except ValueError:
        raise ConfigError(f"{key} = {own[key]!r} is not allowed: must be a number") from None


def _names(own: Mapping[str, str], key: str) -> list[str] | None:
    return [name.strip() for name in own[key].strip("[]").split(",") if name.strip()] if key in own else None
