"""SIGTERM: what runs is finished, what waits is run after the next start, the process ends."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.comfyui.graphs import Graph, counted
from tests.comfyui.receiver import SECRET, Receiver, receiving
from tests.comfyui.server import ComfyServer, Install, Reply

END_S = 60
LONG_S = 600


class Site:
    """A ComfyUI that tests may end; the next one starts it again where it needs to.

    Attributes:
        runs: Where each run of a graph leaves a line.
    """

    def __init__(self, server: ComfyServer, receiver: Receiver, runs: Path) -> None:
        self.server = server
        self.receiver = receiver
        self.runs = runs

    def up(self, grace_s: float = LONG_S) -> ComfyServer:
        """Have a process with this SHUTDOWN_GRACE_S."""
        server = self.server
        wanted = {**server.env, "SHUTDOWN_GRACE_S": str(grace_s)}
        if server.process is None or server.process.poll() is not None or server.env != wanted:
            server.stop()
            server.env = wanted
            server.start()
        server.wait_until_ready()
        return server

    def graph(self, name: str, seconds: float) -> Graph:
        """A graph that takes its time; interrupting it stops it."""
        graph = counted(self.runs, name)
        graph["3"] = {
            "class_type": "TestWaits",
            "inputs": {"image": ["2", 0], "seconds": seconds, "stubborn": False, "nonce": name},
        }
        graph["9"]["inputs"]["images"] = ["3", 0]
        return graph

    def accept(self, name: str, seconds: float) -> None:
        hook = f"{self.receiver.origin}/hook"
        reply = self.server.prompt(self.graph(name, seconds), id=name, webhook_v2=hook)
        assert reply.status == 202, reply.body

    def count(self, name: str) -> int:
        """How often a graph has begun to run."""
        return self.runs.read_text().splitlines().count(name) if self.runs.exists() else 0


@pytest.fixture(scope="module")
def site(install: Install, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    base = tmp_path_factory.mktemp("draining")
    with receiving() as receiver:
        env = {"WEBHOOK_SECRET": SECRET, "HTTP_TRUSTED_ORIGINS": receiver.origin}
        server = ComfyServer(install, base / "comfyui", env)
        try:
            yield Site(server, receiver, base / "runs")
        finally:
            server.stop()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as pool:
        yield pool


def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


def is_draining(server: ComfyServer) -> bool:
    return server.get("/api/stateless/ready").status == 503


def test_what_runs_is_finished_and_what_waits_is_run_after_the_next_start(
    site: Site, pool: ThreadPoolExecutor
) -> None:
    server = site.up()
    site.accept("runs", 2)
    until(lambda: site.count("runs"))
    waits: Future[Reply] = pool.submit(server.prompt, site.graph("waits", 0.1), id="waits")
    watched: Future[Reply] = pool.submit(
        server.prompt, site.graph("watched", 0.1), id="watched", accept="text/event-stream"
    )
    until(lambda: server.get("/api/stateless/prompt/watched").status == 200)
    until(lambda: server.get("/api/stateless/prompt/waits").status == 200)
    for name in ("parked 1", "parked 2"):
        site.accept(name, 0.1)
    server.signal(signal.SIGTERM)
    until(lambda: is_draining(server))
    assert "shut" in server.get("/api/stateless/ready").json["reason"].lower()
    assert server.get("/api/stateless/health").status == 200
    refused = server.prompt(site.graph("refused", 0), id="refused")
    assert (refused.status, refused.json["code"]) == (503, "unavailable")
    assert int(refused.headers["Retry-After"]) > 0
    assert waits.result().status == 200
    assert b"event: succeeded" in watched.result().body
    assert server.ended(END_S) == 0
    assert "Traceback" not in server.log.partition("Draining")[2]
    assert [m.body["type"] for m in site.receiver.of("runs")] == ["prompt.complete"]
    assert site.receiver.of("parked 1") == site.receiver.of("parked 2") == []
    site.up()
    for name in ("parked 1", "parked 2"):
        assert site.receiver.wait_for(name).body["type"] == "prompt.complete"
    names = ("runs", "waits", "watched", "parked 1", "parked 2", "refused")
    assert [site.count(name) for name in names] == [1, 1, 1, 1, 1, 0]


def test_a_second_signal_ends_the_process_at_once(site: Site) -> None:
    server = site.up()
    site.accept("endless", LONG_S)
    until(lambda: site.count("endless"))
    server.signal(signal.SIGTERM)
    until(lambda: is_draining(server))
    server.signal(signal.SIGTERM)
    assert server.ended(END_S) == 0
    assert site.receiver.of("endless") == []
    site.up()
    until(lambda: site.count("endless") == 2)
    assert server.post("/api/stateless/interrupt", {"id": "endless"}).status == 200
    assert site.receiver.wait_for("endless").body["code"] == "interrupted"


def test_what_is_not_done_within_the_grace_is_run_after_the_next_start(
    site: Site, pool: ThreadPoolExecutor
) -> None:
    server = site.up(grace_s=0.5)
    site.accept("too long", LONG_S)
    until(lambda: site.count("too long"))
    waits: Future[Reply] = pool.submit(server.prompt, site.graph("in vain", 1), id="in vain")
    until(lambda: server.get("/api/stateless/prompt/in%20vain").status == 200)
    server.signal(signal.SIGTERM)
    assert waits.result().status == 503
    assert waits.result().json["code"] == "unavailable"
    assert server.ended(END_S) == 0
    assert site.receiver.of("too long") == []
    assert server.files()["output"] == []
    site.up()
    until(lambda: site.count("too long") == 2)
    assert server.post("/api/stateless/interrupt", {"id": "too long"}).status == 200
    assert site.receiver.wait_for("too long").body["code"] == "interrupted"
    assert site.count("in vain") == 0


def test_comfyuis_own_way_to_end_works_as_before(site: Site) -> None:
    server = site.up()
    site.accept("cut off", LONG_S)
    until(lambda: site.count("cut off"))
    server.signal(signal.SIGINT)
    assert server.ended(END_S) == 0
    assert "Stopped server" in server.log
    assert site.receiver.of("cut off") == []
