"""A finished store, tracked once for all tests, and the real client's files read back by its own reader."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mmbench.expansions.net2wider import Net2Wider
from mmbench.expansions.zero_pad import ZeroPad
from mmbench.metrics.parameters import Parameters
from mmbench.metrics.random import Random
from mmbench.tracking.options import Wandb
from tests.launcher.small import DIVERGES, small, swept

RUNS = [
    small(seed, expansion, metric)
    for seed in (0, 1)
    for expansion in (ZeroPad(), Net2Wider())
    for metric in (Parameters(), Random())
]
"""Four models with two metrics each; beside them one that diverges."""
KEY = "a" * 40


@pytest.fixture(autouse=True, scope="session")
def nobodys_account(tmp_path_factory):
    """No key, no settings and no server of whoever runs the tests; the server is a port that nobody listens on."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("WANDB_")]:
            patch.delenv(name)
        for name in ("WANDB_CONFIG_DIR", "WANDB_DATA_DIR", "WANDB_CACHE_DIR", "NETRC"):
            patch.setenv(name, str(home / name))
        patch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
        yield


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """The folder of a store in which all of `RUNS` are done, and the name of their sweep; not to be changed."""
    store, (sweep,) = swept(tmp_path_factory.mktemp("finished") / "results", [*RUNS, DIVERGES])
    return store.root, sweep


@pytest.fixture
def results(finished, tmp_path):
    """A copy of it."""
    return Path(shutil.copytree(finished[0], tmp_path / "results"))


@pytest.fixture
def on(monkeypatch):
    """Points the client at a server, with a key."""

    def to(server):
        monkeypatch.setenv("WANDB_BASE_URL", server.url)
        monkeypatch.setenv("WANDB_API_KEY", KEY)

    return to


def offline(**options):
    return Wandb(mode="offline", entity="me", **options)


def online(**options):
    return Wandb(**{"entity": "me", "time_limit": 120.0, **options})


def wandb(*arguments, **environment):
    """The real command line."""
    command = [sys.executable, "-m", "wandb", *map(str, arguments)]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=600, check=False, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def read(folder):
    """An offline run as wandb's own reader finds it: config, history, summary, exit code, identity."""
    found = {"history": [], "summary": {}, "config": {}}
    for line in wandb("leet", "inspect", "--json", folder).splitlines():
        record = json.loads(line)
        content = record.get(record["type"])
        if record["type"] == "run":
            found |= {"run": content}
            found["config"] |= content.get("config", {}).get("update", {})
        elif record["type"] == "history":
            found["history"].append(content["item"])
        elif record["type"] == "summary":
            found["summary"] |= content["update"]
        elif record["type"] == "exit":
            found["exit_code"] = content["exit_code"]
    return found


def own(row):
    """A row of history or summary, without what the client adds."""
    return {name: value for name, value in row.items() if not name.startswith("_")}
