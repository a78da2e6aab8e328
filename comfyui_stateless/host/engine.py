"""The engine that runs prompts inside this process's ComfyUI."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import folder_paths
import torch
from comfy import model_management
from comfyui_version import __version__ as comfyui_version

from ..engine import (
    DeviceMemory,
    Execution,
    FileForm,
    FileInput,
    Graph,
    InputFile,
    LinkedModel,
    NodeClass,
    Observer,
    PreparedPrompt,
    Workspace,
)
from ..errors import ExecutionError
from .ahead import Ahead, Loads
from .cancel import Canceller
from .capture import Savers
from .catalog import Catalog
from .claims import Claims
from .definitions import definitions
from .descriptors import Descriptors
from .discretion import Discretion
from .events import Events
from .failures import breaks_device
from .files import Folders, RunFolder, places, sweep
from .inputs import InputFiles, find_file
from .learn import Expanders
from .leftovers import Leftovers
from .models import CODE_FOLDER, ModelFolders
from .mount import PREFIX
from .previews import SUPPORT
from .runs import Run, Runs
from .sparing import sparing
from .strays import Strays
from .submit import Accepted, Submission
from .variables import variables
from .watchdog import Watchdog

log = logging.getLogger("comfyui_stateless.host")

WATCH_INTERVAL_S = 0.2
"""How often live runs are looked for in ComfyUI's queue, and its worker among the threads."""


