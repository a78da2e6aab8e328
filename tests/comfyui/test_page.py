"""ComfyUI's own page, used while the API is busy: each side gets its own results, and all of them."""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from tests.comfyui.graphs import Graph, node, pixels, waiting
from tests.comfyui.server import ComfyServer, Reply
from tests.comfyui.test_fetching import loading, png


@pytest.fixture(autouse=True)
def _nothing_is_left(comfy: ComfyServer) -> Iterator[None]:
    before = comfy.files()
    yield
    for folder in ("output", "input"):
        for path in (comfy.base / folder).glob("page*"):
            path.unlink()
    until(lambda: comfy.files() == before, "the folders are as before")


def until(holds: Callable[[], object], what: str, seconds: float = 15) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


class Page:
    """What ComfyUI's page does with its own routes."""

    def __init__(self, server: ComfyServer) -> None:
        self._server = server

    def upload(self, name: str, content: bytes) -> str:
        parts = (
            (b'name="image"; filename="%b"' % name.encode(), content),
            (
                b'name="overwrite"',
                b"true",
            ),
        )
        body = b"".join(
            b"--edge\r\nContent-Disposition: form-data; %b\r\n\r\n%b\r\n" % part for part in parts
        )
        headers = {"Content-Type": "multipart/form-data; boundary=edge"}
        reply = self._server.request("POST", "/upload/image", body + b"--edge--\r\n", headers)
        return str(reply.json["name"])

    def queue(self, graph: Graph) -> str:
        reply = self._server.post("/prompt", {"prompt": graph, "client_id": "page"})
        assert reply.status == 200, reply.body
        return str(reply.json["prompt_id"])

    def entry(self, prompt_id: str) -> dict[str, Any]:
        """Wait for a prompt's end; return what the history has of it."""

        def found() -> Any:
            return self._server.get(f"/history/{prompt_id}").json.get(prompt_id)

        until(found, "the page's prompt has ended", 60)
        return dict(found())

    def picture(self, entry: dict[str, Any]) -> bytes:
        (file,) = entry["outputs"]["9"]["images"]
        place = f"filename={file['filename']}&type={file['type']}&subfolder={file['subfolder']}"
        return self._server.get(f"/view?{place}").body

    def running(self) -> list[str]:
        return [item[1] for item in self._server.get("/queue").json["queue_running"]]

    def interrupt(self, **body: str) -> None:
        assert self._server.post("/interrupt", body).status == 200


@pytest.fixture
def page(comfy: ComfyServer) -> Page:
    return Page(comfy)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


def begun(comfy: ComfyServer, pool: ThreadPoolExecutor, seconds: float) -> Future[Reply]:
    """Start a job of the API; return when it runs."""
    job = pool.submit(comfy.prompt, waiting(seconds, str(time.monotonic())), id="ours")
    until(lambda: state(comfy) == "running", "runs")
    return job


def state(comfy: ComfyServer) -> str | None:
    found: str | None = comfy.get("/api/stateless/prompt/ours").json.get("state")
    return found


def mine(seed: int, seconds: float = 0.0) -> Graph:
    graph = loading(f"page-{seed}.png")
    graph["9"]["inputs"]["filename_prefix"] = "page"
    return graph if not seconds else {**graph, **_late(graph, seconds, seed)}


def _late(graph: Graph, seconds: float, seed: int) -> Graph:
    wait = node("TestWaits", image=["1", 0], seconds=seconds, stubborn=False, nonce=f"page {seed}")
    saver = node("SaveImage", images=["5", 0], filename_prefix="page")
    return {"5": wait, "9": saver}


def test_both_sides_get_their_own_pictures(
    comfy: ComfyServer, page: Page, pool: ThreadPoolExecutor
) -> None:
    def ours(seed: int) -> bool:
        content = png(seed)
        reply = comfy.prompt(loading(base64.b64encode(content).decode()), id="page-0")
        assert reply.status == 200, reply.body
        return np.array_equal(pixels(reply.images[0]), pixels(content))

    jobs = [pool.submit(ours, 1000 + seed) for seed in range(30)]
    for seed in range(6):
        content = png(seed)
        assert page.upload(f"page-{seed}.png", content) == f"page-{seed}.png"
        entry = page.entry(page.queue(mine(seed)))
        assert np.array_equal(pixels(page.picture(entry)), pixels(content))
        comfy.post("/queue", {"clear": True})
        comfy.post("/history", {"clear": True})
        comfy.post("/free", {"unload_models": True, "free_memory": True})
        page.interrupt()
    assert all(job.result() for job in jobs)


def test_an_interruption_by_the_page_spares_a_job(
    comfy: ComfyServer, page: Page, pool: ThreadPoolExecutor
) -> None:
    page.upload("page-1.png", png(1))
    job = begun(comfy, pool, 1.0)
    waits = page.queue(mine(1))
    page.interrupt()
    page.interrupt(prompt_id=waits)
    assert comfy.request("POST", "/api/interrupt", b"", {}).status == 200
    assert job.result().status == 200
    assert page.entry(waits)["status"]["status_str"] == "success"


def test_an_interruption_by_the_page_stops_its_own_prompt_and_a_job_that_it_names(
    comfy: ComfyServer, page: Page, pool: ThreadPoolExecutor
) -> None:
    page.upload("page-2.png", png(2))
    runs = page.queue(mine(2, seconds=60))
    until(lambda: page.running() == [runs], "the page's prompt runs")
    page.interrupt()
    assert page.entry(runs)["status"]["status_str"] == "error"
    job = begun(comfy, pool, 60)
    page.interrupt(prompt_id=page.running()[0])
    assert (job.result().status, job.result().json["code"]) == (409, "interrupted")


def test_an_interruption_of_a_job_hits_nothing_of_the_page(
    comfy: ComfyServer, page: Page, pool: ThreadPoolExecutor
) -> None:
    page.upload("page-3.png", png(3))
    runs = page.queue(mine(3, seconds=1.0))
    until(lambda: page.running() == [runs], "the page's prompt runs")
    job = pool.submit(comfy.prompt, waiting(60, "behind the page"), id="ours")
    until(lambda: comfy.get("/queue").json["queue_pending"], "the job waits")
    assert comfy.post("/api/stateless/interrupt", {"id": "ours"}).status == 200
    assert job.result().json["code"] == "interrupted"
    entry = page.entry(runs)
    assert entry["status"]["status_str"] == "success"
    with io.BytesIO(page.picture(entry)) as file:
        assert np.array_equal(pixels(file.read()), pixels(png(3)))
    assert "stateless" not in json.dumps(entry)
