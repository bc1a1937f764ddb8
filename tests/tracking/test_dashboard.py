"""The dashboard's definition, checked by wandb-workspaces' own classes, and what is sent of it."""

from __future__ import annotations

import json
import socket

import pytest
import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws
from wandb_workspaces.reports.v2.internal import ReportViewspec
from wandb_workspaces.workspaces.internal import View

from mmbench.tracking.content import Models
from mmbench.tracking.dashboard import COLUMNS, TEXTS, definition, panels, save, write_definition
from mmbench.tracking.ledger import Ledger
from mmbench.tracking.worker import Worker
from tests.tracking.conftest import offline, online
from tests.tracking.server import Server

METRICS = ["parameters", "random"]


def test_the_workspace_is_one_to_wandbs_own_classes():
    view = View.model_validate(definition(offline(), METRICS)["workspace"])
    again = ws.Workspace._from_model(view)
    assert (again.entity, again.project, again.name) == ("me", "mmbench", "mmbench")
    assert [section.name for section in again.sections] == list(TEXTS)
    kinds = {section.name: [type(panel) for panel in section.panels] for section in again.sections}
    assert kinds["Training curves"] == [wr.LinePlot, wr.LinePlot]
    assert kinds["Expansions compared"] == [wr.BarPlot, wr.BarPlot, wr.ParallelCoordinatesPlot]
    assert kinds["Score against gain"] == [wr.ScatterPlot] * len(METRICS)
    assert wr.MediaBrowser in kinds["Correlations"]
    assert _sections(again._to_model()) == _sections(view), "nothing is lost on the way"


def _sections(view):
    """All but where panels lie, which wandb-workspaces does not read back for tables."""
    found = [section.model_dump(exclude_none=True) for section in view.spec.section.panel_bank_config.sections]
    return [{**section, "panels": [{**p, "layout": None} for p in section["panels"]]} for section in found]


def test_the_report_is_one_to_wandbs_own_classes():
    given = definition(offline(), METRICS)["report"]
    given["spec"] = json.dumps(given["spec"])
    again = wr.Report._from_model(ReportViewspec.model_validate(given))
    assert [block.text for block in again.blocks if isinstance(block, wr.H1)] == list(TEXTS)
    grids = [block for block in again.blocks if isinstance(block, wr.PanelGrid)]
    assert [len(grid.panels) for grid in grids] == [len(found) for found in panels(METRICS).values()]


def test_every_panel_shows_what_is_logged(finished):
    models = Models(finished[0])
    content = models.content(models.look()[0])
    shown = panels(METRICS)
    for plot in shown["Training curves"]:
        assert {*plot.y, plot.x} <= content.history[0].keys()
        assert plot.groupby is None or plot.groupby.name in content.config
    for plot in shown["Expansions compared"][:2]:
        assert set(plot.metrics) <= content.summary.keys()
        assert plot.groupby.name in content.config
    for plot, metric in zip(shown["Score against gain"], METRICS, strict=True):
        assert (plot.x.name, plot.y.name) == (f"score/{metric}", "gain")
        assert {plot.x.name, plot.y.name} <= content.summary.keys()
    for place in COLUMNS:
        kind, _, name = place.rpartition("::")
        assert name in (content.config if kind else content.summary)


def test_without_a_network_the_definition_is_written(tmp_path, monkeypatch):
    def connect(*address):
        raise AssertionError("it asks the network")

    monkeypatch.setattr(socket.socket, "connect", connect)
    path = write_definition(tmp_path, online(), "online", METRICS)
    assert View.model_validate(json.loads(path.read_text())["workspace"]).display_name == "mmbench"
    assert save(tmp_path, online(), "offline", METRICS) is None


def test_it_is_made_once_and_updated_afterwards(tmp_path, on):
    with Server() as server:
        on(server)
        worker = Worker(tmp_path, online(), pytest.fail, "dashboard")
        first = worker.do(save, METRICS)
        assert worker.do(save, [*METRICS, "sharpness"]) == first
        worker.close()
        made, changed = server.views[:2], server.views[2:]
    assert [view["type"] for view in made] == ["project-view", "runs"]
    assert not any(view.get("id") for view in made)
    assert [view["id"] for view in changed] == ["view1", "view2"]
    assert all(
        "score/sharpness" in view["spec"] and "score/sharpness" not in old["spec"]
        for view, old in zip(changed, made, strict=True)
    )
    assert {view["entityName"] for view in server.views} == {"me"}
    assert Ledger(tmp_path, online()).read("sent")["report"] == "view2"


def test_a_workspace_whose_report_failed_is_not_made_twice(tmp_path, on):
    said = []
    with Server(lambda what: None) as server:
        on(server)
        server.projects = False
        worker = Worker(tmp_path, online(), said.append, "dashboard")
        assert worker.do(save, METRICS) is None
        worker.close()
        assert "mmbench dashboard" in said[0]
        server.projects = True
        worker = Worker(tmp_path, online(), pytest.fail, "dashboard")
        assert worker.do(save, METRICS)
        worker.close()
    assert [view.get("id") for view in server.views] == [None, "view1", None]
