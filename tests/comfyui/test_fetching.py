"""Inputs from anywhere: fetched, decoded or sent along, they are there when the graph runs."""

from __future__ import annotations

import base64
import hashlib
import http.client
import io
import json
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.cache.origin import Origin, serving
from tests.comfyui.graphs import Graph, node, pixels
from tests.comfyui.server import ComfyServer, Install, Reply

AT_ONCE = 50


def png(seed: int, width: int = 16, height: int = 12) -> bytes:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "PNG")
    return buffer.getvalue()


def weights(seed: int, size: int = 1000) -> bytes:
    """A safetensors file of one tensor."""
    tensor = {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}
    head = json.dumps({"noise": tensor}).encode()
    return len(head).to_bytes(8, "little") + head + random.Random(seed).randbytes(size)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def loading(value: str, class_type: str = "LoadImage") -> Graph:
    extra = {"channel": "red"} if class_type == "LoadImageMask" else {}
    graph = {"1": node(class_type, image=value, **extra)}
    if class_type == "LoadImageMask":
        graph["2"] = node("MaskToImage", mask=["1", 0])
    source = ["1" if class_type == "LoadImage" else "2", 0]
    return {**graph, "9": node("SaveImage", images=source, filename_prefix="loaded")}


def reading(value: str, class_type: str = "TestReadsCheckpoint") -> Graph:
    return {"1": node(class_type, name=value)}


def only_text(reply: Reply) -> str:
    assert reply.status == 200, reply.body
    ((text,),) = [[each["text"] for each in reply.json["texts"]]]
    return str(text)


def is_same(reply: Reply, content: bytes) -> bool:
    assert reply.status == 200, reply.body
    (image,) = reply.images
    return bool(np.array_equal(pixels(image), pixels(content)))


def is_cached(reply: Reply, node_id: str = "1") -> bool:
    assert reply.status == 200, reply.body
    return bool(reply.json["stats"]["comfy_execution"]["nodes"][node_id]["cached"])


def lying(server: ComfyServer) -> dict[str, list[str]]:
    return {name: found for name, found in server.files().items() if name != "models"}


def until(condition: Callable[[], object], seconds: float = 10) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.02)


@pytest.fixture(autouse=True)
def _nothing_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    name = next((n for n in ("comfy", "evicting") if n in request.fixturenames), None)
    if name is None:
        yield
        return
    server: ComfyServer = request.getfixturevalue(name)
    before = lying(server)
    yield
    until(lambda: lying(server) == before)


@pytest.fixture
def path() -> str:
    """A path at the origin that no other test has."""
    return f"/{uuid.uuid4().hex}"


# Images


def test_an_image_by_url_is_fetched_once_and_kept_by_comfyui(
    comfy: ComfyServer, origin: Origin, path: str
) -> None:
    content = png(1)
    url = origin.put(f"{path}/cat.png?size=large", content)
    first, second = (comfy.prompt(loading(url)) for _ in range(2))
    assert is_same(first, content)
    assert is_same(second, content)
    assert not is_cached(first)
    assert is_cached(second)
    assert [seen.method for seen in origin.seen if seen.path.startswith(path)] == ["GET"]
    name = first.json["prompt"]["1"]["inputs"]["image"]
    assert sha256(content)[:32] in name
    assert second.json["prompt"]["1"]["inputs"]["image"] == name


