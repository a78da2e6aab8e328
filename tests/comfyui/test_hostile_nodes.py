"""Nodes that do to their process what no node should: each fails, or not, alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.comfyui.graphs import Graph, node, pixels, saved
from tests.comfyui.receiver import SECRET, Receiver, receiving
from tests.comfyui.server import ComfyServer, Install, Reply

PACK = Path(__file__).parent / "hostile"

FINE = (200, None)
FAILS, DIES = (500, "execution_error"), (500, "worker_died")
ENDS = {
    "changes_folder": FINE,
    "dies_in_a_thread": FINE,
    "forks": FINE,
    "takes_stdout": FINE,
    "loses_stdout": FINE,
    "impatient": FINE,
    "strict": FINE,
    "loses_temp": FINE,
    "proxies": FINE,
    "has_no_stack": FINE,
    "up": FINE,
    "absolute": FINE,
    "nul": FINE,
    "types": FINE,
    "objects": FINE,
    "cycle": FINE,
    "deep": FINE,
    "half_text": FINE,
    "many_texts": FINE,
    "wrong_ui": FAILS,
    "recursion": FAILS,
    "loud": FAILS,
    "nested": FAILS,
    "unspeakable": DIES,
    "generator": DIES,
    "cancelled": DIES,
    "bare": DIES,
}
LONGEST = 30_000


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with receiving() as running:
        yield running


@pytest.fixture(scope="module")
def server(
    install: Install, receiver: Receiver, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ComfyServer]:
    env = {"HTTP_TRUSTED_ORIGINS": receiver.origin, "WEBHOOK_SECRET": SECRET}
    base = tmp_path_factory.mktemp("hostile")
    with ComfyServer(install, base, env, packs={"hostile": PACK}) as server:
        server.wait_until_ready()
        yield server


def does(act: str) -> Graph:
    return {"1": node("HostileDoes", act=act)}


def is_fine(server: ComfyServer) -> bool:
    """Say whether the next job is run, and gives what it is to give."""
    reply = server.prompt(saved(1), timeout=60)
    assert reply.status == 200, reply.body
    return bool(pixels(reply.images[0]).shape == (48, 64, 3))


def ended(reply: Reply) -> tuple[int, str | None]:
    return reply.status, reply.json.get("code")


@pytest.mark.parametrize("act", ENDS)
def test_what_a_node_does_is_over_with_its_job(
    server: ComfyServer, receiver: Receiver, act: str
) -> None:
    before = server.files()
    reply = server.prompt(does(act), id=f"waits {act}")
    assert ended(reply) == ENDS[act], reply.body[:500]
    assert reply.status == 200 or len(reply.body) < LONGEST
    assert reply.json.get("images", []) == []
    hook = f"{receiver.origin}/hook"
    assert server.prompt(does(act), id=f"goes on {act}", webhook_v2=hook).status == 202
    message = receiver.wait_for(f"goes on {act}").body
    assert message["type"] == ("prompt.complete" if ENDS[act] == FINE else "prompt.failed")
    assert is_fine(server)
    assert server.get("/api/stateless/ready").status == 200
    assert server.files() == before


def test_a_node_that_holds_the_interpreter_holds_nobody_up_afterwards(server: ComfyServer) -> None:
    assert server.prompt(does("holds_the_lock")).status == 200
    assert is_fine(server)
    assert server.get("/api/stateless/ready").status == 200


def test_what_a_node_says_has_no_end(server: ComfyServer) -> None:
    reply = server.prompt(does("huge_text"))
    assert len(reply.json["texts"][0]["text"]) == 20 * 2**20


def test_a_node_that_changes_how_numbers_are_computed_changes_no_picture(
    server: ComfyServer,
) -> None:
    graph: Graph = {
        "1": node("EmptyImage", width=8, height=8, batch_size=1, color=0x102030),
        "9": node("SaveImage", images=["1", 0], filename_prefix="grey"),
    }
    before = pixels(server.prompt(graph).images[0])
    assert server.prompt(does("numbers")).status == 200
    graph["1"]["inputs"]["height"] = 9
    after = pixels(server.prompt(graph).images[0])
    assert np.array_equal(after[:8], before)
