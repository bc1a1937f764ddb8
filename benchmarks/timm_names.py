"""Which of timm's networks can be expanded, and whether every refusal names a part of the network.

usage: python benchmarks/timm_names.py [PATTERN ...]

Reads every network of timm's that belongs to the files of the four families, or is named like one, on the meta device:
nothing is downloaded and nothing is computed. Prints one line per refused name, then counts. Ends with an error if
reading raises anything but `UndefinedError`, or if a refusal names no module, tensor or attribute of the network.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from fnmatch import fnmatch

import timm
import torch
from timm.models._registry import _model_to_module
from torch import nn

from mmbench.errors import UndefinedError
from mmbench.models.reading import architecture_of
from mmbench.models.skeleton import _WithoutValues

FILES = (
    *("resnet", "vision_transformer", "vision_transformer_hybrid", "vision_transformer_relpos", "deit", "vitamin"),
    *("mlp_mixer", "convnext"),
)
"""timm's files whose networks are of the four families or nearly so."""
PREFIXES = ("resnet", "skresne", "vit_", "mixer_", "convnext", "deit")


def names(patterns: list[str]) -> list[str]:
    """timm's names of these files, and those of other files that are named like them."""
    known = [n for n in timm.list_models() if _model_to_module[n] in FILES or n.startswith(PREFIXES)]
    return [name for name in known if not patterns or any(fnmatch(name, pattern) for pattern in patterns)]


def names_a_part(model: nn.Module, message: str) -> bool:
    """Whether a refusal names a module or tensor of the network, or an attribute or the class of the whole."""
    parts = {name for name, _ in model.named_modules() if name} | set(model.state_dict())
    quoted = set(re.findall(r"'([^']*)'", message))
    whole = re.search(r": it has (\w+)", message)
    if "belongs to no family" in message:
        return type(model).__name__ in message
    return bool(quoted & parts) or (whole is not None and (whole[1] == "no" or hasattr(model, whole[1])))


def read(name: str) -> tuple[str, str, bool]:
    """`supported`, `refused` or the name of another exception; the family or message; whether it names a part."""
    with torch.device("meta"), _WithoutValues():
        model = timm.create_model(name, num_classes=10)
    try:
        return "supported", architecture_of(model)[0].name, True
    except UndefinedError as error:
        return "refused", str(error), names_a_part(model, str(error))
    except Exception as error:  # what must not happen is shown with the rest
        return type(error).__name__, str(error), False


def main(patterns: list[str]) -> int:
    """Read all names and print what came of them; 1 if one is refused without a part of its own."""
    outcomes, without = Counter[str](), []
    for name in names(patterns):
        outcome, message, proof = read(name)
        outcomes[f"{_model_to_module[name]}: {outcome}"] += 1
        outcomes[outcome] += 1
        if outcome != "supported":
            print(f"{name}: {message}")
        if not proof:
            without.append(name)
    print(*(f"{count:5} {outcome}" for outcome, count in sorted(outcomes.items())), sep="\n")
    print(f"{len(without)} refusals name no part of their network: {', '.join(without) or 'none'}")
    return bool(without)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
