"""Other packs, ComfyUI's own page and its own API work as before beside us."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest

from tests.comfyui.graphs import node, pattern, pixels, saved
from tests.comfyui.server import ComfyServer, Install

PACKS = Path(__file__).parent / "neighbours"


@pytest.fixture(scope="module")
def beside(install: Install, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ComfyServer]:
    """A server with packs that wrap what we wrap, and one that changes the image savers."""
    packs = {path.name: path for path in PACKS.iterdir() if path.is_dir()}
    with ComfyServer(install, tmp_path_factory.mktemp("beside"), packs=packs) as server:
        server.wait_until_ready()
        yield server


def test_a_node_behind_a_saver_that_passes_on_is_cached(beside: ComfyServer) -> None:
    graph = {
        "1": pattern(1),
        "2": node("SaveImage", images=["1", 0], filename_prefix="first"),
        "3": node("ImageInvert", image=["2", 0]),
        "4": node("SaveImage", images=["3", 0], filename_prefix="second"),
        "5": node("ImageInvert", image=["4", 0]),
        "6": node("SaveImage", images=["5", 0], filename_prefix="third"),
    }
    beside.prompt(graph)
    reply = beside.prompt(graph, id="p")
    assert reply.status == 200, reply.body
    nodes = reply.json["stats"]["comfy_execution"]["nodes"]
    assert {n: nodes[n]["cached"] for n in nodes} == {
        "1": True, "3": True, "5": True, "2": False, "4": False, "6": False,
    }  # fmt: skip
    shown = reply.json["prompt"]
    assert shown["3"]["inputs"]["image"] == ["2", 0]
    assert shown["5"]["inputs"]["image"] == ["4", 0]
    first, second, _ = reply.images
    sums = pixels(first)[1:].astype(int) + pixels(second)[1:]
    assert sums.min() >= 254
    assert sums.max() <= 255


def test_a_saver_that_a_pack_put_in_place_saves_in_its_own_way(beside: ComfyServer) -> None:
    graph = {"1": pattern(2), "8": node("PreviewImage", images=["1", 0], filename_prefix="own")}
    for _ in range(2):
        (image,) = beside.prompt(graph).images
        reference = pixels(beside.prompt(saved(2)).images[0]).astype(int)
        assert np.abs(255 - reference - pixels(image))[1:].max() <= 1
    assert beside.files()["output"] == []


def test_packs_that_wrap_the_same_functions_hear_what_they_heard(beside: ComfyServer) -> None:
    def counts() -> dict[str, int]:
        return {**beside.get("/test-aaa").json, **beside.get("/test-zzz").json}

    before = counts()
    assert beside.prompt(saved(3)).status == 200
    beside.plain(saved(3))
    for file in (beside.base / "output").iterdir():
        file.unlink()
    after = counts()
    assert after["aaa prompts"] - before["aaa prompts"] == 2
    assert after["zzz prompts"] - before["zzz prompts"] == 2
    assert after["aaa events"] > before["aaa events"]


async def _heard(server: ComfyServer, seconds: float, client: str) -> list[dict[str, Any]]:
    heard: list[dict[str, Any]] = []
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{server.url}/ws?clientId={client}") as socket,
    ):
        while True:
            try:
                message = await socket.receive(timeout=seconds)
            except asyncio.TimeoutError:
                return heard
            if message.type is aiohttp.WSMsgType.TEXT:
                heard.append(json.loads(message.data))
            else:
                heard.append({"type": "binary"})


async def test_the_page_hears_of_its_own_prompts_and_not_of_ours(comfy: ComfyServer) -> None:
    listening = asyncio.create_task(_heard(comfy, 2.0, "tests"))
    await asyncio.sleep(0.3)
    with ThreadPoolExecutor(4) as pool:
        loop = asyncio.get_running_loop()
        ours = [loop.run_in_executor(pool, comfy.prompt, saved(n)) for n in range(4)]
        theirs = await loop.run_in_executor(pool, comfy.plain, saved(9))
        assert [(await reply).status for reply in ours] == [200] * 4
    heard = await listening
    mine = theirs["prompt"][1]
    about = {m["data"].get("prompt_id") for m in heard if "prompt_id" in m.get("data", {})}
    assert about == {mine}
    kinds = [m["type"] for m in heard]
    assert "execution_success" in kinds
    assert "binary" not in kinds
    assert kinds.count("status") >= 2
    last = [m for m in heard if m["type"] == "status"][-1]
    assert last["data"]["status"]["exec_info"]["queue_remaining"] == 0
    for file in (comfy.base / "output").iterdir():
        file.unlink()


def test_comfyuis_history_and_queue_hold_nothing_of_ours(comfy: ComfyServer) -> None:
    reply = comfy.prompt(saved(1), id="secret-project")
    assert reply.status == 200
    assert "secret-project" not in comfy.get("/history").body.decode()
    assert comfy.get("/queue").json == {"queue_running": [], "queue_pending": []}


def test_a_plain_prompt_is_run_as_before(comfy: ComfyServer) -> None:
    history = comfy.plain(saved(1, prefix="mine"))
    (entry,) = history["outputs"]["9"]["images"]
    assert entry["filename"].startswith("mine_")
    file = comfy.base / "output" / entry["filename"]
    assert b"stateless" not in file.read_bytes()
    file.unlink()
