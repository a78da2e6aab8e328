"""What an observer of a run hears of it, on the engine itself: in its caller's terms, all of it."""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from PIL import Image

from tests.comfyui.graphs import Graph, node, pattern, pixels, saved, waiting
from tests.comfyui.server import ComfyServer

SECRET = "comfyui-key-of-a-watched-run"
CALLER = "caller's own/id ✓"


@pytest.fixture(autouse=True)
def _nothing_is_left(comfy: ComfyServer) -> Iterator[None]:
    before = comfy.files()
    yield
    deadline = time.monotonic() + 5
    while comfy.files() != before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert comfy.files() == before


@dataclass(frozen=True)
class Heard:
    """What the test's route tells of a run."""

    said: dict[str, Any]

    def of(self, *kinds: str) -> list[dict[str, Any]]:
        return [heard for heard in self.said["heard"] if heard["kind"] in kinds]

    def events(self, name: str) -> list[dict[str, Any]]:
        return [heard["data"] for heard in self.of("event") if heard["name"] == name]

    @property
    def names(self) -> list[str]:
        return [heard["name"] for heard in self.of("event")]


def watched(server: ComfyServer, graph: Graph, **fields: Any) -> Heard:
    reply = server.post("/test-host/watch", {"graph": graph, "id": CALLER, **fields})
    assert reply.status == 200, reply.body
    return Heard(reply.json)


def stepping(seconds: float = 0.02, steps: int = 3, nonce: str = "") -> dict[str, Any]:
    return node("TestSteps", image=["1", 0], steps=steps, seconds=seconds, nonce=nonce)


def busy(nonce: str) -> Graph:
    """A graph with all that we put nodes, classes, names or inputs of ours in place of."""
    return {
        "1": pattern(1),
        "2": stepping(nonce=nonce),
        "3": node("TestPrefix", text="linked/name"),
        "4": node("TestNotes", text="noted", filename_prefix=["3", 0]),
        "5": node("SaveImage", images=["2", 0], filename_prefix="pictures/one"),
        "6": node("TestExpands", image=["2", 0], prefix="inner"),
        "7": node("PreviewImage", images=["6", 0]),
        "8": node("TestNotes", text="noted too", filename_prefix="plain"),
    }


def values_of(key: str, value: Any) -> Iterator[Any]:
    """Yield all values of a key, however deep."""
    if isinstance(value, dict):
        yield from (found for name, found in value.items() if name == key)
    if isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from values_of(key, item)


def node_ids(value: Any) -> set[Any]:
    keys = ("node", "display_node", "node_id", "display_node_id", "real_node_id")
    found = {each for key in keys for each in values_of(key, value)}
    for listed in (*values_of("executed", value), *values_of("nodes", value)):
        found.update(listed)
    return found - {None}


def test_events_are_in_the_callers_own_terms(comfy: ComfyServer) -> None:
    graph = busy("terms")
    heard = watched(comfy, graph)
    told = heard.of("event")
    assert set(values_of("prompt_id", told)) == {CALLER}
    assert all("prompt_id" in event["data"] for event in told)
    assert node_ids(told) == set(graph)
    text = json.dumps(heard.said["heard"])
    assert heard.said["run_id"] not in text
    assert "tateless" not in text


def test_events_come_in_the_order_of_the_run(comfy: ComfyServer) -> None:
    heard = watched(comfy, busy("order"))
    assert [h["kind"] for h in heard.said["heard"]][:2] == ["started", "event"]
    assert heard.names[:2] == ["execution_start", "execution_cached"]
    assert heard.events("executing")[-1] == {"node": None, "prompt_id": CALLER}
    assert heard.names[-2:] == ["execution_success", "executing"]
    assert [p["value"] for p in heard.events("progress")] == [1, 2, 3]
    entered = [e["node"] for e in heard.events("executing")][:-1]
    (cached,) = heard.events("execution_cached")
    assert sorted([*entered, *cached["nodes"]]) == sorted(busy(""))
    states = [s["nodes"]["2"]["value"] for s in heard.events("progress_state") if "2" in s["nodes"]]
    assert states == sorted(states)
    assert states[-1] == 3


def test_a_second_run_hears_what_comfyui_has_kept(comfy: ComfyServer) -> None:
    for seen in (False, True):
        heard = watched(comfy, {"1": pattern(77), "2": stepping(nonce="kept"), **_saver("2")})
        (cached,) = heard.events("execution_cached")
        assert (set(cached["nodes"]) == {"1", "2"}) is seen
        assert {n: t["cached"] for n, t in heard.said["nodes"].items()}["1"] is seen
        assert [image["node_id"] for image in heard.of("image")] == ["9"]


