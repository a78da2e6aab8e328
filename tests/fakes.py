"""Stand-ins for what tests cannot have: an engine that plays a script instead of running nodes."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from comfyui_stateless.engine import (
    CapturedImage,
    Execution,
    NodeClass,
    NodeFile,
    NodeText,
    NodeTimes,
    Observer,
    PreparedPrompt,
    Workspace,
)
from comfyui_stateless.timing import unix_ms

CLASSES = {
    "EmptyImage": NodeClass(is_output=False, has_prefix=False, default_prefix=None),
    "PreviewAny": NodeClass(is_output=True, has_prefix=False, default_prefix=None),
    "SaveImage": NodeClass(is_output=True, has_prefix=True, default_prefix="ComfyUI"),
}

PIXELS: npt.NDArray[np.uint8] = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)

PLAIN_PNG_CHUNK = (("prompt", "{}"),)


class FakeWorkspace:
    """A folder that is made when first asked for."""

    def __init__(self, parent: Path) -> None:
        self._path = parent / "run"

    def folder(self) -> Path:
        self._path.mkdir(exist_ok=True)
        return self._path


@dataclass
class Play:
    """One run of a script: what it was given, and ways to make outputs."""

    prompt: PreparedPrompt
    observer: Observer
    workspace: Workspace
    files: list[NodeFile] = field(default_factory=list)
    texts: list[NodeText] = field(default_factory=list)

    @property
    def output_node(self) -> str:
        return list(self.prompt.graph)[-1]

    def image(
        self, filename: str = "", pixels: npt.NDArray[np.uint8] = PIXELS, *, temp: bool = False
    ) -> None:
        """Give an image as a captured node does, named after the node's prefix if not otherwise."""
        prefix = self.prompt.graph[self.output_node]["inputs"].get("filename_prefix", "image")
        name = filename or f"{prefix}_00001_.png"
        image = CapturedImage(self.output_node, name, temp, pixels, lambda: PLAIN_PNG_CHUNK)
        self.observer.image(image)

    def file(self, filename: str, content: bytes | int, *, temp: bool = False) -> Path:
        """Write a file; a number as content is the size of a file of zeros that takes no space."""
        path = self.workspace.folder() / f"file-{len(self.files)}"
        with path.open("wb") as stream:
            if isinstance(content, int):
                stream.truncate(content)
            else:
                stream.write(content)
        self.files.append(NodeFile(self.output_node, filename, temp, path))
        return path

    def text(self, text: str) -> None:
        self.texts.append(NodeText(self.output_node, text))


Script = Callable[[Play], Awaitable[None]]


async def one_image(play: Play) -> None:
    play.image()


class FakeEngine:
    """Implements ``Engine``: runs one prompt at a time by playing ``script``.

    Attributes:
        invalid: What ``validate`` raises, if anything.
        ran: The ids of the prompts that began to run, in order.
        stopped: The ids of the prompts whose run was cancelled.
        prompts: The prepared prompts that were validated, in order.
        workspaces: The parent folders of all workspaces, to see that they are gone.
    """

    def __init__(
        self,
        script: Script = one_image,
        *,
        classes: Mapping[str, NodeClass] = CLASSES,
        invalid: Exception | None = None,
        trouble: str | None = None,
        model_files: dict[str, list[str]] | None = None,
    ) -> None:
        self.script = script
        self.invalid = invalid
        self.ran: list[str] = []
        self.stopped: list[str] = []
        self.prompts: list[PreparedPrompt] = []
        self.workspaces: list[Path] = []
        self._classes = classes
        self._trouble = trouble
        self._model_files = model_files or {}
        self._depth = 0
        self._worker = asyncio.Lock()

    async def start(self) -> None:
        pass

    def node_class(self, class_type: str) -> NodeClass | None:
        return self._classes.get(class_type)

    @asynccontextmanager
    async def workspace(self, run_id: str) -> AsyncIterator[FakeWorkspace]:
        with tempfile.TemporaryDirectory() as parent:
            self.workspaces.append(Path(parent))
            yield FakeWorkspace(Path(parent))

    async def validate(self, prompt: PreparedPrompt, workspace: Workspace) -> FakeRunnable:
        if self.invalid is not None:
            raise self.invalid
        self.prompts.append(prompt)
        return FakeRunnable(self, prompt, workspace)

    def queue_depth(self) -> int:
        return self._depth

    def trouble(self) -> str | None:
        return self._trouble

    async def models(self) -> dict[str, list[str]]:
        return self._model_files

    async def play(self, play: Play, ended: Callable[[], None]) -> None:
        self._depth += 1
        try:
            async with self._worker:
                self.ran.append(play.prompt.id)
                play.observer.started()
                await self.script(play)
        except asyncio.CancelledError:
            self.stopped.append(play.prompt.id)
            raise
        finally:
            self._depth -= 1
            ended()


@dataclass
class FakeRunnable:
    """A prompt that passed the fake's validation."""

    engine: FakeEngine
    prompt: PreparedPrompt
    workspace: Workspace

    async def run(self, observer: Observer, ended: Callable[[], None]) -> Execution:
        play = Play(self.prompt, observer, self.workspace)
        started = unix_ms()
        await self.engine.play(play, ended)
        now = unix_ms()
        return Execution(
            prompt=self.prompt.graph,
            started=started,
            ended=now,
            nodes={node_id: NodeTimes(started, now, False) for node_id in self.prompt.graph},
            files=tuple(play.files),
            texts=tuple(play.texts),
        )


def graph(prefix: str | None = "picture") -> dict[str, Any]:
    """Return a small graph whose last node saves an image."""
    inputs = {"images": ["1", 0], **({} if prefix is None else {"filename_prefix": prefix})}
    return {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 4, "height": 4}},
        "2": {"class_type": "SaveImage", "inputs": inputs},
    }


async def eventually(condition: Callable[[], bool], within_s: float = 5) -> None:
    """Wait until ``condition`` holds; fail if it does not in time."""
    deadline = asyncio.get_running_loop().time() + within_s
    while not condition():
        assert asyncio.get_running_loop().time() < deadline, "it did not come to pass"
        await asyncio.sleep(0.005)


class Gate:
    """A script that holds every run until it is opened, then gives one image."""

    def __init__(self) -> None:
        self.is_open = asyncio.Event()

    async def __call__(self, play: Play) -> None:
        await self.is_open.wait()
        play.image()
