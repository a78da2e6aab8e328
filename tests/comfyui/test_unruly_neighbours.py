"""Packs that put things of their own in ComfyUI's place, loaded before ours and after it."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from tests.comfyui.graphs import counted, node, pattern, pixels, saved, text_chunks
from tests.comfyui.server import ComfyServer, Install
from tests.comfyui.test_fetching import loading, png
from tests.launcher.running import until

PACKS = Path(__file__).parent / "unruly"
ORDER = Path(__file__).parent / "rough" / "aaa_order"


@pytest.fixture(scope="module", params=["before", "after"])
def beside(
    request: pytest.FixtureRequest, install: Install, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ComfyServer]:
    base = tmp_path_factory.mktemp(f"unruly-{request.param}")
    (base / "output" / "2026-11-25").mkdir(parents=True)  # a pack's, and so not tidied away
    packs = {path.name: path for path in [ORDER, *PACKS.iterdir()] if path.is_dir()}
    with ComfyServer(install, base, {"TEST_LOAD_ORDER": request.param}, packs=packs) as server:
        server.wait_until_ready()
        yield server


@pytest.fixture
def server(beside: ComfyServer) -> Iterator[ComfyServer]:
    """The server; tests leave no file behind in it, and no prompt."""
    before = beside.files()
    yield beside
    until(lambda: beside.files() == before, "tidy")
    assert beside.get("/queue").json == {"queue_running": [], "queue_pending": []}
    assert beside.get("/history").json == {}


def own_pixels(server: ComfyServer, seed: int) -> npt.NDArray[np.int_]:
    """Return a picture as a saver gives it that no pack has changed."""
    graph = {"1": pattern(seed), "9": node("SaveImageWebsocket", images=["1", 0])}
    return pixels(server.prompt(graph).images[0]).astype(int)


def test_a_saver_under_comfyuis_name_is_asked(server: ComfyServer) -> None:
    reply = server.prompt(saved(1), id="p")
    assert reply.status == 200, reply.body
    assert reply.json["filenames"] == ["p_picture_00001_.png"]
    difference = 255 - own_pixels(server, 1) - pixels(reply.images[0])
    assert np.abs(difference[1:]).max() <= 1
    assert "9" in reply.json["stats"]["comfy_execution"]["nodes"]


def test_a_loader_under_comfyuis_name_is_asked_in_its_node(server: ComfyServer) -> None:
    before = len(server.get("/test-loads").json)
    content = png(secrets.randbits(30))
    reply = server.prompt(loading(base64.b64encode(content).decode()))
    assert reply.status == 200, reply.body
    difference = 255 - pixels(reply.images[0]).astype(int) - pixels(content)
    assert np.abs(difference).max() <= 1
    assert server.get("/test-loads").json[before:] == ["1"]


def test_each_job_runs_once_although_a_queue_holds_it_back(
    server: ComfyServer, tmp_path: Path
) -> None:
    before = server.get("/test-runs").json
    runs = tmp_path / "runs"
    with ThreadPoolExecutor(3) as pool:
        replies = list(pool.map(lambda n: server.prompt(counted(runs, str(n))), range(3)))
    assert [reply.status for reply in replies] == [200] * 3
    assert sorted(runs.read_text().split()) == ["0", "1", "2"]
    assert server.get("/test-runs").json == before + 3


def test_a_job_that_is_stopped_while_a_queue_holds_it_back_does_not_run(
    server: ComfyServer, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    with ThreadPoolExecutor(1) as pool:
        reply = pool.submit(server.prompt, counted(runs, "x"), id="held")
        until(lambda: server.post("/api/stateless/interrupt", {"id": "held"}).status == 200, "held")
        assert reply.result().json["code"] == "interrupted"
    assert server.prompt(saved(2)).status == 200
    assert not runs.exists()


def test_events_are_told_whoever_sends_them(server: ComfyServer) -> None:
    reply = server.prompt(saved(secrets.randbits(30)), accept="text/event-stream")
    told = [line[7:] for line in reply.body.decode().splitlines() if line.startswith("event: ")]
    assert {"started", "node", "succeeded"} <= set(told)


def test_a_prefix_over_a_link_is_kept(server: ComfyServer) -> None:
    graph = {
        "0": node("TestPrefix", text="linked"),
        "1": pattern(3),
        "9": node("SaveImage", images=["1", 0], filename_prefix=["0", 0]),
    }
    reply = server.prompt(graph)
    assert reply.status == 200, reply.body
    assert reply.json["filenames"][0].endswith("linked_00001_.png")


def test_model_folders_are_listed_although_one_is_broken(server: ComfyServer) -> None:
    reply = server.get("/api/stateless/models")
    assert reply.status == 200, reply.body
    assert "loras" in reply.json


def test_our_routes_are_ours_and_the_pack_has_the_rest(server: ComfyServer) -> None:
    reply = server.get("/api/stateless/nowhere")
    assert (reply.status, reply.json["code"]) == (404, "not_found")
    assert server.get("/api/nowhere").json == {"nobody has": "/api/nowhere"}


def test_a_plain_prompt_is_run_as_before(server: ComfyServer) -> None:
    workflow = {"extra_pnginfo": {"workflow": {"id": "theirs"}}}
    (entry,) = server.plain(saved(4, prefix="mine"), workflow)["outputs"]["9"]["images"]
    folder = server.base / "output" / entry["subfolder"]
    content = (folder / entry["filename"]).read_bytes()
    assert json.dumps(entry).count("stateless") == 0
    assert np.abs(255 - own_pixels(server, 4) - pixels(content))[1:].max() <= 1
    assert folder.name == "2026-11-25"
    (folder / entry["filename"]).unlink()
    server.post("/history", {"clear": True})


NAMES = """
import folder_paths
from PIL.PngImagePlugin import PngInfo