def _saver(source: str) -> Graph:
    return {"9": node("SaveImage", images=[source, 0], filename_prefix="picture")}


def test_an_image_is_announced_as_if_it_had_been_saved(comfy: ComfyServer) -> None:
    graph = saved(3, prefix="deep/er/picture", batch=2)
    heard = watched(comfy, graph)
    names = ["deep/er/picture_00001_.png", "deep/er/picture_00002_.png"]
    assert [(i["node_id"], i["filename"]) for i in heard.of("image")] == [("9", n) for n in names]
    (executed,) = heard.events("executed")
    entries = [
        {"filename": name.rpartition("/")[2], "subfolder": "deep/er", "type": "output"}
        for name in names
    ]
    assert executed == {
        "node": "9", "display_node": "9", "output": {"images": entries}, "prompt_id": CALLER,
    }  # fmt: skip


def test_a_file_of_another_saver_is_announced_under_its_own_name(comfy: ComfyServer) -> None:
    heard = watched(comfy, busy("files"))
    outputs = {e["node"]: e["output"] for e in heard.events("executed")}
    assert outputs["4"]["files"] == [
        {"filename": "name_00001_.txt", "subfolder": "linked", "type": "output"}
    ]
    assert outputs["8"]["files"] == [
        {"filename": "plain_00001_.txt", "subfolder": "", "type": "output"}
    ]


def test_a_file_is_given_once_and_as_soon_as_its_node_is_done(comfy: ComfyServer) -> None:
    graph = {
        "1": node("TestNotes", text="early", filename_prefix="early"),
        **{k: v for k, v in waiting(0.4, "early file").items() if k != "1"},
        "3": node("EmptyImage", width=8, height=8, batch_size=1, color=255),
    }
    graph["2"]["inputs"]["image"] = ["3", 0]
    heard = watched(comfy, graph)
    (file,) = heard.of("file")
    (success,) = [h for h in heard.of("event") if h["name"] == "execution_success"]
    assert (file["node_id"], file["filename"], file["content"]) == (
        "1", "early_00001_.txt", "early",
    )  # fmt: skip
    assert success["at"] - file["at"] > 0.3
    assert heard.said["files"] == []


def test_a_file_that_a_later_node_changes_is_given_at_the_end(comfy: ComfyServer) -> None:
    graph = {
        "1": node("TestNotes", text="first", filename_prefix="changed"),
        "2": node("TestAppends", path=["1", 0], text=" and last"),
    }
    heard = watched(comfy, graph)
    assert heard.of("file") == []
    (file,) = heard.said["files"]
    assert (file["node_id"], file["content"]) == ("1", "first and last")


def test_a_file_among_comfyuis_own_is_given_at_the_end_and_once(comfy: ComfyServer) -> None:
    graph = {
        "1": node("TestWritesFile", text="out", name="report.csv", folder="output"),
        "2": node("TestWritesFile", text="temporary", name="report.csv", folder="temp"),
        "3": node("TestSavesSilently", text="quiet", filename_prefix="models/silent"),
    }
    heard = watched(comfy, graph)
    assert heard.of("file") == []
    assert [(f["node_id"], f["content"], f["temp"]) for f in heard.said["files"]] == [
        ("1", "out", False), ("2", "temporary", True), ("3", "quiet", False),
    ]  # fmt: skip


def test_a_failed_node_is_told_of_without_the_callers_secrets(comfy: ComfyServer) -> None:
    graph = {"1": pattern(4), "3": node("TestTellsSecrets", after=["1", 0])}
    heard = watched(comfy, graph, extra_data={"api_key_comfy_org": SECRET})
    (failed,) = heard.events("execution_error")
    assert failed["prompt_id"] == CALLER
    assert (failed["node_id"], failed["node_type"]) == ("3", "TestTellsSecrets")
    assert failed["exception_message"].strip() == "401 for key ***"
    assert SECRET not in json.dumps(heard.said)
    assert heard.said["error"]["type"] == "ExecutionError"


def test_a_saver_that_fails_is_told_of_under_the_callers_class(comfy: ComfyServer) -> None:
    heard = watched(comfy, {"1": pattern(4, channels=7), **_saver("1")})
    (failed,) = heard.events("execution_error")
    assert (failed["node_id"], failed["node_type"]) == ("9", "SaveImage")
    assert failed["executed"] == ["1"]


def test_no_picture_is_made_for_an_observer_that_wants_none(comfy: ComfyServer) -> None:
    heard = watched(comfy, {"1": pattern(5), "2": stepping(nonce="none"), **_saver("2")})
    assert len(heard.events("progress")) == 3
    assert heard.events("preview") == []


