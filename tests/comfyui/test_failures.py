"""What goes wrong is told, to the one it concerns, and harms nobody else."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.comfyui.graphs import Graph, failing, node, pattern, saved, waiting
from tests.comfyui.server import ComfyServer

SECRET = "comfyui-key-7f3a9c"


@pytest.fixture(autouse=True)
def _nothing_is_left(comfy: ComfyServer) -> Iterator[None]:
    before = comfy.files()
    yield
    deadline = time.monotonic() + 5
    while comfy.files() != before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert comfy.files() == before


def test_a_node_that_raises_is_named_with_its_own_message(comfy: ComfyServer) -> None:
    reply = comfy.prompt(failing("ValueError", "the seed is sour"))
    assert reply.status == 500
    assert reply.json["code"] == "execution_error"
    assert "the seed is sour" in reply.json["error"]
    assert reply.json["location"] == "prompt.2"
    details = reply.json["details"]
    assert details["node_id"] == "2"
    assert details["class_type"] == "TestRaises"
    assert details["exception_type"] == "ValueError"
    assert "traceback" not in reply.body.decode().lower()


@pytest.mark.parametrize("kind", ["MemoryError", "OutOfMemoryError"])
def test_a_node_out_of_memory_has_a_code_of_its_own(comfy: ComfyServer, kind: str) -> None:
    reply = comfy.prompt(failing(kind, "Allocation on device"))
    assert (reply.status, reply.json["code"]) == (500, "out_of_memory")
    assert comfy.prompt(saved(1)).status == 200


@pytest.mark.parametrize("kind", ["SystemExit", "KeyboardInterrupt"])
def test_a_node_that_ends_the_worker_thread_fails_alone(comfy: ComfyServer, kind: str) -> None:
    with ThreadPoolExecutor(12) as pool:
        good = [pool.submit(comfy.prompt, saved(n)) for n in range(5)]
        bad = [pool.submit(comfy.prompt, failing(kind, "stop")) for _ in range(3)]
        more = [pool.submit(comfy.prompt, saved(n)) for n in range(5)]
    for reply in (future.result() for future in bad):
        assert (reply.status, reply.json["code"]) == (500, "worker_died")
        assert reply.json["details"]["class_type"] == "TestRaises"
        assert reply.json["details"]["exception_type"] == kind
    assert [future.result().status for future in good + more] == [200] * 10
    assert comfy.get("/api/stateless/ready").status == 200
    assert comfy.plain(saved(1))["status"]["status_str"] == "success"
    for file in (comfy.base / "output").glob("picture_*"):
        file.unlink()


def test_files_of_a_job_that_fails_later_go_too(comfy: ComfyServer) -> None:
    graph = failing("ValueError")
    graph["3"] = node("TestWritesFile", text="x", name="early.csv", folder="output")
    graph["4"] = node("TestSavesSilently", text="x", filename_prefix="early/silent")
    graph["2"]["inputs"]["image"] = ["5", 0]
    graph["5"] = node("TestWaits", image=["1", 0], seconds=0.2, stubborn=False, nonce="late")
    assert comfy.prompt(graph).status == 500


def test_the_api_key_for_nodes_reaches_them_and_no_answer(comfy: ComfyServer) -> None:
    graph = {**waiting(0.8, "secret"), "3": node("TestTellsSecrets", after=["2", 0])}
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(comfy.prompt, graph, extra_data={"api_key_comfy_org": SECRET})
        time.sleep(0.4)
        queue = comfy.get("/queue")
        reply = job.result()
    assert len(queue.json["queue_running"]) == 1
    assert "401 for key ***" in reply.json["error"]
    for answer in (reply, queue, comfy.get("/history"), comfy.get("/queue")):
        assert SECRET not in answer.body.decode()


REFUSED = {
    "a class that is not there": (
        {"1": node("NoSuchClass"), "9": node("SaveImage", images=["1", 0], filename_prefix="x")},
        "invalid_prompt", "prompt.1.class_type",
    ),
    "a value that is not in the list": (
        {**saved(1), "2": node("TestRaises", image=["1", 0], kind="Nothing", message=""),
         "9": node("SaveImage", images=["2", 0], filename_prefix="x")},
        "invalid_prompt", "prompt.2.inputs.kind",
    ),
    "one bad output beside a good one": (
        {**saved(1), "8": node("SaveImage", images=["2", 0], filename_prefix="x"),
         "2": node("TestRaises", image=["1", 0], kind="Nothing", message="")},
        "invalid_prompt", "prompt.2.inputs.kind",
    ),
    "an input that is missing": (
        {"9": node("SaveImage", filename_prefix="x")}, "invalid_prompt", "prompt.9.inputs.images",
    ),
    "a link to nowhere": (
        {"9": node("SaveImage", images=["404", 0], filename_prefix="x")},
        "invalid_prompt", "prompt.9.inputs.images",
    ),
    "a link of the wrong type": (
        {"1": node("EmptyLatentImage", width=64, height=64, batch_size=1),
         "9": node("SaveImage", images=["1", 0], filename_prefix="x")},
        "invalid_prompt", "prompt.9.inputs.images",
    ),
    "no output node": ({"1": pattern()}, "no_output", "prompt"),
    "a prefix that leaves the folder": (
        saved(1, prefix="../outside"), "invalid_prompt", "prompt.9.inputs.filename_prefix",
    ),
    "an absolute prefix": (
        saved(1, prefix="/absolute/name"), "invalid_prompt", "prompt.9.inputs.filename_prefix",
    ),
    "an image that is not there": (
        {"1": node("LoadImage", image="nothing.png"),
         "9": node("SaveImage", images=["1", 0], filename_prefix="x")},
        "invalid_input", "prompt.1.inputs.image",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED.keys())
def test_a_wrong_graph_is_refused_with_its_place(
    comfy: ComfyServer, case: tuple[dict[str, object], str, str]
) -> None:
    graph, code, location = case
    reply = comfy.prompt(graph)
    assert (reply.status, reply.json["code"], reply.json["location"]) == (400, code, location)
    assert "traceback" not in reply.body.decode()
    if code == "invalid_prompt" and "filename_prefix" not in location:
        errors = reply.json["details"]["node_errors"]
        assert location.split(".")[1] in errors


def test_a_picture_without_pixels_fails_the_node_that_saves_it(comfy: ComfyServer) -> None:
    small = node("ImageScaleBy", image=["1", 0], upscale_method="area", scale_by=0.01)
    graph = {**saved(1, width=8, height=8), "2": small}
    graph["9"] = node("SaveImage", images=["2", 0], filename_prefix="none")
    reply = comfy.prompt(graph)
    assert (reply.status, reply.json["code"]) == (500, "execution_error")
    assert reply.json["details"]["node_id"] == "9"


@pytest.mark.parametrize("saver", ["SaveImage", "PreviewImage"])
def test_an_empty_batch_fails_the_node_that_saves_it_as_in_comfyui(
    comfy: ComfyServer, saver: str
) -> None:
    graph = saved(1, batch=0)
    graph["9"]["class_type"] = saver
    reply = comfy.prompt(
        {**graph, "2": pattern(2), "3": node("SaveImage", images=["2", 0], filename_prefix="x")}
    )
    assert (reply.status, reply.json["code"]) == (500, "execution_error")
    assert reply.json["details"]["node_id"] == "9"
    (failed,) = [m for m in comfy.plain(graph)["status"]["messages"] if m[0] == "execution_error"]
    assert failed[1]["exception_message"].strip() in reply.json["error"]
    comfy.post("/history", {"clear": True})


def test_a_cycle_is_refused(comfy: ComfyServer) -> None:
    graph = {
        "1": node("ImageInvert", image=["2", 0]),
        "2": node("ImageInvert", image=["1", 0]),
        "9": node("SaveImage", images=["1", 0], filename_prefix="x"),
    }
    assert comfy.prompt(graph).status == 400


def test_a_clear_of_comfyuis_queue_loses_no_job(comfy: ComfyServer) -> None:
    with ThreadPoolExecutor(8) as pool:
        jobs = [pool.submit(comfy.prompt, waiting(0.3, f"clear {n}")) for n in range(8)]
        for _ in range(12):
            time.sleep(0.15)
            assert comfy.post("/queue", {"clear": True}).status == 200
    assert [job.result().status for job in jobs] == [200] * 8


def test_a_job_that_is_cleared_and_cancelled_at_once_keeps_no_place(comfy: ComfyServer) -> None:
    for attempt in range(3):
        with ThreadPoolExecutor(2) as pool:
            running = pool.submit(comfy.prompt, waiting(1, f"in front {attempt}"))
            time.sleep(0.3)
            cleared = pool.submit(comfy.prompt, waiting(1, f"cleared {attempt}"), id="cleared")
            time.sleep(0.3)
            assert len(comfy.get("/queue").json["queue_pending"]) == 1
            comfy.post("/queue", {"clear": True})
            assert comfy.post("/api/stateless/interrupt", {"id": "cleared"}).status == 200
            assert cleared.result(timeout=5).json["code"] == "interrupted"
            assert running.result(timeout=5).status == 200
    assert comfy.prompt(saved(1), timeout=10).status == 200


def test_a_queued_and_a_running_job_are_interrupted_and_no_other(comfy: ComfyServer) -> None:
    with ThreadPoolExecutor(6) as pool:
        running = pool.submit(comfy.prompt, waiting(20, "running"), id="running")
        time.sleep(0.5)
        other = pool.submit(comfy.prompt, waiting(0.1, "other"), id="other")
        queued = [pool.submit(comfy.prompt, waiting(20, f"q{n}"), id="queued") for n in range(3)]
        time.sleep(0.5)
        for name in ("queued", "running"):
            reply = comfy.post("/api/stateless/interrupt", {"id": name})
            assert (reply.status, reply.json) == (200, {"id": name, "interrupted": "success"})
        for job in [running, *queued]:
            reply = job.result(timeout=5)
            assert (reply.status, reply.json["code"]) == (409, "interrupted")
        assert other.result(timeout=10).status == 200
    reply = comfy.post("/api/stateless/interrupt", {"id": "running"})
    assert (reply.status, reply.json) == (404, {"id": "running", "interrupted": "failed"})


def test_a_job_over_its_time_fails_with_timeout(comfy: ComfyServer) -> None:
    began = time.monotonic()
    reply = comfy.prompt(waiting(20, "timeout"), timeout_s=0.5)
    assert (reply.status, reply.json["code"]) == (504, "timeout")
    assert time.monotonic() - began < 3
    assert comfy.prompt(saved(1)).status == 200


def test_a_node_that_ignores_its_interruption_keeps_nobody_waiting(comfy: ComfyServer) -> None:
    began = time.monotonic()
    reply = comfy.prompt(waiting(3, "stubborn", stubborn=True), timeout_s=0.5)
    assert reply.json["code"] == "timeout"
    assert time.monotonic() - began < 2
    assert comfy.prompt(saved(1)).status == 200
    assert time.monotonic() - began > 2.5


def test_a_client_that_hangs_up_cancels_its_job(comfy: ComfyServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", comfy.port)
    body = json.dumps({"prompt": waiting(20, "hang up"), "id": "hangs up"})
    connection.request("POST", "/api/stateless/prompt", body, {"Content-Type": "application/json"})
    time.sleep(0.5)
    connection.close()
    began = time.monotonic()
    assert comfy.prompt(saved(1)).status == 200
    assert time.monotonic() - began < 3
    assert comfy.post("/api/stateless/interrupt", {"id": "hangs up"}).status == 404


def test_higher_priority_runs_earlier_and_equals_keep_their_order(comfy: ComfyServer) -> None:
    done: list[str] = []

    def run(name: str, priority: int) -> None:
        assert comfy.prompt(waiting(0.05, name), id=name, priority=priority).status == 200
        done.append(name)

    # Two prompts are in ComfyUI's queue at a time; these hold both places.
    first = [threading.Thread(target=comfy.prompt, args=(waiting(1, f"{n}"),)) for n in range(2)]
    rest = [
        threading.Thread(target=run, args=job)
        for job in [("low", -1), ("a", 0), ("b", 0), ("high", 5)]
    ]
    for thread in [*first, *rest]:
        thread.start()
        time.sleep(0.1)
    for thread in [*first, *rest]:
        thread.join()
    assert done == ["high", "a", "b", "low"]


def _unseen(value: Any, name: str) -> Graph:
    """Return a graph with a value in an input, as ComfyUI's validation does not look at it."""
    graph = saved()
    graph["5"] = node("PreviewAny", source=value if name == "source" else "text")
    graph["5"]["inputs"][name] = value
    return graph


