"""All jobs of a real ComfyUI, as one who watches them sees them."""

from __future__ import annotations

import io
import json
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from PIL import Image

from tests.comfyui.graphs import failing, node, pattern, saved, waiting
from tests.comfyui.server import ComfyServer

Event = tuple[str, Any]


@contextmanager
def followed(server: ComfyServer) -> Iterator[Iterator[Event]]:
    """Give the events of the stream of all jobs, as they come."""

    def events(lines: Any) -> Iterator[Event]:
        name = ""
        for line in lines:
            if line.startswith(b"event: "):
                name = line[7:].decode().strip()
            if line.startswith(b"data: "):
                yield name, json.loads(line[6:])

    with urllib.request.urlopen(f"{server.url}/api/stateless/events", timeout=20) as response:
        yield events(response)


def until(events: Iterator[Event], **wanted: Any) -> Any:
    """Return the first job that is told with these values."""
    return next(
        data
        for name, data in events
        if name == "job" and all(data[key] == value for key, value in wanted.items())
    )


def stepping(nonce: str) -> dict[str, Any]:
    steps = node("TestSteps", image=["1", 0], steps=10, seconds=1.0, nonce=nonce)
    return {
        "1": pattern(1),
        "2": steps,
        "9": node("SaveImage", images=["2", 0], filename_prefix="watched"),
    }


def test_a_job_is_seen_with_its_progress_its_end_and_its_picture(comfy: ComfyServer) -> None:
    with followed(comfy) as events, ThreadPoolExecutor(1) as pool:
        name, snapshot = next(events)
        assert name == "snapshot"
        assert snapshot["status"]["comfyui_version"] == comfy.install.version
        job = pool.submit(comfy.prompt, stepping("watched"), id="watched")
        running = until(events, id="watched", state="running")
        while not (running["nodes"] and running["nodes"][0]["value"]):
            running = until(events, id="watched", state="running")
        assert running["nodes"][0]["class_type"] == "TestSteps"
        assert 0 < running["progress"] < 1
        ended = until(events, id="watched", state="succeeded")
        assert job.result().status == 200
        while ended["thumbnail"] is None:
            ended = until(events, id="watched", state="succeeded")
    assert ended["outputs"] == {"count": 1, "media_type": "image/png"}
    shown = comfy.get(f"/api/stateless/{ended['thumbnail']}")
    with Image.open(io.BytesIO(shown.body)) as image:
        assert (image.format, image.size) == ("JPEG", (64, 48))


def test_a_failure_names_its_node_and_a_run_is_stopped_by_its_key(comfy: ComfyServer) -> None:
    assert comfy.prompt(failing("ValueError"), id="fails").status == 500
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(comfy.prompt, waiting(20, "stopped by key"), id="stopped-by-key")
        deadline = time.monotonic() + 10
        while True:
            jobs = comfy.get("/api/stateless/jobs").json["jobs"]
            found = [j for j in jobs if j["id"] == "stopped-by-key" and j["state"] == "running"]
            if found:
                break
            assert time.monotonic() < deadline, jobs
            time.sleep(0.02)
        answer = comfy.post(f"/api/stateless/jobs/{found[0]['run']}/interrupt", {})
        assert answer.json == {"id": "stopped-by-key", "interrupted": "success"}
        assert job.result().status == 409
    failed = next(j for j in jobs if j["id"] == "fails")
    assert (failed["error"]["node_id"], failed["error"]["class_type"]) == ("2", "TestRaises")


def test_the_state_of_the_server_is_told(comfy: ComfyServer) -> None:
    assert comfy.prompt(saved(3)).status == 200
    said = comfy.get("/api/stateless/status").json
    assert (said["phase"], said["ready"]) == ("ready", True)
    assert said["cache"]["files"] is not None
    assert said["webhooks"]["due"] is not None
