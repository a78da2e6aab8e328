"""Stand-ins for what tests cannot have: an engine that plays a script instead of running nodes."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence, Set
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from comfyui_stateless.engine import (
    CapturedImage,
    DeviceMemory,
    Execution,
    FileForm,
    FileInput,
    Graph,
    InputFile,
    LinkedModel,
    NodeClass,
    NodeFile,
    NodeText,
    NodeTimes,
    Observer,
    PreparedPrompt,
    Workspace,
)
from comfyui_stateless.errors import InvalidInput, InvalidPrompt
from comfyui_stateless.timing import unix_ms

CLASSES = {
    "EmptyImage": NodeClass(is_output=False, has_prefix=False, default_prefix=None),
    "PreviewAny": NodeClass(is_output=True, has_prefix=False, default_prefix=None),
    "SaveImage": NodeClass(is_output=True, has_prefix=True, default_prefix="ComfyUI"),
}

PIXELS: npt.NDArray[np.uint8] = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)

PLAIN_PNG_CHUNK = (("prompt", "{}"),)

MODEL_FOLDERS = {
    "checkpoints": frozenset({".ckpt", ".safetensors"}),
    "loras": frozenset({".safetensors"}),
    "diffusers": frozenset({"folder"}),
    "anything": frozenset[str](),
}


class FakeWorkspace:
    """A folder that is made when first asked for."""

    def __init__(self, parent: Path) -> None:
        self._path = parent / "run"
        self._releases: list[Callable[[], None]] = []

    def folder(self) -> Path:
        self._path.mkdir(exist_ok=True)
        return self._path

    def defer(self, release: Callable[[], None]) -> None:
        self._releases.append(release)

    def leave(self) -> None:
        while self._releases:
            self._releases.pop()()


@dataclass
class Play:
    """One run of a script: what it was given, and ways to make outputs."""

    prompt: PreparedPrompt
    observer: Observer
    workspace: Workspace
    files: list[NodeFile] = field(default_factory=list)
    texts: list[NodeText] = field(default_factory=list)
    written: int = 0

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
        path = self._write(content)
        self.files.append(NodeFile(self.output_node, filename, temp, path))
        return path

    def early_file(self, filename: str, content: bytes | int, *, temp: bool = False) -> Path:
        """Write a file whose node is done before the run is."""
        path = self._write(content)
        self.observer.file(NodeFile(self.output_node, filename, temp, path))
        return path

    def _write(self, content: bytes | int) -> Path:
        path = self.workspace.folder() / f"file-{self.written}"
        self.written += 1
        with path.open("wb") as stream:
            if isinstance(content, int):
                stream.truncate(content)
            else:
                stream.write(content)
        return path

    def text(self, text: str) -> None:
        self.texts.append(NodeText(self.output_node, text))

    def event(self, name: str, **data: Any) -> None:
        """Give an event, in ComfyUI's terms, to whoever wants it."""
        if self.observer.wants(name):
            self.observer.event(name, {"prompt_id": self.prompt.id, **data})


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
        inputs: What lies in the input folder for jobs: the contents of the files, by the value
            that their node gets.
        given: Every value that ``add_input`` gave out, in order.
        devices: The memory of the devices.
        links: Where the links in model folders lead, by folder and name.
    """

    def __init__(
        self,
        script: Script = one_image,
        *,
        classes: Mapping[str, NodeClass] = CLASSES,
        replaced: Set[str] = frozenset(),
        invalid: Exception | None = None,
        trouble: str | None = None,
        model_files: dict[str, list[str]] | None = None,
        file_inputs: Mapping[str, Mapping[str, FileInput]] | None = None,
        files: Mapping[str, Path] | None = None,
        model_folders: Mapping[str, frozenset[str]] = MODEL_FOLDERS,
        models_root: Path | None = None,
        definitions: Mapping[str, dict[str, Any]] | None = None,
    ) -> None:
        """Make an engine.

        Args:
            replaced: Classes that are not there, but for which others would be taken.
            file_inputs: By class and input name.
            files: What lies in ComfyUI's folders, by the text that names it.
            model_folders: The extensions of each.
            models_root: Where links are really made; None remembers them only.
            definitions: What ComfyUI says of classes, for workflow endpoints.
        """
        self.script = script
        self.invalid = invalid
        self.ran: list[str] = []
        self.stopped: list[str] = []
        self.prompts: list[PreparedPrompt] = []
        self.workspaces: list[Path] = []
        self._classes = classes
        self._known_classes = {*classes, *(file_inputs or ()), *replaced}
        self._trouble = trouble
        self._model_files = model_files or {}
        self.inputs: dict[str, tuple[bytes, ...]] = {}
        self.given: list[str] = []
        self.links: dict[tuple[str, str], Path] = {}
        self._file_inputs = file_inputs or {}
        self._files = files or {}
        self._model_folders = model_folders
        self._models_root = models_root
        self._definitions = definitions or {}
        self.definitions_asked = 0
        self.devices: tuple[DeviceMemory, ...] = ()
        self._depth = 0
        self._worker = asyncio.Lock()

    async def start(self) -> None:
        pass

    def node_class(self, class_type: str) -> NodeClass | None:
        return self._classes.get(class_type)

    def check_classes(self, graph: Graph, extra_data: Mapping[str, Any]) -> None:
        classes = {node_id: node["class_type"] for node_id, node in graph.items()}
        missing = {n: c for n, c in classes.items() if c not in self._known_classes}
        if missing:
            node_errors = {n: {"errors": [], "class_type": c} for n, c in missing.items()}
            raise InvalidPrompt("No such class.", details={"node_errors": node_errors})

    async def learn_inputs(self) -> None:
        pass

    def file_inputs(self, class_type: str) -> Mapping[str, FileInput]:
        return self._file_inputs.get(class_type, {})

    def find_file(self, value: str) -> Path | None:
        return self._files.get(value)

    async def add_input(
        self, files: Sequence[InputFile], form: FileForm, workspace: Workspace
    ) -> str:
        name = "-".join(file.digest[:32] for file in files)
        if form in (FileForm.NAME, FileForm.PATH):
            name += files[0].extension
        value = f"/input/{name}" if form in (FileForm.PATH, FileForm.FOLDER_PATH) else name
        self.given.append(value)
        self.inputs[value] = tuple(file.path.read_bytes() for file in files)
        workspace.defer(partial(self._remove_input, value))
        return value

    def _remove_input(self, value: str) -> None:
        self.inputs.pop(value, None)

    def model_extensions(self, folder: str) -> frozenset[str]:
        if folder not in self._model_folders:
            raise InvalidInput(f"There is no model folder {folder}.")
        return self._model_folders[folder]

    def model_file(self, folder: str, name: str) -> Path | None:
        path = (self._models_root or Path("models")) / folder / name
        return path if path.exists() else None

    async def link_model(
        self, folder: str, name: str, target: Path, *, replace: bool = False
    ) -> LinkedModel:
        self.model_extensions(folder)
        known = self.links.get((folder, name), target)
        path = (self._models_root or Path("models")) / folder / name
        is_foreign = path.exists() and not path.is_symlink()
        if is_foreign or (known != target and not replace):
            raise InvalidInput(f"{name} is there already.")
        self.links[folder, name] = target
        if self._models_root is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.unlink(missing_ok=True)
            path.symlink_to(target)
        return LinkedModel(name, path)

    @asynccontextmanager
    async def workspace(self, run_id: str) -> AsyncIterator[FakeWorkspace]:
        with tempfile.TemporaryDirectory() as parent:
            self.workspaces.append(Path(parent))
            workspace = FakeWorkspace(Path(parent))
            try:
                yield workspace
            finally:
                workspace.leave()

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

    def variables(self) -> dict[str, str]:
        return {"COMFY_HOME": "/comfyui"}

    async def definitions(self, class_types: Iterable[str]) -> dict[str, dict[str, Any]]:
        self.definitions_asked += 1
        return {c: self._definitions[c] for c in class_types if c in self._definitions}

    @property
    def version(self) -> str:
        return "0.0.0"

    async def memory(self) -> tuple[DeviceMemory, ...]:
        return self.devices

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

    def load_ahead(self) -> None:
        pass

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


async def eventually(condition: Callable[[], bool], within_s: float = 10) -> None:
    """Wait until ``condition`` holds; fail if it does not in time.

    ``within_s`` is for machines with much else to do, unless a test says how soon it has to be.
    """
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
