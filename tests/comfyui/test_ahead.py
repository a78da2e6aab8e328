"""Pictures that are loaded before their node runs: they are what the node would have loaded."""

from __future__ import annotations

import ast
import hashlib
import io
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.comfyui.graphs import Graph, node, waiting
from tests.comfyui.server import ComfyServer, Reply

DECODE = Path(__file__).parents[2] / "comfyui_stateless" / "host" / "decode.py"
LOADER = "stateless-loader"
WAIT_S = 20.0


def noise(mode: str = "RGB", size: tuple[int, int] = (97, 61), seed: int = 1) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 4), np.uint8)
    return Image.fromarray(values).convert("RGB" if mode in ("P", "CMYK") else mode).convert(mode)


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    image.save(buffer := io.BytesIO(), form, **options)
    return buffer.getvalue()


def turned(orientation: int, form: str = "JPEG") -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(noise(), form, exif=exif)


def several(form: str, **options: Any) -> bytes:
    first, *more = [noise(seed=seed) for seed in range(3)]
    return encoded(first, form, save_all=True, append_images=more, **options)


PICTURES: dict[str, Callable[[], bytes]] = {
    "plain.jpg": lambda: encoded(noise(), "JPEG", quality=90),
    "turned.jpg": lambda: turned(6),
    "mirrored.jpg": lambda: turned(5),
    "upright.jpg": lambda: turned(1),
    "turned-nowhere.jpg": lambda: turned(9),
    "progressive.jpg": lambda: encoded(noise(size=(640, 480)), "JPEG", progressive=True),
    "plain.png": lambda: encoded(noise(size=(300, 299)), "PNG"),
    "turned.png": lambda: turned(8, "PNG"),
    "no-red.png": lambda: encoded(noise(), "PNG", transparency=(0, 0, 0)),
    "plain.webp": lambda: encoded(noise(size=(300, 299)), "WEBP"),
    "turned.webp": lambda: turned(3, "WEBP"),
    "four-inks.jpg": lambda: encoded(noise("CMYK"), "JPEG"),
    "gray.png": lambda: encoded(noise("L"), "PNG"),
    "gray-with-alpha.png": lambda: encoded(noise("LA"), "PNG"),
    "alpha.png": lambda: encoded(noise("RGBA"), "PNG"),
    "bits.png": lambda: encoded(noise("1"), "PNG"),
    "palette.png": lambda: encoded(noise("P"), "PNG", transparency=3),
    "deep.png": lambda: encoded(Image.fromarray(np.arange(6000, dtype=np.uint16).reshape(60, 100)), "PNG"),
    "deepest.tiff": lambda: encoded(Image.fromarray(np.arange(6000, dtype=np.int32).reshape(60, 100)), "TIFF"),
    "pages.tiff": lambda: several("TIFF"),
    "moving.gif": lambda: several("GIF", duration=40),
    "moving.png": lambda: several("PNG"),
    "moving.webp": lambda: several("WEBP"),
    "two-eyes.mpo": lambda: several("MPO"),
    "small.bmp": lambda: encoded(noise(size=(3, 2)), "BMP"),
    "large.webp": lambda: encoded(noise("RGBA", (700, 500)), "WEBP", lossless=True),
}  # fmt: skip
DAMAGED: dict[str, Callable[[], bytes]] = {
    "cut.jpg": lambda: encoded(noise(), "JPEG", quality=95)[:4000],
    "cut.png": lambda: encoded(noise("RGBA"), "PNG")[:9000],
}
WRONG: dict[str, Callable[[], bytes]] = {
    "text.png": lambda: b"this is no picture",
    "empty.png": lambda: b"",
}


@pytest.fixture(autouse=True)
def _input(comfy: ComfyServer) -> Iterator[None]:
    folder = comfy.base / "input"
    written = [folder / name for name in (*PICTURES, *DAMAGED, *WRONG)]
    for path, make in zip(written, (PICTURES | DAMAGED | WRONG).values(), strict=True):
        path.write_bytes(make())
    yield
    for path in written:
        path.unlink(missing_ok=True)


def fingerprint(name: str, **more: Any) -> Graph:
    return {
        "1": node("LoadImage", image=name),
        "9": node("TestFingerprint", image=["1", 0], mask=["1", 1], **more),
    }


