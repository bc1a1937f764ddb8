"""The loss on the plane through three networks, before and after training, as a figure.

usage: mmbench plane [results=DIR] [KEYS]

Take three base models of the store that differ in their seed alone, and draw the loss on the plane through them; then,
for each expansion of them, the plane through the three expanded models before and after their training. All panels have
the same scale, in Euclidean distances of weights, and show the three networks as points. Nothing is trained.

  mmbench plane                                        the base model with the most expansions, four expansions
  mmbench plane expansion=net2wider points=41          its expansions by one operator, with a finer grid
  mmbench plane run=RUN_ID out=figure.png              the base model and the expansion of one run

Keys: run, expansion, points (25, of a side), images (1000 training images), match (false; true permutes the second and
the third network to lie as close to the first as weight matching gets), statistics (recompute or keep: batch norms'
statistics at each point are those of the images, or mixed like weights), out (DIR/analysis/plane.png; an SVG and a CSV
of the losses are written beside it). device and threads are as for mmbench run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.markup import escape

from mmbench import console
from mmbench.cli.compose import composed, own_keys, store_of, yes_or_no
from mmbench.errors import ConfigError, StoreError

KEYS = ("run", "expansion", "points", "images", "match", "statistics", "out")
MOST = 4
"""Expansions of one figure; of more, these many are drawn, spread over their sizes."""
LIMITS = {"points": (25, 2, 400), "images": (1000, 2, 10**7)}
"""Default, smallest and largest value."""


def command(arguments: list[str]) -> None:
    """Compute the planes and draw them."""
    own, rest = own_keys(arguments, *KEYS)
    config = composed(rest)
    root = store_of(config).absolute()
    options = {key: _number(own, key) for key in LIMITS}
    statistics, match = own.get("statistics", "recompute"), yes_or_no(own, "match")
    if statistics not in ("keep", "recompute"):
        raise ConfigError(f"statistics = {statistics!r} is not allowed: must be recompute or keep")
    out = Path(own.get("out", root / "analysis" / "plane.png")).absolute()
    if out.suffix.lower() not in (".png", ".svg"):
        raise ConfigError(f"out = {str(out)!r} must end with .png or .svg")
    chosen = _chosen(root, own)
    from mmbench.config import Settings, prepare

    device = prepare(Settings(device=config["device"], threads=config["threads"]))
    trios = _Networks(root, device).trios(chosen, match)
    _draw(trios, options, statistics, out, [f"seed {seed:g}" for seed in chosen["seed"].unique()])


def _number(own: dict[str, str], key: str) -> int:
    default, low, high = LIMITS[key]
    text = own.get(key, str(default))
    if not text.isdigit() or not low <= int(text) <= high:
        raise ConfigError(f"{key} = {text!r} is not allowed: must be a whole number from {low} to {high}")
    return int(text)


def _chosen(root: Path, own: dict[str, str]) -> Any:
    """One run for each expansion and each of three seeds, as a frame, smallest expansion first."""
    from mmbench.records.frame import load_records

    frame = load_records(root)
    done = frame[frame["status"] == "done"]
    keys = ["base_configuration", "training"]
    if own.get("run"):
        run = done[done["run_id"].fillna("").str.startswith(own["run"])]
        if run["run_id"].nunique() != 1:
            raise ConfigError(f"run = {own['run']!r} names {len(run)} finished runs of {root}; give the id of one")
        done = done[(done[["configuration", *keys]] == run.iloc[0][["configuration", *keys]]).all(axis=1)]
    if own.get("expansion"):
        known = sorted(done["expansion"].dropna().unique())
        if own["expansion"] not in known:
            raise ConfigError(
                f"expansion = {own['expansion']!r}: {root} has finished runs of {', '.join(known) or 'none'}"
            )
        done = done[done["expansion"] == own["expansion"]]
    runs = done if {"run", "expansion"} & own.keys() or "arm" not in done else done[done["arm"] != "control"]
    runs = runs.drop_duplicates(["configuration", *keys, "seed"])
    seeds = runs.groupby(["configuration", *keys])["seed"].transform("nunique")
    runs = runs[seeds >= 3]
    if runs.empty:
        raise StoreError(
            f"{root} has no expansion of one base model with three seeds, which a plane needs; run it with seed=0,1,2"
        )
    counts = runs.groupby(keys)["configuration"].transform("nunique")
    runs = runs[counts == counts.max()]
    first = runs.iloc[0][keys]
    runs = runs[(runs[keys] == first).all(axis=1)]
    shared = set.intersection(*(set(group["seed"]) for _, group in runs.groupby("configuration")))
    if len(shared) < 3:
        raise StoreError(
            f"the expansions of {root} share only {len(shared)} seeds; three are needed: name one expansion"
        )
    runs = runs[runs["seed"].isin(sorted(shared)[:3])].sort_values(["parameters", "expansion", "configuration", "seed"])
    names = list(dict.fromkeys(runs["configuration"]))
    if len(names) > MOST:
        console.warn(f"{len(names)} expansions; {MOST} are drawn, spread over their sizes (expansion=NAME or run=ID)")
        names = [names[round(place * (len(names) - 1) / (MOST - 1))] for place in range(MOST)]
    return runs[runs["configuration"].isin(names)]


class _Networks:
    """Reads the networks of stored runs."""

    def __init__(self, root: Path, device: str) -> None:
        from mmbench.store.store import Store

        self.store, self.device = Store(root, tell=console.warn), device
        self.sweeps = self.store.sweeps()
        self.data: Any = None

    def trios(self, chosen: Any, match: bool) -> list[tuple[str, str, Any, Any]]:
        """Row, column, three networks, and the images, for each panel."""
        panels: list[tuple[str, str, Any, Any]] = []
        for _, rows in chosen.groupby("configuration", sort=False):
            runs = [self._run(str(run_id)) for run_id in rows["run_id"]]
            if not panels:
                panels.append(("base model", "", self._trio(runs, "base", match), self.data.train))
            name = runs[0].expansion.label
            for kind, column in (("expanded", "before training"), ("trained", "after training")):
                panels.append((name, column, self._trio(runs, kind, match), self.data.train))
        return panels

    def _run(self, run_id: str) -> Any:
        from mmbench.data.base import load_data
        from mmbench.sweep import enter, recreate

        for sweep in self.sweeps:
            if run_id in sweep.get("configs", {}):
                enter(sweep["folder"])
                run = recreate(run_id, sweep["configs"][run_id])
                if self.data is None:
                    with console.err.status("loading the data"):
                        self.data = load_data(run.dataset, self.device)
                return run
        raise StoreError(f"the options of run {run_id} are not in {self.store.root / 'sweeps'}; run its sweep again")

    def _trio(self, runs: list[Any], kind: str, match: bool) -> list[Any]:
        """The networks of one stage; with `match`, the second and third in the first one's order of channels."""
        import torch

        from mmbench.landscape import matching

        networks = [self._network(run, kind) for run in runs]
        if not match:
            return networks
        first, *others = networks
        draw = torch.Generator().manual_seed(0)
        return [first, *(matching.permuted(other, matching.match(first, other, draw)) for other in others)]

    def _network(self, run: Any, kind: str) -> Any:
        from mmbench.models.skeleton import skeleton
        from mmbench.store.store import key_of

        inputs = run.trained_inputs() if kind == "trained" else getattr(run, f"{kind}_inputs")
        stage = self.store.load(kind, key_of(kind, inputs))
        if stage is None or "diverged" in stage.values:
            raise StoreError(f"the weights of {run.label} ({kind}) are not in {self.store.root}; run its sweep again")
        network = skeleton(run.model if kind == "base" else run.target().architecture, self.data.shape)
        network.load_state_dict(stage.tensors("weights"), strict=True, assign=True)
        return network.to(self.device).eval()