find, add = folder_paths.get_save_image_path, PngInfo.add_text


def named(*args):
    folder, name, *rest = find(*args)
    return (folder, f"{name}-named", *rest)


def without_graph(self, key, *args):
    if key != "prompt":
        add(self, key, *args)


NODE_CLASS_MAPPINGS = {}
"""


@pytest.mark.parametrize(
    ("patch", "name", "texts"),
    [
        ("folder_paths.get_save_image_path = named", "p_picture-named_00001_.png", ["a", "prompt"]),
        ("PngInfo.add_text = without_graph", "p_picture_00001_.png", ["a"]),
    ],
)
def test_what_a_pack_has_comfyuis_savers_name_and_describe_files_with_is_asked(
    install: Install, tmp_path: Path, patch: str, name: str, texts: list[str]
) -> None:
    (tmp_path / "names").mkdir()
    (tmp_path / "names" / "__init__.py").write_text(NAMES + patch)
    packs = {"names": tmp_path / "names"}
    with ComfyServer(install, tmp_path / "base", packs=packs) as server:
        server.wait_until_ready()
        reply = server.prompt(saved(1), id="p", extra_data={"extra_pnginfo": {"a": 1}})
        assert reply.json["filenames"] == [name]
        assert sorted(text_chunks(reply.images[0])) == texts


ADDS = """
import execution

execute = execution.PromptExecutor.execute


def adding(self, prompt, *args, **kwargs):
    size = {"width": 8, "height": 8, "batch_size": 1, "color": 0}
    more = {"class_type": "EmptyImage", "inputs": size}
    return execute(self, {**prompt, "of a pack": more}, *args, **kwargs)


execution.PromptExecutor.execute = adding
NODE_CLASS_MAPPINGS = {}
"""


def test_a_pack_that_adds_nodes_to_what_is_executed_embeds_nothing_of_ours(
    install: Install, tmp_path: Path
) -> None:
    (tmp_path / "adds").mkdir()
    (tmp_path / "adds" / "__init__.py").write_text(ADDS)
    packs = {"adds": tmp_path / "adds"}
    with ComfyServer(install, tmp_path / "base", packs=packs) as server:
        server.wait_until_ready()
        graph = {**saved(1), "0": node("TestPrefix", text="linked")}
        graph["9"]["inputs"]["filename_prefix"] = ["0", 0]
        graph["2"] = node(
            "TestCombinesVideo",
            images=["1", 0],
            filename_prefix=["0", 0],
            kind="output",
            then_fails=False,
        )
        (image,) = [i for i in server.prompt(graph, id="p").images if i.startswith(b"\x89PNG")]
        embedded = text_chunks(image)["prompt"]
        assert "stateless" not in embedded.lower()
        assert json.loads(embedded).keys() == {*graph, "of a pack"}
