"""Properties that make us fast, held without a clock: where images are compressed, and what is written."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.comfyui.graphs import node, saved, waiting
from tests.comfyui.server import ComfyServer, Reply


@pytest.fixture
def notes(comfy: ComfyServer) -> Iterator[dict[str, list[tuple[str, str]]]]:
    """Notes of all that happens in the process during the test; read them when it is over."""
    taken: dict[str, list[tuple[str, str]]] = {}
    comfy.post("/test-host/structure", {"on": True})
    yield taken
    comfy.post("/test-host/structure", {"on": False})


def take(comfy: ComfyServer) -> dict[str, list[tuple[str, str]]]:
    found = comfy.post("/test-host/structure", {"on": True}).json
    return {kind: [(thread, what) for thread, what in found[kind]] for kind in found}


def worker(comfy: ComfyServer) -> str:
    """Return the name of the thread that runs nodes."""
    graph = {"1": node("EmptyImage", width=8, height=8, batch_size=1, color=1),
             "9": node("TestFingerprint", image=["1", 0])}  # fmt: skip
    texts: list[dict[str, Any]] = comfy.prompt(graph).json["texts"]
    return str(texts[-1]["text"])


def sent(comfy: ComfyServer, number: int, convert: dict[str, Any] | None) -> Reply:
    """Send a graph that saves images too large to be encoded where they are collected, and previews them."""
    graph = saved(number, width=400, height=300, batch=2)
    graph["8"] = node("PreviewImage", images=["1", 0])
    graph["7"] = node("EmptyImage", width=8, height=8, batch_size=3, color=number)
    graph["6"] = node("SaveImage", images=["7", 0], filename_prefix="small")
    more: dict[str, Any] = {"convert_output": convert} if convert else {}
    return comfy.prompt(graph, id=f"structure-{uuid.uuid4()}", **more)


FORMS: list[dict[str, Any] | None] = [None, {"format": "png"}, {"format": "jpeg"}, {"format": "webp"}]  # fmt: skip


@pytest.mark.usefixtures("notes")
def test_captured_images_touch_no_disk_and_are_compressed_by_no_thread_that_runs_nodes(
    comfy: ComfyServer,
) -> None:
    runs_nodes = worker(comfy)
    take(comfy)
    with ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(lambda n: sent(comfy, n, FORMS[n % 4]), range(12)))
    taken = take(comfy)
    assert [(reply.status, len(reply.json["images"])) for reply in replies] == [(200, 5)] * 12
    assert taken["written"] == []
    encoders = {thread for thread, _ in taken["encoded"]}
    assert len(taken["encoded"]) >= 12 * 5
    assert runs_nodes not in encoders
    assert {thread for thread in encoders if not thread.startswith("stateless-encoder")} <= {
        "MainThread",  # a few small ones, by the one who collects
        "stateless-thumbnails_0",
    }


@pytest.mark.usefixtures("notes")
def test_the_notes_hear_of_a_plain_prompt_that_it_writes_and_compresses(comfy: ComfyServer) -> None:
    runs_nodes = worker(comfy)
    take(comfy)
    before = comfy.files()["output"]
    comfy.plain(saved(3, prefix=f"plain-{uuid.uuid4()}"))
    taken = take(comfy)
    assert (runs_nodes, "save") in taken["encoded"]
    assert any(thread == runs_nodes and "plain-" in path for thread, path in taken["written"])
    for name in set(comfy.files()["output"]) - set(before):
        (comfy.base / "output" / name).unlink()


def counted_above(before: dict[str, int], now: dict[str, int]) -> dict[str, int]:
    return {name: now[name] - before[name] for name in now if now[name] > before[name]}


@pytest.mark.parametrize("convert", FORMS[:3])
def test_a_job_and_its_images_go_without_the_garbage_collector(
    comfy: ComfyServer, convert: dict[str, Any] | None
) -> None:
    before = uncollected(comfy)
    try:
        assert all(sent(comfy, number, convert).status == 200 for number in range(5))
        until_gone(comfy, before)
    finally:
        comfy.post("/test-host/left", {"collects": True})


def test_nothing_is_kept_of_the_runs_of_jobs_that_were_stopped(comfy: ComfyServer) -> None:
    before = uncollected(comfy)
    waits = {
        "1": node("EmptyImage", width=8, height=8, batch_size=1, color=0),
        "2": node("TestWaits", image=["1", 0], seconds=60.0, stubborn=False, nonce="stopped"),
        "3": node("PreviewImage", images=["2", 0]),
    }
    try:
        for _ in range(3):
            assert comfy.prompt(waits, timeout_s=0.2).status == 504
        until_gone(comfy, before, collects=True)
    finally:
        comfy.post("/test-host/left", {"collects": True})


def test_a_job_that_waits_has_its_graph_twice_the_callers_and_comfyuis(comfy: ComfyServer) -> None:
    marked = {
        "1": node("EmptyImage", width=8, height=8, batch_size=1, color=0),
        "2": node("ImageInvert", image=["1", 0], a_mark=str(uuid.uuid4())),
        "9": node("SaveImage", images=["2", 0], filename_prefix="marked"),
    }
    graphs = [waiting(60, f"first {uuid.uuid4()}"), waiting(60, f"next {uuid.uuid4()}"), marked]
    before = comfy.post("/test-host/copies", {"input": "a_mark"}).json
    with ThreadPoolExecutor(3) as pool:
        ids, replies = [str(uuid.uuid4()) for _ in graphs], []
        for graph, job_id in zip(graphs, ids, strict=True):
            replies.append(pool.submit(comfy.prompt, graph, id=job_id))
            until(lambda: depth(comfy) == len(replies))
        found = comfy.post("/test-host/copies", {"input": "a_mark"}).json
        for job_id in ids[:2]:
            comfy.post("/api/stateless/interrupt", {"id": job_id})
        statuses = [reply.result().status for reply in replies]
    assert found - before == 2
    assert statuses == [409, 409, 200]
    assert replies[2].result().json["prompt"]["2"] == marked["2"]


def uncollected(comfy: ComfyServer) -> dict[str, int]:
    """Turn the garbage collector off; return what other tests have this server keep."""
    kept: dict[str, int] = comfy.post("/test-host/left", {"collects": False}).json
    return kept


def depth(comfy: ComfyServer) -> int:
    found: int = comfy.get("/api/stateless/status").json["queue"]["depth"]
    return found


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        time.sleep(0.05)


def until_gone(comfy: ComfyServer, before: dict[str, int], *, collects: bool = False) -> None:
    asked = {"collects": False} if collects else {}
    deadline = time.monotonic() + 20
    while more := counted_above(before, comfy.post("/test-host/left", asked).json):
        assert time.monotonic() < deadline, more
        time.sleep(0.05)