def mask_fingerprint(name: str, channel: str) -> Graph:
    return {
        "1": node("LoadImageMask", image=name, channel=channel),
        "9": node("TestFingerprint", mask=["1", 0]),
    }


@contextmanager
def busy(comfy: ComfyServer) -> Iterator[None]:
    """Have another job run inside the block, so that all that come meanwhile wait."""
    name = f"busy-{uuid.uuid4()}"
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(comfy.prompt, waiting(WAIT_S, name), id=name)
        eventually(
            lambda: comfy.get(f"/api/stateless/prompt/{name}").json.get("state") == "running"
        )
        try:
            yield
        finally:
            comfy.post("/api/stateless/interrupt", {"id": name})
            assert first.result().status == 409


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def ours(comfy: ComfyServer, graphs: list[Graph]) -> list[list[str]]:
    """Run graphs whose pictures are loaded before the first of them has its turn."""
    with ThreadPoolExecutor(len(graphs)) as pool:
        with busy(comfy):
            replies = [queued(pool, comfy, graph) for graph in graphs]
        results = [reply.result() for reply in replies]
    return [said(result) for result in results]


def said(reply: Reply) -> list[str]:
    """Return the fingerprints, or what the loader raised: some ComfyUIs cannot load some pictures."""
    if reply.status == 500:
        return [str(reply.json["details"]["exception_message"]).strip()]
    return [text["text"] for text in reply.json["texts"]]


def queued(pool: ThreadPoolExecutor, comfy: ComfyServer, graph: Graph) -> Future[Reply]:
    """Send a graph, and wait until its picture is being loaded: its node waits for what has begun."""
    name = graph["1"]["inputs"]["image"]
    before = openings(comfy, name)
    reply = pool.submit(comfy.prompt, graph)
    eventually(lambda: openings(comfy, name) > before)
    return reply


def openings(comfy: ComfyServer, name: str) -> int:
    """Return how often a picture was opened since the notes began."""
    taken = comfy.post("/test-host/structure", {"on": True, "keep": True}).json["opened"]
    return [Path(path).name for _, path in taken].count(name)


def notes(comfy: ComfyServer, *, on: bool) -> dict[str, list[tuple[str, str]]]:
    taken = comfy.post("/test-host/structure", {"on": on}).json
    return {
        kind: [tuple(note) for note in taken[kind]] for kind in ("written", "encoded", "opened")
    }


def theirs(comfy: ComfyServer, graph: Graph) -> list[str]:
    entry = comfy.plain(graph)
    messages = dict(entry["status"]["messages"])
    if "execution_error" in messages:
        return [str(messages["execution_error"]["exception_message"]).strip()]
    return [str(text) for text in entry["outputs"]["9"]["text"]]


def openers(taken: dict[str, list[tuple[str, str]]], name: str) -> set[str]:
    return {thread for thread, path in taken["opened"] if Path(path).name == name}


def test_what_is_loaded_ahead_is_to_the_last_bit_what_the_node_loads(comfy: ComfyServer) -> None:
    if (0, 23, 0) <= comfy.install.numbers < (0, 26, 0):
        pytest.skip("its LoadImage does not give the same bits each time")
    graphs = {name: fingerprint(name) for name in (*PICTURES, *DAMAGED)}
    notes(comfy, on=True)
    found = ours(comfy, list(graphs.values()))
    taken = notes(comfy, on=False)
    loaded = 0
    for (name, graph), ahead in zip(graphs.items(), found, strict=True):
        reference = theirs(comfy, graph)
        assert ahead == reference, name
        if name in PICTURES and len(reference) == 3:
            loaded += 1
            assert reference[-1] not in openers(taken, name), name
        assert any(thread.startswith(LOADER) for thread in openers(taken, name)), name
    assert loaded > len(PICTURES) / 2


