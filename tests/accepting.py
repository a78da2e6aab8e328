"""Servers that end and begin again on one STATE_DIR, without HTTP in front of them."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from comfyui_stateless.background import Answer, Background
from comfyui_stateless.engine import (
    FileForm,
    MediaInput,
    NodeClass,
    NodeText,
    OutputFile,
    PreparedPrompt,
    PromptResult,
)
from comfyui_stateless.inputs import Uploaded
from comfyui_stateless.journal import AcceptedJob
from comfyui_stateless.journal.journal import Journal
from comfyui_stateless.pipeline import Services
from comfyui_stateless.readiness import Phase
from comfyui_stateless.requests import PromptRequest, parse_prompt
from tests.fakes import CLASSES, FakeEngine, Play, Script, graph, one_image
from tests.webhooks.receivers import Receiver
from tests.wiring import background_for, end, services_for

LOADER = "LoadImage"

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

OUTPUTS = (
    OutputFile("2", "a/b_00001_.png", "image", "image/png", b"pixels", 6, 4, 4),
    OutputFile("2", "c.wav", "audio", "audio/wav", b"sound", 5, None, None),
)

NO_FILES: Mapping[str, Uploaded] = {}


@dataclass
class Life:
    """A server between its start and its end."""

    services: Services
    engine: FakeEngine
    background: Background

    @property
    def journal(self) -> Journal:
        return self.background._journal

    async def accept(self, uploads: Mapping[str, Uploaded] = NO_FILES, **fields: Any) -> Answer:
        """Send a request, the usual graph if no other is given; return the body of its 202."""
        async with AsyncExitStack() as files:
            return await self.background.accept(request(**fields), uploads, files)

    async def unfinished(self) -> list[AcceptedJob]:
        return await self.journal.unfinished()

    async def end(self) -> None:
        """End as a process does that is given no time."""
        await self.background.close()
        await end(self.services)


Live = Callable[..., Awaitable[Life]]


async def lives(folder: Path) -> AsyncIterator[Live]:
    """Give what starts a server, when the one before it has ended; for a fixture."""
    begun: list[Life] = []

    async def live(
        script: Script = one_image,
        *,
        engine: FakeEngine | None = None,
        accepting: Mapping[str, Any] | None = None,
        resume: bool = True,
        **settings: Any,
    ) -> Life:
        engine = engine or loading_engine(script)
        services = services_for(engine, folder, Phase.READY, **settings)
        how = {"sleep": soon, **(accepting or {})}
        begun.append(Life(services, engine, background_for(services, **how)))
        await begun[-1].background.open()
        if resume:
            await begun[-1].background.resume()
        return begun[-1]

    yield live
    for life in begun:
        await life.end()


async def soon(_: float) -> None:
    """Stand in for ``asyncio.sleep`` where a test need not wait long."""
    await asyncio.sleep(0.005)


def request(**fields: Any) -> PromptRequest:
    return parse_prompt(json.dumps({"prompt": graph(), **fields}).encode())


def prepared(**fields: Any) -> PreparedPrompt:
    return PreparedPrompt(
        "run", "a", **{"graph": graph("a_picture"), "name_prefix": "a_", **fields}
    )


def result(urls: tuple[str, ...] | None = None, **fields: Any) -> PromptResult:
    texts = (NodeText("2", "text"),)
    return PromptResult("a", graph("a_p"), OUTPUTS, texts, {"total_time": 1}, fields, urls)


def loading_engine(script: Script = one_image, **how: Any) -> FakeEngine:
    """Return an engine whose graphs may load images."""
    loader = NodeClass(is_output=False, has_prefix=False, default_prefix=None)
    slots = {LOADER: {"image": MediaInput(FileForm.NAME, is_marked=True)}}
    return FakeEngine(script, classes={**CLASSES, LOADER: loader}, file_inputs=slots, **how)


def loading_graph(*images: str) -> dict[str, Any]:
    """Return a graph that loads these."""
    loaders = {
        f"load-{number}": {"class_type": LOADER, "inputs": {"image": image}}
        for number, image in enumerate(images)
    }
    return {**loaders, **graph()}


class Loaded:
    """A script that gives what a job's nodes have loaded, when it is let; ``engine`` is its own."""

    def __init__(self, *, is_open: bool = True) -> None:
        self.is_open = asyncio.Event()
        self.engine = loading_engine(self)
        if is_open:
            self.is_open.set()

    async def __call__(self, play: Play) -> None:
        loaders = [n for n in play.prompt.graph.values() if n["class_type"] == LOADER]
        contents = [self.engine.inputs[node["inputs"]["image"]] for node in loaders]
        await self.is_open.wait()
        for number, (content,) in enumerate(contents):
            play.file(f"{number}.bin", content)


def png(seed: int, size: int = 4) -> bytes:
    """Return a picture; those of different seeds differ."""
    file = BytesIO()
    noise = random.Random(seed).randbytes(size * size)
    Image.frombytes("L", (size, size), noise).save(file, "PNG")
    return file.getvalue()


def messages(receiver: Receiver) -> list[Any]:
    """Return what a receiver has got, as JSON."""
    return [json.loads(got.body) for got in receiver.received]
