"""What the nodes of much-used packs do, and what a page does beside: each job has its own, whole."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from tests.comfyui.graphs import node, pattern, pixels, saved, waiting
from tests.comfyui.server import ComfyServer
from tests.launcher.running import until


@pytest.fixture(autouse=True)
def _nothing_is_left(comfy: ComfyServer) -> Iterator[None]:
    before = comfy.files()
    yield
    until(lambda: comfy.files() == before, "tidy")


def video(kind: str, **inputs: Any) -> dict[str, Any]:
    given = {"filename_prefix": "a/video", "kind": kind, "then_fails": False, **inputs}
    return {"1": pattern(1), "2": node("TestCombinesVideo", images=["1", 0], **given)}


def test_a_node_that_takes_any_input_gets_the_callers_alone(comfy: ComfyServer) -> None:
    given = {"a": "1", "b": "2"}
    for _ in range(2):
        reply = comfy.prompt({"1": node("TestShowsInputs", **given)})
        assert [json.loads(each["text"]) for each in reply.json["texts"]] == [given]
        assert not reply.json["stats"]["comfy_execution"]["nodes"]["1"]["cached"]
        assert reply.json["prompt"]["1"]["inputs"] == given


@pytest.mark.parametrize("kind", ["output", "temp"])
def test_a_video_comes_from_whatever_folder_and_nothing_stays_there(
    comfy: ComfyServer, kind: str
) -> None:
    reply = comfy.prompt(video(kind), id="v")
    assert reply.json["filenames"] == ["a/v_video_00001.gif"]


@pytest.mark.parametrize("kind", ["output", "temp", "input"])
def test_what_a_video_that_fails_has_written_goes(comfy: ComfyServer, kind: str) -> None:
    assert comfy.prompt(video(kind, then_fails=True)).json["code"] == "execution_error"


def test_a_change_that_is_no_json_costs_no_picture(comfy: ComfyServer) -> None:
    graph = saved(1)
    graph["2"] = node("TestChangesOddly", image=["1", 0])
    graph["9"]["inputs"]["images"] = ["2", 0]
    reply = comfy.prompt(graph)
    assert reply.status == 200, reply.body
    assert np.array_equal(pixels(reply.images[0]), pixels(comfy.prompt(saved(1)).images[0]))


def test_why_a_node_did_not_run_is_said_beside_what_the_others_gave(comfy: ComfyServer) -> None:
    graph = saved(1)
    graph["2"] = node("TestBlocks", image=["1", 0], message="no face found")
    graph["10"] = node("SaveImage", images=["2", 0], filename_prefix="face")
    for _ in range(2):
        reply = comfy.prompt(graph, id="b")
        assert reply.json["filenames"] == ["b_picture_00001_.png"]
        (text,) = reply.json["texts"]
        assert text == {"node_id": "10", "text": "Execution Blocked: no face found"}
    graph["2"]["inputs"]["message"] = ""
    assert comfy.prompt(graph).json["texts"] == []


@pytest.mark.parametrize("prefix", ["", "."])
def test_a_file_whose_linked_prefix_is_no_name_has_one(comfy: ComfyServer, prefix: str) -> None:
    graph = video("output", filename_prefix=["3", 0])
    graph["3"] = node("TestPrefix", text=prefix)
    (name,) = comfy.prompt(graph).json["filenames"]
    assert name.endswith("_00001.gif")


def test_a_prompt_of_the_page_cannot_pass_for_a_job_that_waits(comfy: ComfyServer) -> None:
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(comfy.prompt, waiting(1.0, str(uuid.uuid4())), id="first")
        until(lambda: comfy.get("/queue").json["queue_running"], "running")
        second = pool.submit(comfy.prompt, saved(2), id="second")
        until(lambda: comfy.get("/queue").json["queue_pending"], "pending")
        prompt_id = comfy.get("/queue").json["queue_pending"][0][1]
        preview = {"1": pattern(3), "9": node("PreviewAny", source="theirs")}
        posted = comfy.post("/prompt", {"prompt": preview, "prompt_id": prompt_id, "front": True})
        assert posted.json["prompt_id"] != prompt_id
        assert first.result().status == 200
        found = second.result()
    assert found.json["filenames"] == ["second_picture_00001_.png"]
    assert np.array_equal(pixels(found.images[0]), pixels(comfy.prompt(saved(2)).images[0]))
    until(lambda: posted.json["prompt_id"] in comfy.get("/history").json, "done")
    comfy.post("/history", {"clear": True})
