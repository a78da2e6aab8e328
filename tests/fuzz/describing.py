"""schemathesis: holds a server to its own description, also one request after the other."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

CHECKS = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance",
    "response_headers_conformance", "response_schema_conformance", "allow_header_conformance",
)  # fmt: skip
COMMAND = "from schemathesis.cli import schemathesis; schemathesis()"

REPLY_S = 60
"""A download waits for names that lead nowhere, three times."""

BODY_ID = {"id": "$response.body#/id"}
RUN = {"run": "$response.body#/jobs/0/run"}
PATH = {"path": "$request.path.path"}
LINKS: Mapping[tuple[str, str, str], Mapping[str, Mapping[str, Any]]] = {
    ("/prompt", "post", "200"): {
        "state": {"operationRef": "#/paths/~1prompt~1{id}/get", "parameters": BODY_ID},
        "events": {"operationRef": "#/paths/~1prompt~1{id}~1events/get", "parameters": BODY_ID},
        "interrupt": {"operationRef": "#/paths/~1interrupt/post", "requestBody": BODY_ID},
    },
    ("/jobs", "get", "200"): {
        "picture": {"operationRef": "#/paths/~1jobs~1{run}~1thumbnail/get", "parameters": RUN},
        "interrupt": {"operationRef": "#/paths/~1jobs~1{run}~1interrupt/post", "parameters": RUN},
    },
    ("/workflow/{path}", "put", "201"): {
        "describe": {"operationRef": "#/paths/~1workflow~1{path}/get", "parameters": PATH},
        "run": {"operationRef": "#/paths/~1workflow~1{path}/post", "parameters": PATH},
        "remove": {"operationRef": "#/paths/~1workflow~1{path}/delete", "parameters": PATH},
    },
}
"""What an answer says that another request takes; without it none comes to a job that is there."""


def require_as_described(url: str, folder: Path, *options: str, examples: int) -> None:
    """Send what the document allows and what it does not; see that each answer is as it says.

    Args:
        url: The API's, without a slash at the end.
        folder: For what schemathesis writes.
        examples: How many requests each operation gets at most.
    """
    # The document's own address of the API is relative, which schemathesis takes for the root.
    run(f"{url}/openapi.json", folder, "--url", url, "--max-examples", str(examples), *options)


def require_as_linked(url: str, folder: Path, graph: Any, *, examples: int) -> None:
    """Send requests with what earlier answers said; see that each answer is as described.

    Args:
        graph: One that the server runs.
    """
    with urllib.request.urlopen(f"{url}/openapi.json", timeout=60) as answer:
        document = json.load(answer)
    file = folder / "linked.json"
    file.write_text(json.dumps(_linked(document, graph)))
    phases = ("--phases", "stateful", "--max-examples", str(examples), "--url", url)
    run(str(file), folder, *phases)


def run(document: str, folder: Path, *options: str) -> None:
    """Run schemathesis; raise what it complains of."""
    every = ["--checks", ",".join(CHECKS), "--exclude-path", "/events"]  # which has no end
    every += ["--request-timeout", str(REPLY_S)]
    command = [sys.executable, "-c", COMMAND, "run", document, *every, *options]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=3000)
    assert ran.returncode == 0, ran.stdout[-8000:] + ran.stderr[-2000:]


def _linked(document: dict[str, Any], graph: Any) -> dict[str, Any]:
    for (path, method, status), links in LINKS.items():
        document["paths"][path][method]["responses"][status]["links"] = links
    bodies = {
        ("/prompt", "post"): {"prompt": graph},
        ("/workflow/{path}", "put"): {"graph": graph, "inputs": {}},
    }
    for (path, method), body in bodies.items():
        content = document["paths"][path][method]["requestBody"]["content"]
        content.clear()
        content["application/json"] = {"schema": {"enum": [body, {**body, "id": "x"}]}}
    place = document["paths"]["/workflow/{path}"]
    for operation in place.values():
        for parameter in operation.get("parameters", ()) if isinstance(operation, dict) else ():
            if parameter["name"] == "path":
                parameter["schema"] = {"enum": ["a", "b/c", "d e"]}
    return document
