from __future__ import annotations

import asyncio
import io
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import TypeAdapter

from comfyui_stateless.engine import CapturedImage, Execution, NodeFile, OutputFile
from comfyui_stateless.errors import ConversionError
from comfyui_stateless.images import ConvertOutput
from comfyui_stateless.outputs import (
    MAX_JOB_MEMORY,
    MAX_PENDING_BYTES,
    MAX_SMALL,
    SMALL_BYTES,
    Collector,
    Encoders,
)
from tests.fakes import PIXELS, FakeWorkspace

ENCODERS = Encoders(threads=2)

WEBP = TypeAdapter[Any](ConvertOutput).validate_python(
    {"format": "webp", "options": {"lossless": True}}
)


def png(pixels: Any = PIXELS) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def captured(node_id: str, name: str, *, temp: bool = False, pixels: Any = PIXELS) -> CapturedImage:
    return CapturedImage(node_id, name, temp, pixels, lambda: (("prompt", "{}"),))


class Heard:
    """A listener that remembers."""

    wants_outputs = False

    def __init__(self) -> None:
        self.starts = 0
        self.outputs: list[str] = []
        self.events: list[str] = []

    def started(self) -> None:
        self.starts += 1

    def wants(self, event: str) -> bool:
        return event != "preview"

    def event(self, name: str, data: Mapping[str, Any]) -> None:
        self.events.append(name)

    def output(self, output: OutputFile) -> None:
        self.outputs.append(output.filename)


class Run:
    """A run whose outputs a test hands in."""

    def __init__(self, folder: Path, convert: Any = None) -> None:
        self.folder = folder
        self.files: list[NodeFile] = []
        self.heard = Heard()
        self.collector = Collector(ENCODERS, convert, FakeWorkspace(folder), self.heard)

    def write(self, node_id: str, name: str, content: bytes, *, temp: bool = False) -> None:
        path = self.folder / f"{len(self.files)}"
        path.write_bytes(content)
        self.files.append(NodeFile(node_id, name, temp, path))

    async def collect(self) -> tuple[OutputFile, ...]:
        nodes: Any = {name: {} for name in ("9", "5", "1")}
        execution = Execution(nodes, 0, 1, {}, tuple(self.files), ())
        return await self.collector.collect(execution)


def content(output: OutputFile) -> bytes:
    return output.body if isinstance(output.body, bytes) else output.body.read_bytes()


def pixels_of(output: OutputFile) -> Any:
    return np.asarray(Image.open(io.BytesIO(content(output))).convert("RGB"))


