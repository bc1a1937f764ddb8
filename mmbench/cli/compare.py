"""The expansion strategies, ranked by what they gain.

usage: mmbench compare [results=DIR] [by=expansion] [target=gain] [where=CONDITION] [format=json]

Compare the expansions of the same trained base model at the same budget, print the ranking with the controls as lines
to beat, and write DIR/analysis/strategies.csv and figures/strategies.png.

  mmbench compare by=axis                     by axis, arm (expansion or control) or training recipe
  mmbench compare target=final_accuracy       another target: best_validation_gain, gain_over_scratch, ...
  mmbench compare where="budget > 2"          some of the runs, by columns of records.csv
  mmbench compare results=[first,second]      two stores (sweeps, machines, versions) on the runs that they share;
                                              writes first/analysis/stores.csv
  mmbench compare format=json                 the tables as JSON; writes no file
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.markup import escape

from mmbench import console
from mmbench.cli.analyze import warn_of_gaps
from mmbench.cli.compose import composed, own_keys, stores_of
from mmbench.cli.output import as_json

KEYS = ("by", "target", "where", "format")


def command(arguments: list[str]) -> None:
    """Print and write the ranking, and what differs between two stores."""
    own, rest = own_keys(arguments, *KEYS)
    json_wanted = as_json(own)
    stores = stores_of(composed(rest))
    from mmbench.records.frame import load_records

    with console.err.status("reading the store, comparing"):
        frame = load_records(stores if len(stores) > 1 else stores[0], own.get("where"))
    warn_of_gaps(frame)
    if json_wanted:
        _print_json(frame, stores, own)
        return
    if len(stores) == 2:
        _print_stores(frame, stores)
    _print_ranking(frame, stores[0], own.get("by", "expansion"), own.get("target", "gain"))


def _print_json(frame: Any, stores: list[Path], own: dict[str, str]) -> None:
    from mmbench.statistics.stores import compare_stores
    from mmbench.statistics.strategies import compare

    tables = {"strategies": compare(frame, own.get("by", "expansion"), own.get("target", "gain"))}
    if len(stores) == 2:
        tables["stores"] = compare_stores(frame, *map(str, stores))
    # Through pandas, whose missing values JSON does not know.
    rows = {name: json.loads(table.to_json(orient="records")) for name, table in tables.items()}
    console.say_json(rows)


def _print_ranking(frame: Any, store: Path, by: str, target: str) -> None:
    from mmbench.report.figures.draw import draw_strategies
    from mmbench.report.terminal import strategy_table
    from mmbench.report.verdict import best_strategy
    from mmbench.statistics.strategies import compare, ranking

    table = compare(frame, by, target)
    if table.empty:
        console.say(f"No run has a {target.replace('_', ' ')} yet: there is nothing to compare.")
        return
    console.out.print(strategy_table(ranking(table), target))
    for sentence in best_strategy(table):
        console.say(escape(sentence))
    path = _written(table, store, "strategies.csv")
    figures = draw_strategies(table, store / "analysis" / "figures", target)
    console.say(f"Table: [bold]{escape(str(path))}[/]" + "".join(f"\nFigure: {escape(str(f.png))}" for f in figures))


def _print_stores(frame: Any, stores: list[Path]) -> None:
    from mmbench.report.terminal import store_table
    from mmbench.statistics.stores import compare_stores, different_values

    first, second = (str(path) for path in stores)
    table = compare_stores(frame, first, second)
    console.out.print(store_table(table, first, second))
    for sentence in different_values(frame, first, second):
        console.warn(sentence)
    path = _written(table, stores[0], "stores.csv")
    console.say(f"Table: [bold]{escape(str(path))}[/]")


def _written(table: Any, store: Path, name: str) -> Path:
    from mmbench.errors import StoreError
    from mmbench.records.frame import write_table

    path = store / "analysis" / name
    try:
        path.parent.mkdir(exist_ok=True)
        write_table(table, path)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}") from error
    return path