def test_the_source_of_this_comfyuis_loader_is_known(comfy: ComfyServer) -> None:
    if comfy.install.numbers >= (0, 18, 0):
        pytest.skip("its LoadImage decodes in another way")
    source = (comfy.install.home / "nodes.py").read_text()
    lines = source.splitlines(keepends=True)
    (loader,) = (
        function
        for item in ast.parse(source).body
        if isinstance(item, ast.ClassDef) and item.name == "LoadImage"
        for function in item.body
        if isinstance(function, ast.FunctionDef) and function.name == "load_image"
    )
    text = "".join(lines[loader.lineno - 1 : loader.end_lineno])
    assert hashlib.sha256(text.encode()).hexdigest() in DECODE.read_text()


def test_masks_are_loaded_ahead_too(comfy: ComfyServer) -> None:
    if comfy.install.numbers >= (0, 23, 0):
        pytest.skip("its LoadImageMask works on what LoadImage gives, on the thread of the nodes")
    graphs = [
        mask_fingerprint(name, channel)
        for name in ("alpha.png", "palette.png", "plain.jpg", "deep.png")
        for channel in ("alpha", "red")
    ]
    notes(comfy, on=True)
    found = ours(comfy, graphs)
    taken = notes(comfy, on=False)
    assert found == [theirs(comfy, graph) for graph in graphs]
    assert {t.startswith(LOADER) for n in PICTURES for t in openers(taken, n)} == {True}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_picture_fails_in_its_node_as_ever(comfy: ComfyServer, name: str) -> None:
    graph = fingerprint(name)
    notes(comfy, on=True)
    with ThreadPoolExecutor(1) as pool:
        with busy(comfy):
            waiting_reply = pool.submit(comfy.prompt, graph)
            eventually(lambda: openings(comfy, name) > 0)
        reply = waiting_reply.result()
    messages = dict(comfy.plain(graph)["status"]["messages"])
    assert reply.status == 500
    assert reply.json["location"] == "prompt.1"
    assert messages["execution_error"]["exception_message"].strip() in reply.json["error"]


def test_a_picture_that_changes_while_its_job_waits_is_loaded_anew(comfy: ComfyServer) -> None:
    path = comfy.base / "input" / "plain.jpg"
    notes(comfy, on=True)
    with ThreadPoolExecutor(1) as pool, busy(comfy):
        reply = pool.submit(comfy.prompt, fingerprint("plain.jpg"))
        eventually(lambda: openings(comfy, "plain.jpg") > 0)
        path.write_bytes(encoded(noise(seed=9), "JPEG"))
    assert said(reply.result()) == theirs(comfy, fingerprint("plain.jpg"))


def test_a_node_that_works_in_place_spoils_no_picture_of_another_job(comfy: ComfyServer) -> None:
    if (0, 23, 0) <= comfy.install.numbers < (0, 26, 0):
        pytest.skip("its cache keeps the picture that the node has spoiled")
    notes(comfy, on=True)
    spoiling = [fingerprint("plain.jpg", blacken=True), fingerprint("gray.png")] * 2
    found = ours(comfy, [*spoiling, fingerprint("plain.jpg", blacken=True)])
    assert found[0] == found[2] == found[4]
    assert found[1] == found[3]


def test_comfyuis_cache_holds_a_picture_for_plain_prompts_and_ours_alike(
    comfy: ComfyServer,
) -> None:
    notes(comfy, on=True)
    ours(comfy, [fingerprint("alpha.png")])
    entry = comfy.plain({**fingerprint("alpha.png"), "8": node("TestFingerprint", mask=["1", 1])})
    cached = [
        data["nodes"] for name, data in entry["status"]["messages"] if name == "execution_cached"
    ]
    assert "1" in cached[0]
    openings = len([p for _, p in notes(comfy, on=True)["opened"] if p.endswith("alpha.png")])
    assert openings == 2  # for its size, and for its pixels
    for _ in range(2):
        ours_again = comfy.prompt(fingerprint("alpha.png"))
        assert ours_again.status == 200
    again = [path for _, path in notes(comfy, on=False)["opened"] if path.endswith("alpha.png")]
    assert len(again) <= 2  # the first time it was not known yet that ComfyUI has it


def test_plain_prompts_load_on_the_thread_that_runs_nodes(comfy: ComfyServer) -> None:
    notes(comfy, on=True)
    worker = theirs(comfy, fingerprint("turned.jpg"))[-1]
    assert openers(notes(comfy, on=False), "turned.jpg") == {worker}
    assert worker != threading.current_thread().name