def _draw(trios: Any, options: dict[str, int], statistics: Any, out: Path, names: list[str]) -> None:
    """Compute the planes, with a progress bar, and write the figure and the losses."""
    import numpy as np
    import pandas as pd
    from matplotlib import rc_context
    from rich.progress import Progress

    from mmbench.data.base import Split
    from mmbench.landscape.plane import extent, plane
    from mmbench.records.frame import write_table
    from mmbench.report.figures.plane import Panel, planes, planes_alt
    from mmbench.report.figures.style import STYLE, saved

    # One scale for all panels: the square around the widest three networks.
    span = 1.6 * max(extent(networks) for _, _, networks, _ in trios)
    panels, tables = [], []
    with Progress(console=console.err, transient=True) as progress:
        task = progress.add_task("computing losses", total=len(trios) * options["points"] ** 2)
        for row, column, networks, images in trios:
            few = Split(images.images[: options["images"]], images.labels[: options["images"]])
            found = plane(networks, few, options["points"], span, statistics, lambda: progress.advance(task))
            corners, _, x, y, losses = (tensor.numpy() for tensor in found)
            panels.append(Panel(row, column, corners, x, y, losses))
            grid = {"x": np.tile(x, len(y)), "y": np.repeat(y, len(x)), "loss": losses.ravel()}
            tables.append(pd.DataFrame({"network": row, "moment": column, **grid}))
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with rc_context(STYLE):
            drawing = saved(planes(panels, names), out.parent, out.stem, "Planes", planes_alt(panels))
        write_table(pd.concat(tables, ignore_index=True), out.with_suffix(".csv"))
    except OSError as error:
        raise StoreError(f"cannot write {out}: {error.strerror or error}; name another file with out=") from None
    console.say(f"Figure: [bold]{escape(str(drawing.png))}[/]")