@pytest.mark.parametrize(
    ("value", "name"),
    [({"__value__": ["nowhere", 0]}, "source"), (["nowhere", 0], "undeclared")],
    ids=["wrapped", "undeclared"],
)
def test_a_link_that_validation_does_not_look_at_and_that_leads_nowhere_is_refused(
    comfy: ComfyServer, value: Any, name: str
) -> None:
    reply = comfy.prompt(_unseen(value, name))
    assert reply.status == 400
    assert reply.json["code"] == "invalid_prompt"
    assert reply.json["location"] == f"prompt.5.inputs.{name}"
    assert "nowhere, which is not in the graph" in reply.json["error"]


@pytest.mark.parametrize("name", ["source", "undeclared", "images"])
@pytest.mark.parametrize("slot", [99, -9, 0.5], ids=str)
def test_a_link_to_an_output_that_a_node_has_not_is_refused(
    comfy: ComfyServer, name: str, slot: float
) -> None:
    graph = _unseen({"__value__": ["1", slot]} if name == "source" else ["1", slot], name)
    graph["5"]["class_type"] = "PreviewAny" if name != "images" else "PreviewImage"
    reply = comfy.prompt(graph)
    assert (reply.status, reply.json["code"]) == (400, "invalid_prompt")
    assert reply.json["location"] == f"prompt.5.inputs.{name}"
    assert f"output {slot} of node 1 (TestPattern), which has no such output" in reply.json["error"]


@pytest.mark.parametrize("name", ["source", "undeclared"])
def test_a_node_that_is_linked_to_itself_unseen_ends_no_worker(
    comfy: ComfyServer, name: str
) -> None:
    reply = comfy.prompt(_unseen({"__value__": ["5", 0]} if name == "source" else ["5", 0], name))
    assert reply.status in (200, 400, 500)
    assert reply.json.get("code") in (None, "invalid_prompt", "execution_error")
    assert comfy.prompt(saved()).status == 200


def test_a_dead_link_behind_no_output_is_in_nobodys_way(comfy: ComfyServer) -> None:
    graph = saved()
    graph["5"] = node("ImageInvert", image=["nowhere", 0])
    assert comfy.prompt(graph).status == 200
