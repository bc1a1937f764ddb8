"""Writes the catalogues of this folder from the registries and the YAML files: `make generated`.

With `--check` nothing is written, and the status is 1 if a catalogue is out of date.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import OmegaConf

from mmbench.data.base import DATASETS
from mmbench.expansions.base import EXPANSIONS
from mmbench.metrics.base import METRICS
from mmbench.models.base import MODELS
from mmbench.paths import choices, root
from mmbench.registry import Component, Registry, allowed_values
from mmbench.training.recipes import TRAININGS

DOCS = Path(__file__).parent
NOTE = "<!-- Written by docs/generate.py (`make generated`): do not edit. -->\n"
SIGNS = {1: "+", -1: "-", 0: "none"}
PRESERVES = {"exact": "exactly", "evaluation": "in evaluation mode", "approximate": "approximately", "no": "no"}
COMMON = ("factor", "budget", "match", "tolerance", "to")
"""Options that all sized expansions share; they are explained once."""

METRICS_INTRODUCTION = """# Metrics

`metric=NAME`; an option is `metric.OPTION=VALUE`. All are measured on the expanded model before its training, or
with `metric.after` at a [later moment](run.md#when-the-metric-is-taken), on the same training images for all expansions
of a base model. The expected sign is + where theory says that a larger score means a larger gain; it was fixed before
looking at results. `metric='glob(*)'` in a multirun takes them all.

"""
EXPANSIONS_INTRODUCTION = """# Expansions

`expansion=NAME`; an option is `expansion.OPTION=VALUE`. *Exactly* means that the expanded network computes the base
model's function, in evaluation and in training mode ([What is measured, precisely](precisely.md)). An operator for
*all* families is defined for those that can grow along the axis; a pair that has no meaning is recorded as skipped,
with the reason.

"""
SIZES_INTRODUCTION = """
## How large

All operators but `none` share these options.

"""
MODELS_INTRODUCTION = """# Models

`model=NAME`; an option is `model.OPTION=VALUE`. Image size, channels and classes come from the data set. A network of
your own, made by timm, is read by `mmbench.expand` ([Grow your own network](grow.md)).

"""
SWEEPS_INTRODUCTION = """# Sweeps

The files of `sweeps/`, each with the question that it answers. One of your own: [Sweep](sweep.md).
"""


class Choice(NamedTuple):
    """One YAML file of a config group, with the class that it configures."""

    name: str
    cls: type[Component]
    summary: str
    defaults: dict[str, Any]


def choices_of(group: str, registry: Registry[Any]) -> list[Choice]:
    """All choices of a group, in the order of their names."""
    found = []
    for name in choices(group):
        file = root() / "conf" / group / f"{name}.yaml"
        defaults: Any = OmegaConf.to_container(OmegaConf.load(file), resolve=False)
        found.append(Choice(name, registry[defaults.pop("name")], comment(file)[0], defaults))
    return found


def comment(file: Path) -> list[str]:
    """The lines of the comment at the head of a YAML file."""
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if not line.startswith("# @package")]
    end = next(number for number, line in enumerate(lines) if not line.startswith("#"))
    return [line.removeprefix("#").strip() for line in lines[:end]]


def table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    lines = [list(head), *map(list, rows)]
    lines.insert(1, ["---"] * len(lines[0]))
    return "".join(f"| {' | '.join(escaped(cell).replace('|', '&#124;') for cell in line)} |\n" for line in lines)


def escaped(text: str) -> str:
    """Text in which an asterisk means itself; code, in backticks or indented, stays as it is."""
    parts = re.split(r"(`[^`]*`|^    .*$)", text, flags=re.MULTILINE)
    return "".join(part if number % 2 else part.replace("*", r"\*") for number, part in enumerate(parts))


def options(choice: Choice, leave_out: tuple[str, ...] = ()) -> str:
    """The options of a choice as a table: default (that of the YAML file), allowed values, meaning."""
    rows = []
    for name, field in choice.cls.model_fields.items():
        if name in leave_out or name not in choice.defaults or name == "training":
            continue
        default = str(OmegaConf.to_yaml({"x": choice.defaults[name]}, resolve=False)).removeprefix("x:").strip()
        if isinstance(choice.defaults[name], dict):
            default = "null"
        if isinstance(choice.defaults[name], list):
            default = str(choice.defaults[name])
        meaning = " ".join((field.description or "").split())
        rows.append([f"`{name}`", f"`{default}`", allowed_values(choice.cls, [name]), meaning])
    return table(("option", "default", "allowed", "meaning"), rows) if rows else "It has no options.\n"


def explained(choice: Choice) -> str:
    """The text at the head of the file that holds the component, and where that is."""
    module = inspect.getmodule(choice.cls)
    text = inspect.cleandoc(module.__doc__ or "") if module else ""
    if module and module.__name__.rsplit(".", 1)[-1] != choice.cls.name:  # several share the file
        text = inspect.getdoc(choice.cls) or ""
    file = choice.cls.__module__.replace(".", "/") + ".py"
    return f"{escaped(text)}\n\nSource: `{file}`\n"


def section(choice: Choice, facts: str = "", leave_out: tuple[str, ...] = ()) -> str:
    """One component: what it is, facts, options."""
    return f"## {choice.name}\n\n{facts}{explained(choice)}\n{options(choice, leave_out)}"


def link(choice: Choice) -> str:
    """To the component's section."""
    return f"[`{choice.name}`](#{choice.name})"


def short(choice: Choice) -> str:
    """The first line of the YAML file, without the expected sign, which has a column of its own."""
    return re.sub(r" Expected sign [^.]*\.$", "", choice.summary)


def metrics() -> str:
    """The catalogue of metrics."""
    found = choices_of("metric", METRICS)
    rows = [[link(one), SIGNS[METRICS[one.name].expected_sign], short(one)] for one in found]
    return (
        METRICS_INTRODUCTION
        + table(("metric", "expected sign", "what it is"), rows)
        + "".join(f"\n{section(one, _sign(one), leave_out=('after',))}" for one in found)
    )


def _sign(choice: Choice) -> str:
    return f"Expected sign: {SIGNS[METRICS[choice.name].expected_sign]}. "


def expansions() -> str:
    """The catalogue of expansions."""
    found = choices_of("expansion", EXPANSIONS)
    rows = []
    for one in found:
        operator = EXPANSIONS[one.name]
        families = ", ".join(operator.families or ["all"])
        what = one.summary.split(". ")[0].rstrip(".") + (". Looks at training data" if operator.needs_data else "")
        rows.append([link(one), what, ", ".join(operator.axes()) or "-", PRESERVES[operator.preserves], families])
    sized = next(one for one in found if one.name == "net2wider")
    shared = Choice(sized.name, sized.cls, "", {key: sized.defaults[key] for key in COMMON})
    return (
        EXPANSIONS_INTRODUCTION
        + table(("expansion", "what it does", "axes", "keeps the function", "families"), rows)
        + SIZES_INTRODUCTION
        + options(shared)
        + "".join(f"\n{section(one, leave_out=COMMON)}" for one in found)
    )


def models() -> str:
    """The catalogue of models."""
    found = choices_of("model", MODELS)
    rows = [[link(one), one.summary, ", ".join(one.cls.axes)] for one in found]
    return (
        MODELS_INTRODUCTION
        + table(("model", "what it is", "axes of growth"), rows)
        + "".join(f"\n{section(one)}" for one in found)
    )


def plain(title: str, group: str, registry: Registry[Any], opening: str) -> Callable[[], str]:
    """A catalogue with a table of names and a section for each."""

    def page() -> str:
        found = choices_of(group, registry)
        rows = [[link(one), one.summary] for one in found]
        return (
            f"# {title}\n\n`{group}=NAME`; an option is `{group}.OPTION=VALUE`. {opening}\n\n"
            + table((group, "what it is"), rows)
            + "".join(f"\n{section(one)}" for one in found)
        )

    return page


def sweeps() -> str:
    """The catalogue of sweeps: command, size and question, from the comments of the files."""
    text = SWEEPS_INTRODUCTION
    for name in choices("sweeps"):
        command, count, *question = comment(root() / "sweeps" / f"{name}.yaml")
        command, _, needs = command.partition("   ")
        size = f"{count} {needs.strip(' ()')}".strip()
        text += f"\n## {name}\n\n{' '.join(question)}\n\n```\n{command}\n```\n\n{escaped(size)}\n"
    return text


PAGES: dict[str, Callable[[], str]] = {
    "metrics.md": metrics,
    "expansions.md": expansions,
    "models.md": models,
    "datasets.md": plain("Data sets", "dataset", DATASETS, "Images and labels are held in memory, normalised."),
    "trainings.md": plain(
        "Trainings", "training", TRAININGS, "The same recipe trains the base model and the expanded models."
    ),
    "sweeps.md": sweeps,
}


def stale() -> dict[str, str]:
    """The catalogues whose files differ from what the registries say, with the text that they should have."""
    texts = {name: NOTE + page() for name, page in PAGES.items()}
    return {
        name: text
        for name, text in texts.items()
        if not (DOCS / name).exists() or (DOCS / name).read_text(encoding="utf-8") != text
    }


if __name__ == "__main__":
    changed = stale()
    if "--check" in sys.argv:
        sys.exit(f"out of date: {', '.join(changed)}; run `make generated`" if changed else 0)
    for page_name, page_text in changed.items():
        (DOCS / page_name).write_text(page_text, encoding="utf-8")
