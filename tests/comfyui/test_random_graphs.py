"""Random graphs on a real ComfyUI: each is answered, nothing is left, and the server stays well.

``STATELESS_TEST_FUZZ`` is how many times as many there are, from other seeds; what
``STATELESS_TEST_SEED`` names is repeated.
"""

from __future__ import annotations

import json
import logging
import os
import random
import re
import secrets
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.comfyui.conftest import required
from tests.comfyui.random_graphs import ACCEPTS, Graphs
from tests.comfyui.server import ComfyServer, Install, Reply

log = logging.getLogger(__name__)

TIMES = int(os.environ.get("STATELESS_TEST_FUZZ", "1"))
SEED = os.environ.get("STATELESS_TEST_SEED") or ("1" if TIMES == 1 else secrets.token_hex(4))
REQUESTS = 240 * TIMES
SECONDS = 20.0 * TIMES
CLIENTS = 4

NEVER_LOGGED = (
    "A request failed", "A response broke off", "never retrieved", "was never awaited", "Unclosed ",
    "ResourceWarning", "Task exception", "Exception in callback", "unhandled exception",
)  # fmt: skip
RUNS_NODES = ("capture.py", "learn.py", "probe.py", "runs.py")
"""Where a node's own code is called from ours, or ours does a node's work: what is raised there is
an execution error."""

FAILED_RUNS = {(500, "execution_error"), (500, "out_of_memory")}
"""FFmpeg says that memory is short where it is given no sound."""

FILES_OF_NOISE = 40


@pytest.fixture(scope="module")
def server(
    each_install: Install | None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ComfyServer]:
    install = required(each_install)
    base = tmp_path_factory.mktemp(f"random-{install.version}")
    with ComfyServer(install, base, {"MAX_QUEUE_DEPTH": "1000"}) as server:
        server.wait_until_ready()
        yield server


def test_any_graph_is_run_or_refused_and_leaves_nothing(server: ComfyServer) -> None:
    graphs = Graphs(server.get("/object_info").json)
    before, began, open_files = server.files(), len(server.log), _open_files(server)
    deadline = time.monotonic() + SECONDS
    with ThreadPoolExecutor(CLIENTS) as pool:
        told = list(pool.map(lambda n: _fault(server, graphs, n, deadline), range(REQUESTS)))
    faults = [fault for fault in told if isinstance(fault, str)]
    if faults:
        pytest.fail("\n\n".join(faults[:20]))
    log.info("seed %s: %s", SEED, Counter(told))
    assert {200, 400, 500} <= set(told)
    until_same(server, before)
    server.wait_until_ready()
    said = server.log[began:]
    assert [words for words in NEVER_LOGGED if words in said] == []
    assert our_tracebacks(said) == []
    assert _open_files(server) <= open_files + FILES_OF_NOISE
    assert server.prompt(PLAIN).status == 200


PLAIN = {
    "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0}},
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "a"}},
}  # fmt: skip


def _fault(server: ComfyServer, graphs: Graphs, number: int, deadline: float) -> str | int:
    """Send a request; return its status, or what is wrong with its answer."""
    if time.monotonic() > deadline:
        return 0
    chance = random.Random(f"{SEED} {number}")
    body, accept = graphs.request(chance), "*/*"
    if chance.random() < 0.2:
        accept = chance.choice(ACCEPTS)
    route = "validate" if chance.random() < 0.1 else "prompt"
    try:
        headers = {"Accept": accept}
        reply = server.request("POST", f"/api/stateless/{route}", body, headers, 60)
        _require_answer(reply, body)
    except (AssertionError, OSError, ValueError, KeyError) as error:
        return f"seed {SEED}, request {number}: {error!r}\n{accept}\n{json.dumps(body)[:4000]}"
    return reply.status


def _require_answer(reply: Reply, body: dict[str, Any]) -> None:
    assert "\n" not in "".join(reply.headers.values())
    if reply.status == 200:
        if "filenames" in (said := _json(reply)):
            _require_own(said, body)
        return
    error = reply.json
    assert set(error) <= {"error", "code", "location", "details"}, error
    assert error["error"], error
    assert "Traceback" not in reply.body.decode(), error
    if reply.status >= 500:
        assert (reply.status, error["code"]) in FAILED_RUNS, error
        assert error["details"]["node_id"] in body["prompt"], error


def _require_own(said: dict[str, Any], body: dict[str, Any]) -> None:
    """Say that a result is this request's, and names no place outside of its folder."""
    assert said["id"] == body.get("id", said["id"])
    names = said["filenames"]
    assert len(names) == len(set(names)) == len(said["images"]), names
    for name in names:
        assert not name.startswith("/"), name
        assert ".." not in name.split("/"), name
        assert "\0" not in name, name
    assert {output["node_id"] for output in said["outputs"]} <= set(body["prompt"])


def _json(reply: Reply) -> dict[str, Any]:
    is_json = reply.headers.get("Content-Type", "").startswith("application/json")
    return dict(reply.json) if is_json else {}


def until_same(server: ComfyServer, before: dict[str, list[str]]) -> None:
    """Wait until ComfyUI's folders hold what they held."""
    deadline = time.monotonic() + 20
    while (now := server.files()) != before:
        assert time.monotonic() < deadline, (before, now)
        time.sleep(0.1)


def our_tracebacks(log: str) -> list[str]:
    """Return the tracebacks in a log that end in code of ours."""
    found = []
    for block in log.split("Traceback (most recent call last):")[1:]:
        frames = re.findall(
            r'^ *File "([^"]+)", line \d+', block.partition("\n\n")[0], re.MULTILINE
        )
        if frames and "stateless" in frames[-1] and Path(frames[-1]).name not in RUNS_NODES:
            found.append(block[:3000])
    return found


def _open_files(server: ComfyServer) -> int:
    assert server.process is not None
    return len(list(Path(f"/proc/{server.process.pid}/fd").iterdir()))
