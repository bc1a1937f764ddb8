"""A recording stand-in for a W&B server, on loopback: it answers what the real client asks, or fails as it is told to.

    with Server() as server:
        ...                     # runs of the real client against server.url
    server.runs["me/project/ID"].history

It knows the calls that a run makes: UpsertBucket, CreateRunFiles, the file stream, uploads. Any other query gets `{}`.
"""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Recorded:
    """What has arrived of one run."""

    upserts: list[dict[str, Any]] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    exit_code: int | None = None

    @property
    def config(self) -> dict[str, Any]:
        """The config, without the client's own part."""
        found = json.loads(self.upserts[-1]["config"])
        return {key: entry["value"] for key, entry in found.items() if key != "_wandb"}


class Server:
    """Listens while it is entered.

    Args:
        fault: for each request, given as `graphql`, `file_stream` or `upload`: the HTTP status to refuse with, a number
            of seconds to keep it waiting, or None to answer.
    """

    def __init__(self, fault: Any = lambda what: None) -> None:
        self.fault, self.runs, self.asked = fault, {}, Counter()
        self.views: list[dict[str, Any]] = []
        self.artifacts: list[dict[str, Any]] = []
        self.committed: set[str] = set()
        self.projects = True
        """Whether it can list an entity's projects."""
        self.keys: set[str | None] = set()
        self.lock, self.leaving = threading.Lock(), threading.Event()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._http.daemon_threads = True
        self._http.handle_error = lambda *error: (
            None
        )  # a client that hangs up, and a call that this server cannot answer
        self.url = f"http://127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> Server:
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self.leaving.set()
        self._http.shutdown()
        self._http.server_close()

    def run(self, path: str) -> Recorded:
        return self.runs.setdefault(path, Recorded())

    def graphql(self, query: dict[str, Any]) -> dict[str, Any]:
        given = query.get("variables") or {}
        name = query.get("operationName") or re.search(r"(?:query|mutation)\s+(\w+)", query["query"])[1]
        self.asked[name] += 1
        if name == "UpsertBucket":
            entity = given["entity"] or "someone"
            self.run(f"{entity}/{given['project']}/{given['name']}").upserts.append(given)
            project = {"id": "UHJvamVjdDox", "name": given["project"], "entity": {"id": "RW50aXR5OjE=", "name": entity}}
            bucket = {"id": "QnVja2V0OjE=", "name": given["name"], "displayName": given["displayName"], "config": "{}"}
            bucket |= {"description": None, "sweepName": None, "historyLineCount": 0, "project": project}
            return {"upsertBucket": {"bucket": bucket, "inserted": True}}
        if name == "CreateRunFiles":
            path = f"{given['entity']}/{given['project']}/{given['run']}"
            files = [{"name": file, "uploadUrl": f"{self.url}/upload/{path}/{file}"} for file in given["files"]]
            return {"createRunFiles": {"runID": given["run"], "uploadHeaders": [], "files": files}}
        if name.startswith("Viewer"):
            me = {"id": "VXNlcjox", "entity": "someone", "username": "someone", "flags": "{}", "teams": {"edges": []}}
            return {"viewer": me}
        if name == "ArtifactType":
            return {"project": None}
        if name in ("Projects", "GetProjects"):
            edges = [
                {
                    "cursor": "",
                    "node": {
                        **self.project(given["entity"], "mmbench"),
                        "createdAt": "",
                        "isBenchmark": False,
                        "user": None,
                    },
                }
            ]
            if not self.projects:
                return {}
            return {"models": {"edges": edges, "pageInfo": {"endCursor": "", "hasNextPage": False}}}
        if name == "UpsertView" or "upsertView" in query["query"]:
            self.views.append(given)
            view = {"id": given.get("id") or f"view{len(self.views)}", "name": given["name"], "type": given["type"]}
            view |= {"displayName": given["displayName"], "description": "", "spec": given["spec"], "user": None}
            view |= {
                "createdAt": None,
                "updatedAt": None,
                "project": self.project(given["entityName"], given["projectName"]),
            }
            return {"upsertView": {"view": view, "inserted": True}}
        return self.artifact(name, given)

    @staticmethod
    def project(entity: str, name: str) -> dict[str, Any]:
        return {
            "id": "UHJvamVjdDox",
            "name": name,
            "entityName": entity,
            "entity": {"id": "RW50aXR5OjE=", "name": entity},
        }

    def artifact(self, name: str, given: dict[str, Any]) -> dict[str, Any]:
        """An artifact is made, its manifest and files are uploaded, it is committed."""
        if name == "CreateArtifact":
            found = given["input"]
            self.artifacts.append(found)
            sequence = {"latestArtifact": None}
            artifact = {"id": f"artifact{len(self.artifacts)}", "state": "PENDING", "artifactSequence": sequence}
            return {"createArtifact": {"artifact": artifact}}
        if name in ("CreateArtifactManifest", "UpdateArtifactManifest"):
            address = f"{self.url}/upload/-/-/{given.get('artifactID') or given.get('artifactManifestID')}/manifest"
            file = {"id": "file", "name": "manifest", "displayName": "", "uploadUrl": address, "uploadHeaders": []}
            return {name[0].lower() + name[1:]: {"artifactManifest": {"id": "manifest", "file": file}}}
        if name == "CreateArtifactFiles":
            nodes = [
                {
                    "id": file["name"],
                    "name": file["name"],
                    "displayName": file["name"],
                    "storagePath": f"store/{file['name']}",
                    "uploadUrl": f"{self.url}/upload/-/-/{file['artifactID']}/{file['name']}",
                    "uploadHeaders": [],
                    "uploadMultipartUrls": None,
                    "artifact": {"id": file["artifactID"]},
                }
                for file in given["input"]["artifactFiles"]
            ]
            return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}}}
        if name == "CommitArtifact":
            self.committed.add(given["artifactID"])
            return {"commitArtifact": {"artifact": {"id": given["artifactID"], "digest": ""}}}
        return {}

    def stream(self, path: str, body: dict[str, Any]) -> None:
        run = self.run(path)
        for name, part in (body.get("files") or {}).items():
            lines = [json.loads(line) for line in part["content"]] if name != "output.log" else []
            if name == "wandb-history.jsonl":
                run.history[part["offset"] :] = lines
            elif name == "wandb-summary.json":
                run.summary = lines[-1]
        if body.get("complete"):
            run.exit_code = body.get("exitcode")


def _handler(server: Server) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *args: Any) -> None: ...

        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            with server.lock:
                server.keys.add(self.headers.get("Authorization"))
                what = next((w for w in ("graphql", "file_stream", "upload") if w in self.path), "other")
                server.asked[what] += 1
                fault = server.fault(what)
            if isinstance(fault, float):
                server.leaving.wait(fault)
                fault = 500
            with server.lock:
                reply = {} if fault else self.reply(what, body)
            text = json.dumps(reply).encode()
            self.send_response(fault or 200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def reply(self, what: str, body: bytes) -> dict[str, Any]:
            if what == "graphql":
                return {"data": server.graphql(json.loads(body))}
            if what == "file_stream":
                server.stream(self.path.removeprefix("/files/").removesuffix("/file_stream"), json.loads(body))
            if what == "upload":
                entity, project, run, name = self.path.removeprefix("/upload/").split("/", 3)
                server.run(f"{entity}/{project}/{run}").files[name] = body
            return {}

        do_GET = do_POST = do_PUT = answer  # noqa: N815

    return Handler
