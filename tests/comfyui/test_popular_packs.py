"""What the nodes of much-used packs do, and what a page does beside: each job has its own, whole."""

from __future__ import annotations

import base64
import json
import time
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


def test_what_a_node_saves_without_a_word_is_an_output_of_it(comfy: ComfyServer) -> None:
    graph = {
        **saved(1),
        "2": node("TestNotesDown", file="first.txt", text="one"),
        "3": node("TestNotesDown", file="of/the day/second.txt", text="two"),
        "4": node("TestNotesDown", file=".third.txt", text="three"),
    }
    for _ in range(2):
        reply = comfy.prompt(graph, id="n")
        found = {output["filename"]: output["node_id"] for output in reply.json["outputs"]}
        assert found.pop("n_picture_00001_.png") == "9"
        assert found.pop("n_first.txt") == "2"
        assert list(found) == ["of/the day/n_second.txt"]
        assert sorted(reply.images)[0] == b"one"
        (comfy.base / "output" / ".third.txt").unlink()


@pytest.mark.parametrize("place", ["", "of/the day"])
@pytest.mark.parametrize("reports", [True, False])
@pytest.mark.parametrize(
    ("saver", "folder"),
    [("TestSavesInPlace", "output_path"), ("TestSavesInSubdirectory", "subdirectory_name")],
)
def test_a_saver_that_takes_folder_and_name_apart_gives_its_picture(
    comfy: ComfyServer, place: str, reports: bool, saver: str, folder: str
) -> None:
    given = {folder: place, "filename_prefix": "placed", "reports": reports}
    graph = {"1": pattern(1), "2": node(saver, images=["1", 0], **given)}
    reply = comfy.prompt(graph, id="s")
    assert reply.json["filenames"] == [f"{place}/s_placed_0.png".lstrip("/")]
    (comfy.base / "temp" / "preview_s_placed_0.png").unlink(missing_ok=True)
    reference = pixels(comfy.prompt(saved(1)).images[0])
    assert np.array_equal(pixels(reply.images[0])[1:], reference[1:])


def test_pictures_that_a_node_sends_to_its_client_are_its_outputs(comfy: ComfyServer) -> None:
    graph = {
        "1": pattern(1, batch=3),
        "2": node("TestSendsPictures", images=["1", 0], says_so=True),
        "3": node("TestSendsPictures", images=["1", 0], says_so=False),
    }
    reply = comfy.prompt(graph, id="w")
    assert reply.json["filenames"] == [f"w_ComfyUI_0000{n}_.png" for n in (1, 2, 3)]
    assert {output["node_id"] for output in reply.json["outputs"]} == {"2"}
    reference = comfy.prompt(saved(1, batch=3)).images
    for image, saved_one in zip(reply.images, reference, strict=True):
        assert np.array_equal(pixels(image)[1:], pixels(saved_one)[1:])


def test_pictures_of_nodes_that_send_at_the_same_time_are_not_mixed(comfy: ComfyServer) -> None:
    graph: dict[str, Any] = {}
    for n in range(3):
        graph[f"{n}"] = pattern(n, batch=3)
        graph[f"1{n}"] = node("TestSendsInTurns", images=[f"{n}", 0], says_so=True)
    reply = comfy.prompt(graph, id="w")
    senders = [output["node_id"] for output in reply.json["outputs"]]
    assert senders == ["10"] * 3 + ["11"] * 3 + ["12"] * 3
    references = [image for n in range(3) for image in comfy.prompt(saved(n, batch=3)).images]
    for image, saved_one in zip(reply.images, references, strict=True):
        assert np.array_equal(pixels(image)[1:], pixels(saved_one)[1:])


def test_a_node_that_decodes_base64_itself_gets_it_as_it_came(comfy: ComfyServer) -> None:
    (image,) = comfy.prompt(saved(1)).images
    graph = saved(1)
    graph["1"] = node("TestLoadsBase64", image=base64.b64encode(image).decode())
    reply = comfy.prompt(graph)
    assert reply.status == 200, reply.body
    assert np.array_equal(pixels(reply.images[0]), pixels(image))


def test_an_option_that_is_no_file_is_no_file_that_is_missing(comfy: ComfyServer) -> None:
    reply = comfy.prompt({"1": node("TestLoadsFileOrData", image="#data", data="d")})
    assert [text["text"] for text in reply.json["texts"]] == ["#data", "d"]
    reply = comfy.prompt({"1": node("TestLoadsFileOrData", image="missing.png", data="d")})
    assert (reply.status, reply.json["code"]) == (400, "invalid_input")


def in_parts(seed: int, **inputs: Any) -> dict[str, Any]:
    given = {"filename_prefix": "parts", "parts": 3, "seconds": 0.0, "fails": False, **inputs}
    return {"1": pattern(seed), "2": node("TestWorksInParts", images=["1", 0], **given)}


def test_a_prompt_that_a_node_puts_into_the_queue_again_is_one_job(comfy: ComfyServer) -> None:
    known = comfy.get("/history").json.keys()
    with ThreadPoolExecutor(3) as pool:
        asked = range(6)
        replies = list(pool.map(lambda n: comfy.prompt(in_parts(n), id=f"p{n}"), asked))
    for number, reply in enumerate(replies):
        assert reply.json["filenames"] == [f"p{number}_parts_3.png"]
        assert reply.json["texts"] == [{"node_id": "2", "text": "3"}]
        reference = pixels(comfy.prompt(saved(number)).images[0])
        assert np.array_equal(pixels(reply.images[0])[1:], reference[1:])
    assert comfy.get("/queue").json == {"queue_running": [], "queue_pending": []}
    assert comfy.get("/history").json.keys() == known