WAYS: dict[str, Callable[[bytes], str]] = {
    "data URL": lambda content: f"data:image/png;base64,{base64.b64encode(content).decode()}",
    "base64": lambda content: base64.b64encode(content).decode(),
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_an_image_in_the_request_is_decoded_and_kept_by_comfyui(
    comfy: ComfyServer, way: Callable[[bytes], str]
) -> None:
    content = png(2 + len(way(b"")))
    first, second = (comfy.prompt(loading(way(content))) for _ in range(2))
    assert is_same(first, content)
    assert is_same(second, content)
    assert (is_cached(first), is_cached(second)) == (False, True)


def test_an_image_that_is_sent_along_is_kept_by_comfyui(comfy: ComfyServer) -> None:
    content, mask = png(4), png(5)
    graph = loading("upload://cat")
    masked = loading("upload://mask", "LoadImageMask")
    graph |= {"3": masked["1"], "4": {**masked["2"], "inputs": {"mask": ["3", 0]}}}
    graph["5"] = node("SaveImage", images=["4", 0], filename_prefix="mask")
    first, second = (
        comfy.post_form({"prompt": graph}, cat=content, mask=mask, unused=b"x") for _ in range(2)
    )
    assert first.status == 200, first.body
    found = {
        o["node_id"]: image for o, image in zip(first.json["outputs"], first.images, strict=True)
    }
    assert np.array_equal(pixels(found["9"]), pixels(content))
    assert np.array_equal(pixels(found["5"])[..., 0], pixels(mask)[..., 0])
    assert [is_cached(second, n) for n in ("1", "3", "4")] == [True] * 3


def test_one_content_is_one_input_however_it_comes(
    comfy: ComfyServer, origin: Origin, path: str
) -> None:
    content = png(6)
    first = comfy.prompt(loading(origin.put(f"{path}.png", content)))
    others = [comfy.prompt(loading(way(content))) for way in WAYS.values()]
    others.append(comfy.post_form({"prompt": loading("upload://a")}, a=content))
    assert not is_cached(first)
    assert [is_cached(reply) for reply in others] == [True] * 3


def test_many_inputs_of_one_request_are_fetched_side_by_side(
    comfy: ComfyServer, origin: Origin, path: str
) -> None:
    together = threading.Barrier(4)
    contents = [png(10 + n) for n in range(4)]
    graph: Graph = {}
    for number, content in enumerate(contents):
        url = origin.put(f"{path}-{number}.png", content, on_get=lambda: together.wait(20))
        graph[f"{number}"] = node("LoadImage", image=url)
        graph[f"s{number}"] = node("SaveImage", images=[f"{number}", 0], filename_prefix="a")
    reply = comfy.prompt(graph)
    assert reply.status == 200, reply.body
    for image, content in zip(reply.images, contents, strict=True):
        assert np.array_equal(pixels(image), pixels(content))


# Sound and video


def test_a_sound_by_url_is_loaded(comfy: ComfyServer, origin: Origin, path: str) -> None:
    graph = {"1": node("TestSound", hertz=330.0)}
    made = comfy.prompt({**graph, "9": node("SaveAudio", audio=["1", 0], filename_prefix="tone")})
    assert made.status == 200, made.body
    url = origin.put(f"{path}/tone", made.images[0])
    graph = {
        "1": node("LoadAudio", audio=url),
        "9": node("SaveAudio", audio=["1", 0], filename_prefix="loaded"),
    }
    reply = comfy.prompt(graph)
    assert reply.status == 200, reply.body
    assert reply.images[0][:4] == b"fLaC"
    assert reply.json["prompt"]["1"]["inputs"]["audio"].endswith(".flac")
    assert is_cached(comfy.prompt(graph))


def test_a_video_by_url_is_loaded(comfy: ComfyServer, origin: Origin, path: str) -> None:
    frames = node("TestPattern", seed=1, width=32, height=32, batch=4, channels=3)
    made = comfy.prompt(
        {
            "1": frames,
            "2": node("CreateVideo", images=["1", 0], fps=8.0),
            "9": node("SaveVideo", video=["2", 0], filename_prefix="v", format="mp4", codec="h264"),
        }
    )
    assert made.status == 200, made.body
    url = origin.put(f"{path}/clip", made.images[0])
    graph = {
        "1": node("LoadVideo", file=url),
        "2": node("GetVideoComponents", video=["1", 0]),
        "9": node("SaveImage", images=["2", 0], filename_prefix="frame"),
    }
    reply = comfy.prompt(graph)
    assert reply.status == 200, reply.body
    assert [pixels(frame).shape for frame in reply.images] == [(32, 32, 3)] * 4
    assert reply.json["prompt"]["1"]["inputs"]["file"].endswith(".mp4")
    assert is_cached(comfy.prompt(graph))


def test_a_v3_node_takes_an_upload_by_url(comfy: ComfyServer, origin: Origin, path: str) -> None:
    gif = b"GIF89a" + bytes(20)
    text = only_text(comfy.prompt({"1": node("TestModernMedia", clip=origin.put(path, gif))}))
    assert text.endswith(f"{sha256(gif)[:32]}.gif")


# Models


@pytest.mark.parametrize(
    ("class_type", "folder", "extension"),
    [
        ("TestReadsCheckpoint", "checkpoints", ".safetensors"),
        ("TestReadsApprox", "vae_approx", ".safetensors"),
        ("TestReadsThing", "test_things", ".thing"),
        ("TestModernReader", "loras", ".safetensors"),
    ],
)
def test_a_model_by_url_is_listed_and_read_at_once(
    comfy: ComfyServer, origin: Origin, path: str, class_type: str, folder: str, extension: str
) -> None:
    content = weights(1)
    url = origin.put(f"{path}/style{extension}?token=x", content)
    before = comfy.get("/api/stateless/models").json.get(folder, [])
    reply = comfy.prompt(reading(url, class_type))
    assert only_text(reply) == sha256(content)
    name = reply.json["prompt"]["1"]["inputs"]["name"]
    assert name.startswith("style-")
    assert set(comfy.get("/api/stateless/models").json[folder]) - set(before) == {name}
    assert (comfy.base / "models" / folder / name).readlink().parent == comfy.base / "cache"
    assert only_text(comfy.prompt(reading(name, class_type))) == sha256(content)
    assert only_text(comfy.prompt(reading(url, class_type))) == sha256(content)
    assert len(origin.gets(f"{path}/style{extension}?token=x")) == 1


def test_models_of_one_basename_do_not_meet(comfy: ComfyServer, origin: Origin, path: str) -> None:
    urls = {origin.put(f"{path}/{n}/model.safetensors", weights(n)): weights(n) for n in range(3)}
    texts = {url: only_text(comfy.prompt(reading(url))) for url in urls}
    assert texts == {url: sha256(content) for url, content in urls.items()}


# Refusals


def refusal(server: ComfyServer, graph: Graph, location: str) -> str:
    reply = server.prompt(graph)
    assert (reply.status, reply.json["location"]) == (400, location), reply.body
    return str(reply.json["error"])


def test_an_address_of_this_machine_is_refused_and_not_asked(comfy: ComfyServer) -> None:
    with serving() as elsewhere:
        for host in ("127.0.0.1", "localhost", "2130706433", "[::ffff:127.0.0.1]"):
            url = elsewhere.put("/a.png", png(1)).replace("127.0.0.1", host, 1)
            assert "not a public" in refusal(comfy, loading(url), "prompt.1.inputs.image")
            model = url.replace("a.png", "a.safetensors")
            assert refusal(comfy, reading(model), "prompt.1.inputs.name")
        assert elsewhere.seen == []


def test_a_redirect_to_an_address_of_this_machine_is_refused(
    comfy: ComfyServer, origin: Origin, path: str
) -> None:
    with serving() as elsewhere:
        target = elsewhere.put("/a.png", png(1))
        url = origin.put(f"{path}.png", b"")
        origin.files[f"{path}.png"].failures = [(302, {"Location": target})] * 9
        assert refusal(comfy, loading(url), "prompt.1.inputs.image")
        assert elsewhere.seen == []


BAD = {
    "not found": (b"", {"failures": [(404, {})] * 9}, "LoadImage", "not found|no such|404"),
    "denied": (b"", {"failures": [(403, {})] * 9}, "LoadImage", "denied|403"),
    "a page for a picture": (b"<!DOCTYPE html><html></html>", {}, "LoadImage", "web page"),
    "no picture": (b"just some text", {}, "LoadImage", "no image"),
    "a page for a model": (
        b"<!doctype html><p>Sign in</p>", {"media_type": "text/html"}, "model", "page",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD.values(), ids=BAD.keys())
def test_what_cannot_be_had_is_refused_with_its_place_and_the_reason(
    comfy: ComfyServer, origin: Origin, path: str, case: tuple[bytes, dict[str, Any], str, str]
) -> None:
    content, how, kind, reason = case
    url = origin.put(f"{path}/x.safetensors" if kind == "model" else path, content, **how)
    graph = reading(url) if kind == "model" else loading(url)
    where = "prompt.1.inputs.name" if kind == "model" else "prompt.1.inputs.image"
    error = refusal(comfy, graph, where).lower()
    assert any(word in error for word in reason.split("|")), error


def test_the_other_fetches_of_a_refused_request_are_cancelled(
    comfy: ComfyServer, origin: Origin, path: str
) -> None:
    gate = threading.Event()
    slow = origin.put(f"{path}/slow.png", png(9, 400, 400), gate=gate)
    bad = origin.put(f"{path}/bad.png", b"", failures=[(404, {})] * 9)
    graph = {**loading(slow), "2": node("LoadImage", image=bad)}
    graph["8"] = node("SaveImage", images=["2", 0], filename_prefix="b")
    try:
        refusal(comfy, graph, "prompt.2.inputs.image")
        until(lambda: comfy.get("/api/stateless/download").json == {"downloads": []}, 5)
    finally:
        gate.set()


def test_a_client_that_hangs_up_cancels_its_fetch(
    comfy: ComfyServer, origin: Origin, path: str
) -> None:
    gate = threading.Event()
    url = origin.put(f"{path}/slow.png", png(11, 400, 400), gate=gate)
    connection = http.client.HTTPConnection("127.0.0.1", comfy.port)
    body = json.dumps({"prompt": loading(url), "id": path})
    try:
        connection.request("POST", "/api/stateless/prompt", body)
        until(lambda: comfy.get("/api/stateless/download").json["downloads"])
        assert comfy.get(f"/api/stateless/prompt/{path[1:]}").status == 404
        connection.close()
        until(lambda: comfy.get("/api/stateless/download").json == {"downloads": []}, 5)
        assert not gate.is_set()
    finally:
        connection.close()
        gate.set()
    assert comfy.get("/api/stateless/ready").status == 200


# Many at once, in a cache that is too small for all, and models in folders of the user's


@pytest.fixture(scope="module")
def evicting(
    install: Install, origin: Origin, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ComfyServer]:
    base = tmp_path_factory.mktemp("evicting")
    paths = base / "paths.yaml"
    paths.write_text(
        f"mine:\n  base_path: {base / 'disk'}\n  is_default: true\n"
        f"  checkpoints: ckpt/\n  vae_approx: |\n    one\n    two\n"
        f"other:\n  base_path: {base / 'more'}\n  loras: loras\n  test_things: things\n"
    )
    env = {
        "HTTP_TRUSTED_ORIGINS": origin.url(""),
        "LRU_CACHE_SIZE_GB": str(300_000 / 1024**3),
    }
    args = ("--extra-model-paths-config", str(paths))
    with ComfyServer(install, base / "comfyui", env, args) as server:
        server.wait_until_ready()
        yield server


@pytest.mark.parametrize(
    ("class_type", "root"),
    [
        ("TestReadsCheckpoint", "disk/ckpt"),
        ("TestReadsApprox", "disk/two"),
        ("TestModernReader", "comfyui/models/loras"),
        ("TestReadsThing", "comfyui/models/test_things"),
    ],
)
def test_a_model_is_linked_into_the_users_own_layout_of_folders(
    evicting: ComfyServer, origin: Origin, path: str, class_type: str, root: str
) -> None:
    suffix = ".thing" if class_type == "TestReadsThing" else ".safetensors"
    content = weights(3)
    reply = evicting.prompt(reading(origin.put(f"{path}/m{suffix}", content), class_type))
    assert only_text(reply) == sha256(content)
    assert (evicting.base.parent / root / reply.json["prompt"]["1"]["inputs"]["name"]).is_symlink()


def cache_size(server: ComfyServer) -> int:
    found = [p for p in (server.base / "cache").iterdir() if p.suffix in (".png", ".safetensors")]
    return sum(path.stat().st_size for path in found)


def links(server: ComfyServer) -> list[Path]:
    roots = [server.base / "models", server.base.parent / "disk", server.base.parent / "more"]
    return [path for root in roots for path in root.rglob("*") if path.is_symlink()]


def test_many_requests_for_one_file_fetch_it_once(
    evicting: ComfyServer, origin: Origin, path: str
) -> None:
    content, model = png(20, 100, 100), weights(20, 100_000)
    url = origin.put(f"{path}.png", content)
    model_url = origin.put(f"{path}.safetensors", model)
    graph = {**loading(url), "2": node("TestReadsCheckpoint", name=model_url)}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        replies = list(pool.map(evicting.prompt, [graph] * AT_ONCE))
    assert all(is_same(reply, content) for reply in replies)
    assert {only_text(reply) for reply in replies} == {sha256(model)}
    assert len(origin.gets(f"{path}.png")) == 1
    assert len(origin.gets(f"{path}.safetensors")) == 1


def test_many_requests_for_different_files_in_a_small_cache_mix_nothing(
    evicting: ComfyServer, origin: Origin, path: str
) -> None:
    pictures = [png(100 + n, 100, 100) for n in range(AT_ONCE)]
    models = [weights(100 + n, 30_000) for n in range(AT_ONCE)]

    def run(number: int) -> Reply:
        graph = loading(f"{origin.url(path)}/{number}.png")
        graph["2"] = node("TestReadsCheckpoint", name=f"{origin.url(path)}/{number}.safetensors")
        return evicting.prompt(graph, id="same id")

    for number in range(AT_ONCE):
        origin.put(f"{path}/{number}.png", pictures[number])
        origin.put(f"{path}/{number}.safetensors", models[number])
    numbers = [*range(AT_ONCE), *reversed(range(AT_ONCE))]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        replies = dict(enumerate(pool.map(run, numbers)))
    for place, number in enumerate(numbers):
        assert is_same(replies[place], pictures[number]), number
        assert only_text(replies[place]) == sha256(models[number])
    fetched = origin.put(f"{path}/last.png", png(99))
    assert is_same(evicting.prompt(loading(fetched)), png(99))
    until(lambda: cache_size(evicting) <= 300_000)
    assert all(link.exists() for link in links(evicting))
    assert "Deleted" in evicting.log
