"""Nodes that take files, files for them, and a server that sees when its clients leave."""

from __future__ import annotations

import asyncio
import base64
import struct
import wave
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import pytest
from PIL import Image

from comfyui_stateless.engine import (
    FileForm,
    FileInput,
    MediaInput,
    ModelInput,
    PreparedPrompt,
    RepositoryInput,
)
from comfyui_stateless.errors import InvalidInput
from comfyui_stateless.inputs import Uploaded
from comfyui_stateless.pipeline import Services
from comfyui_stateless.prepare import prepare
from comfyui_stateless.requests import PromptRequest
from tests.cache.content import safetensors
from tests.fakes import FakeEngine, FakeWorkspace, eventually
from tests.wiring import end, services_for

LOADERS: Mapping[str, Mapping[str, FileInput]] = {
    "LoadImage": {"image": MediaInput(FileForm.NAME, is_marked=True)},
    "LoadNamed": {"image": MediaInput(FileForm.NAME, is_marked=False)},
    "LoadVideo": {"video": MediaInput(FileForm.NAME, is_marked=True)},
    "LoadAudio": {"audio": MediaInput(FileForm.NAME, is_marked=True)},
    "LoadVideoPath": {"video": MediaInput(FileForm.PATH, is_marked=True)},
    "LoadImages": {"directory": MediaInput(FileForm.FOLDER, is_marked=False)},
    "LoadImagesPath": {"directory": MediaInput(FileForm.FOLDER_PATH, is_marked=True)},
    "Checkpoint": {"name": ModelInput(("checkpoints",))},
    "Lora": {"name": ModelInput(("loras",), frozenset({"None"}))},
    "Either": {"name": ModelInput(("loras", "checkpoints"))},
    "Anything": {"name": ModelInput(("anything",))},
    "Diffusers": {"model_path": RepositoryInput("diffusers")},
}
"""The inputs of node classes that take files, by their names, as a catalog would find them."""

INPUTS = {class_type: next(iter(inputs)) for class_type, inputs in LOADERS.items()}


def loading(class_type: str, value: Any, **others: Any) -> dict[str, Any]:
    """Return a graph whose node 1 loads something."""
    return loading_all((class_type, value), **others)


def loading_all(*loaded: tuple[str, Any], **others: Any) -> dict[str, Any]:
    """Return a graph whose first nodes each load something; the last saves an image.

    Args:
        others: More inputs of the first node.
    """
    nodes: dict[str, Any] = {
        str(number): {"class_type": class_type, "inputs": {INPUTS[class_type]: value}}
        for number, (class_type, value) in enumerate(loaded, 1)
    }
    nodes["1"]["inputs"] |= others
    save = {"images": ["1", 0], "filename_prefix": "picture"}
    return {**nodes, "99": {"class_type": "SaveImage", "inputs": save}}


def loading_engine(**how: Any) -> FakeEngine:
    """Return an engine that has the loaders."""
    return FakeEngine(file_inputs=LOADERS, **how)


def picture(kind: str = "png", shade: int = 1) -> bytes:
    """Return a small picture in one of Pillow's formats."""
    file = BytesIO()
    Image.new("RGB", (4, 3), (shade, 0, 0)).save(file, kind)
    return file.getvalue()


def sound() -> bytes:
    file = BytesIO()
    with wave.open(file, "wb") as audio:
        audio.setnchannels(1)
        audio.setsampwidth(2)
        audio.setframerate(8000)
        audio.writeframes(bytes(32))
    return file.getvalue()


def iso(brand: bytes) -> bytes:
    """Return what an ISO base media file begins with."""
    content = b"ftyp" + brand + bytes(4) + brand
    return struct.pack(">I", 4 + len(content)) + content + b"\0\0\0\x08free" + bytes(40)


FILES = {
    "png": (picture("png"), ".png"),
    "jpeg": (picture("jpeg"), ".jpg"),
    "webp": (picture("webp"), ".webp"),
    "gif": (picture("gif"), ".gif"),
    "heic": (iso(b"heic"), ".heic"),
    "avif": (iso(b"avif"), ".avif"),
    "mp4": (iso(b"isom"), ".mp4"),
    "webm": (b"\x1a\x45\xdf\xa3\x9fB\x86\x81\x01B\x82\x84webm" + bytes(20), ".webm"),
    "wav": (sound(), ".wav"),
    "flac": (b"fLaC\0\0\0\x22" + bytes(40), ".flac"),
    "glb": (b"glTF\x02\0\0\0" + bytes(20), ".glb"),
}
"""Files of media that their bytes tell, with their extension."""

PNG = picture()

PAGE = b"<!DOCTYPE html><html><title>Log in</title></html>"

SECRET = "hush-hush-hush"

MODEL = safetensors(64)


def data_url(content: bytes, media_type: str = "application/octet-stream") -> str:
    return f"data:{media_type};base64,{bare(content)}"


def bare(content: bytes) -> str:
    return base64.b64encode(content).decode()