async def test_a_captured_image_becomes_a_png_in_memory(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.collector.image(captured("9", "a/b_00001_.png"))
    (output,) = await run.collect()
    assert isinstance(output.body, bytes)
    assert (pixels_of(output) == PIXELS).all()
    described = (output.node_id, output.filename, output.kind, output.media_type, output.size)
    assert described == ("9", "a/b_00001_.png", "image", "image/png", len(output.body))
    assert (output.width, output.height) == (4, 4)


async def test_a_written_file_is_delivered_from_where_it_lies(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.write("9", "a.bin", b"12345")
    run.write("9", "b.png", png(PIXELS[:2]))
    first, second = await run.collect()
    assert first.body == tmp_path / "0"
    assert (first.kind, first.size, first.width) == ("file", 5, None)
    assert (second.media_type, second.width, second.height) == ("image/png", 4, 2)


async def test_outputs_come_in_the_order_of_the_graph_s_nodes(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.write("1", "c.bin", b"x")
    run.collector.image(captured("5", "b.png"))
    run.write("9", "a.bin", b"x")
    run.collector.image(captured("5", "b2.png"))
    run.write("not in the graph", "d.bin", b"x")
    names = [output.filename for output in await run.collect()]
    assert names == ["a.bin", "b.png", "b2.png", "c.bin", "d.bin"]


async def test_temp_outputs_count_only_when_there_is_no_other(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.collector.image(captured("9", "preview.png", temp=True))
    run.write("5", "t.bin", b"x", temp=True)
    assert [output.filename for output in await run.collect()] == ["preview.png", "t.bin"]
    run.files.clear()
    run.write("1", "kept.bin", b"x")
    assert [output.filename for output in await run.collect()] == ["kept.bin"]


async def test_equal_names_become_unequal(tmp_path: Path) -> None:
    run = Run(tmp_path)
    for _ in range(3):
        run.collector.image(captured("9", "a_00001_.png"))
    names = [output.filename for output in await run.collect()]
    assert names == ["a_00001_.png", "a_00002_.png", "a_00003_.png"]


async def test_images_are_converted_whether_captured_or_written(tmp_path: Path) -> None:
    run = Run(tmp_path, WEBP)
    run.collector.image(captured("9", "a/one.png"))
    run.write("5", "two.png", png())
    run.write("1", "data.bin", b"12345")
    one, two, data = await run.collect()
    assert [one.filename, two.filename, data.filename] == ["a/one.webp", "two.webp", "data.bin"]
    assert one.media_type == two.media_type == "image/webp"
    assert (pixels_of(one) == PIXELS).all()
    assert (pixels_of(two) == PIXELS).all()
    assert (two.width, two.height, two.size) == (4, 4, len(content(two)))
    assert content(data) == b"12345"


async def test_names_that_conversion_makes_equal_become_unequal(tmp_path: Path) -> None:
    run = Run(tmp_path, WEBP)
    run.write("9", "a.png", png())
    run.write("9", "a.bmp", png())
    assert [output.filename for output in await run.collect()] == ["a.webp", "a_00002.webp"]


async def test_an_image_that_cannot_be_converted_fails_the_job(tmp_path: Path) -> None:
    run = Run(tmp_path, WEBP)
    run.write("9", "broken.png", png()[:50])
    with pytest.raises(ConversionError):
        await run.collect()


async def test_what_is_too_much_for_memory_goes_to_the_run_s_folder(tmp_path: Path) -> None:
    side = int((MAX_JOB_MEMORY / 4) ** 0.5)
    noise = np.random.default_rng(1).integers(0, 256, (side, side, 3), np.uint8)
    run = Run(tmp_path)
    for number in range(2):
        run.collector.image(captured("9", f"{number}.png", pixels=noise))
    outputs = await run.collect()
    (spooled,) = [output for output in outputs if isinstance(output.body, Path)]
    assert len(outputs) == 2
    assert spooled.size == len(content(spooled))
    assert (pixels_of(spooled) == noise).all()


async def test_the_start_of_a_run_is_passed_on(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.collector.started()
    assert run.heard.starts == 1


async def test_images_of_a_job_that_was_given_up_are_not_encoded(tmp_path: Path) -> None:
    encoders = Encoders(threads=1)
    release, encoded = threading.Event(), []
    encoders.submit(0, lambda: release.wait(5))

    def metadata() -> tuple[tuple[str, str], ...]:
        encoded.append(1)
        return ()

    with Collector(encoders, None, FakeWorkspace(tmp_path), Heard()) as collector:
        collector.image(CapturedImage("9", "a.png", False, PIXELS, metadata))
    release.set()
    await asyncio.to_thread(encoders.submit(0, lambda: None).result)
    assert encoded == []


async def test_too_many_waiting_pixels_hold_the_thread_that_makes_them() -> None:
    encoders = Encoders(threads=1)
    release = threading.Event()
    encoders.submit(MAX_PENDING_BYTES, lambda: release.wait(5))
    late = asyncio.ensure_future(asyncio.to_thread(encoders.submit, 1, lambda: "done"))
    await asyncio.sleep(0.05)
    assert not late.done()
    release.set()
    future = await asyncio.wait_for(late, 5)
    assert await asyncio.wrap_future(future) == "done"


async def test_one_image_larger_than_the_bound_still_gets_through() -> None:
    encoders = Encoders(threads=1)
    future = await asyncio.to_thread(encoders.submit, MAX_PENDING_BYTES * 2, lambda: "done")
    assert await asyncio.wrap_future(future) == "done"


async def test_two_images_at_least_are_encoded_at_once() -> None:
    encoders, meeting = Encoders(), threading.Barrier(2, timeout=5)
    futures = [encoders.submit(0, meeting.wait) for _ in range(2)]
    assert sorted([await asyncio.wrap_future(future) for future in futures]) == [0, 1]


async def test_images_of_all_sizes_stay_in_order_whoever_encodes_them(tmp_path: Path) -> None:
    run = Run(tmp_path)
    large = np.zeros((SMALL_BYTES, 2, 3), np.uint8)
    shapes = [large, *[PIXELS] * (MAX_SMALL + 2), large, PIXELS]
    for number, pixels in enumerate(shapes):
        run.collector.image(captured("1", f"{number}.png", pixels=pixels))
    outputs = await run.collect()
    assert [output.filename for output in outputs] == [f"{n}.png" for n in range(len(shapes))]
    assert [pixels_of(output).shape for output in outputs] == [p.shape for p in shapes]