def test_pictures_are_jpegs_of_the_node_that_works(comfy: ComfyServer) -> None:
    graph = {
        "1": pattern(5),
        "2": stepping(0.1, nonce="shown"),
        "3": node("TestSteps", image=["2", 0], steps=2, seconds=0.1, nonce="shown"),
        **_saver("3"),
    }
    heard = watched(comfy, graph, wanted=["preview"])
    assert set(heard.names) == {"preview"}
    shown = heard.events("preview")
    assert {picture["node"] for picture in shown} == {"2", "3"}
    reds = []
    for picture in shown:
        assert picture["media_type"] == "image/jpeg"
        jpeg = base64.b64decode(picture["image"])
        with Image.open(io.BytesIO(jpeg)) as image:
            assert (image.format, image.size) == ("JPEG", (64, 32))
        if picture["node"] == "2":
            reds.append(int(pixels(jpeg)[0, 0, 0]))
    assert reds == sorted(reds)
    assert reds[-1] == pytest.approx(170, abs=3)


@pytest.mark.parametrize("kind", ["started", "event", "file"])
def test_an_observer_that_raises_harms_neither_the_run_nor_others(
    comfy: ComfyServer, kind: str
) -> None:
    before = comfy.log.count("could not be passed on")
    heard = watched(comfy, busy(f"raises {kind}"), raises=[kind])
    assert "error" not in heard.said
    assert len(heard.of(kind)) > (0 if kind != "event" else 10)
    assert {f["node_id"] for f in (*heard.said["files"], *heard.of("file"))} == {"4", "6", "8"}
    assert comfy.log.count("could not be passed on") > before
    assert "error" not in watched(comfy, busy(f"after {kind}")).said
    assert comfy.prompt(saved(1)).status == 200


def test_nothing_of_a_run_stays_in_comfyuis_server(comfy: ComfyServer) -> None:
    for graph in (busy("stays"), {"1": pattern(4), "3": node("TestTellsSecrets", after=["1", 0])}):
        assert watched(comfy, graph, wanted=["preview"]).said["sockets"] == []
    assert not any(CALLER in str(entry) for entry in comfy.get("/history").json.values())


def test_the_queues_length_is_told_on_the_loop(comfy: ComfyServer) -> None:
    _ = watched(comfy, saved(8))
    deadline = time.monotonic() + 5
    remaining: list[int] = []
    while not remaining or remaining[-1] != 0:
        assert time.monotonic() < deadline
        said = watched(comfy, saved(8)).said
        assert {status["thread"] for status in said["statuses"]} <= {said["loop_thread"]}
        remaining = [s["data"]["status"]["exec_info"]["queue_remaining"] for s in said["statuses"]]


async def test_another_client_sees_its_own_events_and_none_of_ours(comfy: ComfyServer) -> None:
    async with (
        aiohttp.ClientSession(comfy.url) as session,
        session.ws_connect("/ws?clientId=neighbour") as socket,
    ):
        body = {"graph": busy("neighbour"), "id": CALLER, "wanted": ["preview", "progress"]}
        async with session.post("/test-host/watch", json=body) as reply:
            heard = Heard(await reply.json())
        graph = {"1": pattern(6), "2": stepping(nonce="theirs"), **_saver("2")}
        body = {"prompt": graph, "client_id": "neighbour"}
        async with session.post("/prompt", json=body) as reply:
            prompt_id = (await reply.json())["prompt_id"]
        seen, pictures = await _until_done(socket, prompt_id)
    assert heard.events("progress")
    assert heard.events("preview")
    told = [event for event in seen if event["type"] != "status"]
    ids = {event["data"]["prompt_id"] for event in told if "prompt_id" in event["data"]}
    assert ids == {prompt_id}
    theirs = {"executing", "progress", "progress_state", "executed", "execution_success"}
    assert theirs <= {event["type"] for event in told}
    assert pictures == 3
    for file in (comfy.base / "output").glob("picture_*"):
        file.unlink()


async def _until_done(socket: Any, prompt_id: str) -> tuple[list[dict[str, Any]], int]:
    """Return what a client of ComfyUI's hears until its prompt is done: events, and pictures."""
    events: list[dict[str, Any]] = []
    pictures = 0
    while True:
        message = await socket.receive(timeout=20)
        if message.type is aiohttp.WSMsgType.BINARY:
            pictures += 1
            continue
        events.append(json.loads(message.data))
        data = events[-1]["data"]
        if events[-1]["type"] == "executing" and data["node"] is None:
            assert data["prompt_id"] == prompt_id
            return events, pictures