def kept(folder: Path) -> list[str]:
    """Return the files in a cache's folder, also unfinished ones, but for locks."""
    return sorted(p.name for p in folder.rglob("*") if p.is_file() and p.suffix != ".lock")


def contents(folder: Path) -> bytes:
    """Return all that is written below a folder: names, and what is in the files."""
    written: list[bytes] = []
    for path in sorted(folder.rglob("*")):
        written.append(str(path).encode())
        # A lock that is just being removed may go between two looks.
        with suppress(FileNotFoundError, IsADirectoryError):
            written.append(path.read_bytes())
    return b"\n".join(written)


class Holding:
    """A server that holds back all but the first half of its only file, and sees who leaves.

    Attributes:
        asked: How many requests have come.
        left: How many clients have closed their connection before they had the whole.
    """

    def __init__(self, content: bytes) -> None:
        self.asked = 0
        self.left = 0
        self.url = ""
        self._content = content
        self._release = asyncio.Event()

    def release(self) -> None:
        """Send the second half to everybody."""
        self._release.set()

    async def is_asked(self) -> None:
        """Wait until somebody waits for the file."""
        await eventually(lambda: self.asked > self.left)

    async def is_left(self) -> None:
        """Wait until everybody has left."""
        await eventually(lambda: self.asked == self.left > 0)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            self.asked += 1
            half = len(self._content) // 2
            head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(self._content)}\r\n\r\n".encode()
            writer.write(head + self._content[:half])
            gone = asyncio.ensure_future(reader.read())
            released = asyncio.ensure_future(self._release.wait())
            await asyncio.wait((gone, released), return_when=asyncio.FIRST_COMPLETED)
            if released.done():
                writer.write(self._content[half:])
            else:
                self.left += 1
            await _cancelled(gone, released)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def _cancelled(*tasks: asyncio.Future[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def holding(content: bytes = MODEL, name: str = "held.safetensors") -> AsyncIterator[Holding]:
    """Run such a server for the block."""
    state = Holding(content)
    answers: set[asyncio.Task[None]] = set()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(state.answer(reader, writer))
        answers.add(task)
        task.add_done_callback(answers.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    state.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/{name}"
    try:
        yield state
    finally:
        state.release()
        server.close()
        await server.wait_closed()
        await asyncio.gather(*answers, return_exceptions=True)


def upload(folder: Path, content: bytes = PNG, extension: str = ".png") -> Uploaded:
    """Return a file as a form brings it."""
    digest = sha256(content).hexdigest()
    path = folder / f"part-{digest[:8]}"
    path.write_bytes(content)
    return Uploaded(path, digest, extension)


@dataclass
class Kitchen:
    """Where prompts are prepared, one after the other or side by side.

    Attributes:
        told: How far fetches were, in order.
    """

    services: Services
    engine: FakeEngine
    folder: Path
    workspaces: list[FakeWorkspace] = field(default_factory=list)
    told: list[Mapping[str, Any]] = field(default_factory=list)

    async def prepared(
        self, graph: dict[str, Any], uploads: Mapping[str, Uploaded] | None = None, **fields: Any
    ) -> PreparedPrompt:
        """Prepare a graph; what belongs to its job stays until ``leave``."""
        fields = {"prompt": graph, **fields}
        self.workspaces.append(FakeWorkspace(Path(mkdtemp(dir=self.folder))))
        return await prepare(
            PromptRequest.model_validate(fields),
            "run-1",
            self.engine,
            self.services.fetcher,
            self.workspaces[-1],
            self.told.append,
            uploads=uploads or {},
            prepend_filenames=True,
        )

    async def value(self, class_type: str, value: Any, **given: Any) -> Any:
        """Return what a loader gets in place of ``value``."""
        prompt = await self.prepared(loading(class_type, value), **given)
        return prompt.graph["1"]["inputs"][INPUTS[class_type]]

    async def refusal(self, class_type: str, value: Any, **given: Any) -> InvalidInput:
        """Return the error that a loader's input is refused with; its place is right."""
        with pytest.raises(InvalidInput) as caught:
            await self.value(class_type, value, **given)
        name = INPUTS[class_type]
        assert caught.value.location == f"prompt.1.inputs.{name}"
        assert caught.value.message.startswith(f"Node 1, {name}: ")
        return caught.value

    def leave(self) -> None:
        """End all jobs."""
        for workspace in self.workspaces:
            workspace.leave()

    @property
    def cached(self) -> list[str]:
        return kept(self.services.settings.cache_dir)


Cook = Callable[..., Kitchen]


async def kitchens(folder: Path) -> AsyncIterator[Cook]:
    """Give what opens a kitchen, of an engine and settings; for a fixture."""
    made: list[Services] = []

    def cook(engine: FakeEngine | None = None, **settings: Any) -> Kitchen:
        engine = engine or loading_engine()
        made.append(services_for(engine, folder, **settings))
        return Kitchen(made[-1], engine, folder)

    yield cook
    for services in made:
        await end(services)