class ComfyEngine:
    """Runs prompts on a PromptServer. Make one in a process, and call ``install`` once.

    Args:
        cache_folder: Where fetched files are kept; links into it are ours. None if nowhere.

    Attributes:
        on_status: Called on the loop's thread with how long ComfyUI's queue is, in the form of
            its own ``status`` event, whenever that has changed.
    """

    def __init__(self, server: Any, cache_folder: Path | None = None) -> None:
        self._server = server
        self._runs = Runs()
        self._catalog = Catalog()
        self._folders = Folders(Leftovers().take)
        self._inputs = InputFiles()
        self._model_folders = ModelFolders(cache_folder)
        self._expanders = Expanders()
        self._watchdog = Watchdog(server, self._runs)
        self._submission = Submission(server, self._catalog, Savers(self._runs), self._expanders)
        self._ahead = Ahead(self._runs)
        self._claims = Claims()
        self._strays = Strays(self._claims)
        self._canceller = Canceller(server, self._watchdog.breaks)
        self._descriptors = Descriptors(self._watchdog.ends)
        self._events = Events(server, self._runs, self._expanders, self._tell_status)
        self.on_status: Callable[[Mapping[str, Any]], None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._learning: asyncio.Task[None] | None = None

    def install(self) -> None:
        """Put our hooks into ComfyUI."""
        self._events.install()
        self._watchdog.install()
        self._ahead.install()
        Discretion(self._runs).install()
        spared = sparing(self._server, self._runs, self._strays, f"{PREFIX}/")
        self._server.app.middlewares.append(spared)

    async def start(self) -> None:
        """Delete what a killed process left, and see that the output folder can be written.

        The node classes are asked for their inputs meanwhile; a prompt that comes first waits.

        Raises:
            OSError: It cannot.
        """
        self._events.hold()  # all packs are loaded now
        self._events.remember_process()
        self._watchdog.remember()
        self._learning = asyncio.ensure_future(self.learn_inputs())
        await asyncio.to_thread(self._claims.hold, places())
        await asyncio.to_thread(sweep, self._claims)
        async with self.workspace("start") as folder:
            await asyncio.to_thread(folder.folder)

    def node_class(self, class_type: str) -> NodeClass | None:
        return self._catalog.node_class(class_type)

    def check_classes(self, graph: Graph, extra_data: Mapping[str, Any]) -> None:
        self._submission.check_classes(graph, extra_data)

    async def learn_inputs(self) -> None:
        await self._catalog.learn_inputs()

    def file_inputs(self, class_type: str) -> Mapping[str, FileInput]:
        return self._catalog.file_inputs(class_type)

    def find_file(self, value: str) -> Path | None:
        return find_file(value)

    async def add_input(
        self, files: Sequence[InputFile], form: FileForm, workspace: Workspace
    ) -> str:
        assert isinstance(workspace, RunFolder)
        return await self._inputs.add(files, form, workspace)

    def model_extensions(self, folder: str) -> frozenset[str]:
        return self._model_folders.extensions(folder)

    def model_file(self, folder: str, name: str) -> Path | None:
        return self._model_folders.file(folder, name)

    async def link_model(
        self, folder: str, name: str, target: Path, *, replace: bool = False
    ) -> LinkedModel:
        return await asyncio.to_thread(
            self._model_folders.link, folder, name, target, replace=replace
        )

    def workspace(self, run_id: str) -> AbstractAsyncContextManager[RunFolder]:
        return self._folders.workspace(run_id)

    async def validate(self, prompt: PreparedPrompt, workspace: Workspace) -> ComfyRunnable:
        assert isinstance(workspace, RunFolder)
        accepted = await self._submission.validate(prompt, workspace)
        loads = self._ahead.loads(accepted.plan.graph)
        return ComfyRunnable(self, accepted, workspace, loads)

    def queue_depth(self) -> int:
        return int(self._server.prompt_queue.get_tasks_remaining())

    def trouble(self) -> str | None:
        return self._watchdog.trouble() or self._canceller.trouble()

    async def models(self) -> dict[str, list[str]]:
        return await asyncio.to_thread(_models)

    def variables(self) -> dict[str, str]:
        return variables()

    async def definitions(self, class_types: Iterable[str]) -> dict[str, dict[str, Any]]:
        return await asyncio.to_thread(definitions, tuple(class_types))

    @property
    def version(self) -> str:
        return str(comfyui_version)

    async def memory(self) -> tuple[DeviceMemory, ...]:
        return await asyncio.to_thread(_memory)

    async def run(
        self,
        accepted: Accepted,
        folder: RunFolder,
        loads: Loads,
        observer: Observer,
        ended: Callable[[], None],
    ) -> Execution:
        """Put a prompt into ComfyUI's queue and wait for its end; cancelling stops it."""

        def over() -> None:
            self._runs.remove(run)
            folder.idle()
            self._expect_no_previews(run)
            loads.drop()
            ended()

        run = Run(accepted, folder, loads, self._strays, observer, over)
        self._events.hold()
        folder.busy()
        self._runs.add(run)
        self._watch()
        try:
            if previews := observer.wants("preview"):
                self._server.sockets_metadata[run.client_id] = SUPPORT
            run.item = self._submission.put(accepted, run.client_id, previews=previews)
            self._watchdog.note(run)
        except Exception:  # another pack's doing: the run never comes to its end
            over()
            raise
        try:
            return await run.result()
        except asyncio.CancelledError:
            self._canceller.stop(run)
            raise
        except ExecutionError as error:
            if breaks_device(error):
                await self._probe_device()
            raise

    def _expect_no_previews(self, run: Run) -> None:
        with contextlib.suppress(Exception):  # a pack may have put anything in its place
            self._server.sockets_metadata.pop(run.client_id, None)

    def _tell_status(self, data: Mapping[str, Any]) -> None:
        if self.on_status is not None:
            self.on_status(data)

    def _watch(self) -> None:
        if self._watching is None or self._watching.done():
            self._descriptors.watch()
            self._watching = asyncio.ensure_future(self._watched())

    async def _watched(self) -> None:
        while self._runs.all():
            await asyncio.sleep(WATCH_INTERVAL_S)
            try:
                self._events.hold()
                self._watchdog.look()
                self._watchdog.put_back()
            except Exception:  # of what a pack has put in place; the next look may do
                log.exception("ComfyUI's queue could not be looked at")

    async def _probe_device(self) -> None:
        """End the process if the device answers no more: each prompt would fail at once, for ever."""
        try:
            await asyncio.to_thread(_use_device)
        except Exception as error:  # noqa: BLE001  whatever it is, the device is of no use
            self._watchdog.breaks(f"The device fails after an error in a node: {error}.")


class ComfyRunnable:
    """A prompt that ComfyUI's validation has passed, ready to be queued."""

    def __init__(
        self, engine: ComfyEngine, accepted: Accepted, folder: RunFolder, loads: Loads
    ) -> None:
        self._engine = engine
        self._accepted = accepted
        self._folder = folder
        self._loads = loads

    def load_ahead(self) -> None:
        self._folder.defer(self._loads.drop)
        self._loads.begin()

    async def run(self, observer: Observer, ended: Callable[[], None]) -> Execution:
        return await self._engine.run(self._accepted, self._folder, self._loads, observer, ended)


def _models() -> dict[str, list[str]]:
    folders = [name for name in folder_paths.folder_names_and_paths if name != CODE_FOLDER]
    return {name: _files_of(name) for name in folders}


def _files_of(folder: str) -> list[str]:
    try:
        return list(folder_paths.get_filename_list(folder))
    except Exception:  # packs register folders, and list them in ways of their own
        log.warning("The model folder %s could not be listed", folder, exc_info=True)
        return []


def _memory() -> tuple[DeviceMemory, ...]:
    device = model_management.get_torch_device()
    if model_management.is_device_cpu(device):
        return ()
    free = model_management.get_free_memory(device)
    total = model_management.get_total_memory(device)
    return (DeviceMemory(str(device), int(free), int(total)),)


def _use_device() -> None:
    torch.zeros(1, device=model_management.get_torch_device()).add_(1).cpu()