def test_a_job_in_parts_ends_with_the_part_that_fails(comfy: ComfyServer) -> None:
    reply = comfy.prompt(in_parts(1, fails=True))
    assert reply.json["code"] == "execution_error"
    assert comfy.prompt(saved(1)).status == 200
    assert comfy.get("/queue").json == {"queue_running": [], "queue_pending": []}


def test_a_job_in_parts_can_be_stopped_and_no_part_is_left(comfy: ComfyServer) -> None:
    with ThreadPoolExecutor(1) as pool:
        stopped = pool.submit(comfy.prompt, in_parts(1, parts=1000, seconds=0.1), id="many")
        until(lambda: comfy.get("/queue").json["queue_running"], "running")
        time.sleep(0.5)
        assert comfy.post("/api/stateless/interrupt", {"id": "many"}).status == 200
        assert stopped.result().json["code"] == "interrupted"
    until(lambda: not any(comfy.get("/queue").json.values()), "empty")
    assert comfy.prompt(saved(1)).status == 200


def test_a_text_in_place_of_a_list_is_one_text(comfy: ComfyServer) -> None:
    graph = {"1": node("TestShowsText", text="64 by 48")}
    reply = comfy.prompt(graph)
    assert [text["text"] for text in reply.json["texts"]] == ["64 by 48", "a", "b"]
    assert comfy.plain(graph)["outputs"]["1"]["text"] == list("64 by 48")
    comfy.post("/history", {"clear": True})


def test_numbers_that_are_shown_as_texts_are_texts(comfy: ComfyServer) -> None:
    reply = comfy.prompt({"1": node("TestShowsNumbers")})
    assert [text["text"] for text in reply.json["texts"]] == ["3", "0.5", "True", "named"]


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


@pytest.mark.parametrize("file", ["handed.txt", "hand/over.txt"])
def test_a_file_that_a_node_hands_to_others_is_there_in_each_job(
    comfy: ComfyServer, file: str
) -> None:
    for number in range(3):
        graph = {
            "1": node("TestWritesForOthers", file=file, text=f"of {file}"),
            "2": node("TestReadsPath", path=["1", 0], number=number),
        }
        reply = comfy.prompt(graph)
        assert reply.status == 200, reply.body
        assert [text["text"] for text in reply.json["texts"]] == [f"of {file}"]
        assert reply.json["filenames"] == []


def test_a_saver_that_does_not_heed_its_prefix_gives_what_it_saves(comfy: ComfyServer) -> None:
    graph = {"1": pattern(1), "2": node("TestSavesAtTop", images=["1", 0], filename_prefix="p")}
    for _ in range(2):
        assert comfy.prompt(graph, id="t").json["filenames"] == ["t_top.png"]


@pytest.mark.parametrize("class_type", ["TestChecksInPlace", "TestChecksLater"])
def test_a_check_that_has_to_be_on_the_servers_thread_is_made_there(
    comfy: ComfyServer, class_type: str
) -> None:
    for number in range(3):
        graph = {
            **video("output"),
            "2": node(class_type, image=["1", 0], number=number),
            "9": node("SaveImage", images=["2", 0], filename_prefix="x"),
        }
        graph["1"] = pattern(number)
        reply = comfy.prompt(graph)
        assert reply.status == 200, reply.body


@pytest.mark.parametrize("how", ["text", "repr", "json"])
@pytest.mark.parametrize("fails", [True, False])
def test_a_secret_inside_extra_data_is_told_by_no_node(
    comfy: ComfyServer, how: str, fails: bool
) -> None:
    if comfy.install.version == "0.3.52":
        pytest.skip("its nodes do not see it")
    secret = f"{uuid.uuid4()}\n'\"\\ü"
    extra = {"pack": {"name": "the service", "keys": [{"api_key": [secret]}]}}
    reply = comfy.prompt({"1": node("TestTellsSecret", how=how, fails=fails)}, extra_data=extra)
    assert reply.status == (500 if fails else 200)
    told = reply.body.decode()
    assert secret[:36] not in told
    assert "the service knows" in told
    assert secret[:36] not in comfy.log


def test_a_database_that_a_pack_keeps_open_is_no_output_and_stays(comfy: ComfyServer) -> None:
    for count in (1, 2, 3):
        reply = comfy.prompt({"1": node("TestKeepsDatabase", closes=count == 3)})
        assert reply.status == 200, reply.body
        assert [text["text"] for text in reply.json["texts"]] == [str(count)]
        assert reply.json["filenames"] == []
    (comfy.base / "output" / "of a pack.db").unlink()


def test_what_the_page_saves_for_its_user_costs_a_job_no_output(comfy: ComfyServer) -> None:
    graph = {
        **waiting(1, str(uuid.uuid4())),
        "3": node("TestNotesDown", file="said.txt", text="all"),
    }
    with ThreadPoolExecutor(1) as pool:
        reply = pool.submit(comfy.prompt, graph, id="u")
        until(lambda: len(comfy.get("/queue").json["queue_running"]) == 1, "running")
        assert comfy.post("/api/settings/Comfy.Test", True).status == 200
        assert "u_said.txt" in reply.result().json["filenames"]


def test_a_node_that_shows_a_preview_of_what_it_passes_on_is_cached(comfy: ComfyServer) -> None:
    graph = {**saved(1), "2": node("TestShowsPreview", image=["1", 0])}
    graph["9"]["inputs"]["images"] = ["2", 0]
    for is_cached in (False, True, True):
        reply = comfy.prompt(graph)
        assert reply.status == 200, reply.body
        assert reply.json["stats"]["comfy_execution"]["nodes"]["2"]["cached"] is is_cached
