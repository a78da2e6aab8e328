"""Nodes and clocks that the benchmarks load into ComfyUI.

The clocks are wrappers of a microsecond each round what is measured; they take both sides alike.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import execution
import folder_paths
import nodes
from aiohttp import web
from server import PromptServer

MIB = 2**20
GATE_OPENS_AFTER_S = 600

executions: list[tuple[float, float]] = []
saves: list[tuple[str, float, float]] = []
settlements: list[float] = []
opened = threading.Event()


class LargeFile:
    """Writes a file of many MiB: one block of noise over and over, each with its number in front."""

    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_NODE = (), "run", "benchmark", True

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802  ComfyUI's name
        return {
            "required": {
                "mib": ("INT", {"default": 1}),
                "noise": ("STRING", {"default": ""}),
                "filename_prefix": ("STRING", {"default": "large"}),
            }
        }

    def run(self, mib: int, noise: str, filename_prefix: str) -> dict[str, Any]:
        folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
            filename_prefix, folder_paths.get_output_directory()
        )
        file = f"{name}_{counter:05}_.bin"
        block = bytes.fromhex(noise) * (MIB * 2 // len(noise))
        with Path(folder, file).open("wb") as stream:
            for number in range(mib):
                stream.write(number.to_bytes(8, "big") + block[8:])
        return {"ui": {"files": [{"filename": file, "subfolder": subfolder, "type": "output"}]}}


class Gate:
    """Passes an image on when ``POST /benchmark/open`` comes; until then whatever is queued waits."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE",), "run", "benchmark"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802  ComfyUI's name
        return {"required": {"image": ("IMAGE",), "nonce": ("INT", {"default": 0})}}

    def run(self, image: Any, nonce: int) -> tuple[Any]:
        if not opened.wait(GATE_OPENS_AFTER_S):
            raise TimeoutError("Nobody opened the gate.")
        opened.clear()
        return (image,)


class Repeats:
    """Gives an image many times, in a batch that holds it once."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE",), "run", "benchmark"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802  ComfyUI's name
        return {"required": {"image": ("IMAGE",), "times": ("INT", {"default": 1, "max": 10_000})}}

    def run(self, image: Any, times: int) -> tuple[Any]:
        return (image.expand(times, *image.shape[1:]),)


@PromptServer.instance.routes.post("/benchmark/open")  # type: ignore[untyped-decorator]
async def open_gate(_: web.Request) -> web.Response:
    """Let the prompt at the gate go on."""
    opened.set()
    return web.json_response({})


@PromptServer.instance.routes.post("/benchmark/clocks")  # type: ignore[untyped-decorator]
async def read_clocks(_: web.Request) -> web.Response:
    """Return what was measured since the last call, all in seconds.

    ``executions``: begin and end of each prompt's execution, in order; ``saves``: class, time and
    megapixels of each image saver's call; ``settlements``: time of each ``task_done``.
    """
    read = {"executions": executions[:], "saves": saves[:], "settlements": settlements[:]}
    for clock in (executions, saves, settlements):
        clock.clear()
    return web.json_response(read)


def timed_saver(cls: type, original: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``original``, the ``save_images`` of a class, with a clock."""

    @functools.wraps(original)
    def save_images(self: Any, images: Any, *args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        result = original(self, images, *args, **kwargs)
        seconds = time.perf_counter() - began
        saves.append((cls.__name__, seconds, images.shape[:3].numel() / 1e6))
        return result

    return save_images


def timed_settlement(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``original``, the queue's ``task_done``, with a clock."""

    @functools.wraps(original)
    def task_done(*args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        result = original(*args, **kwargs)
        settlements.append(time.perf_counter() - began)
        return result

    return task_done


class Clocks:
    """Puts clocks on what may be registered after this pack is loaded: at each execution."""

    def __init__(self) -> None:
        self._timed: set[type] = set()
        self._known = 0

    def install(self, queue: Any) -> None:
        """Time every image saver, and the queue, unless that is done already."""
        if not self._known:
            queue.task_done = timed_settlement(queue.task_done)
        if self._known == len(nodes.NODE_CLASS_MAPPINGS):
            return
        self._known = len(nodes.NODE_CLASS_MAPPINGS)
        for cls in nodes.NODE_CLASS_MAPPINGS.values():
            if "save_images" in vars(cls) and cls not in self._timed:
                self._timed.add(cls)
                cls.save_images = timed_saver(cls, cls.save_images)


def time_executions() -> None:
    """Time every prompt from the moment that ComfyUI begins to execute it until it is through."""
    clocks = Clocks()
    original = execution.PromptExecutor.execute

    def execute(self: Any, *args: Any, **kwargs: Any) -> Any:
        clocks.install(self.server.prompt_queue)
        began = time.perf_counter()
        try:
            return original(self, *args, **kwargs)
        finally:
            executions.append((began, time.perf_counter()))

    execution.PromptExecutor.execute = execute


time_executions()

NODE_CLASS_MAPPINGS = {
    "BenchmarkLargeFile": LargeFile,
    "BenchmarkGate": Gate,
    "BenchmarkRepeats": Repeats,
}
