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


def time_savers() -> None:
    """Time every image saver's call, where ComfyUI makes it.

    The savers themselves stay as they are: the extension leaves alone what a pack has wrapped.
    """
    original = execution._async_map_node_over_list  # noqa: SLF001  there is no other place

    @functools.wraps(original)
    async def call(
        prompt_id: Any, unique_id: Any, obj: Any, inputs: Any, func: str, *args: Any, **kwargs: Any
    ) -> Any:
        began = time.perf_counter()
        result = await original(prompt_id, unique_id, obj, inputs, func, *args, **kwargs)
        if func == "save_images":
            seconds = time.perf_counter() - began
            name, images = type(obj).__name__, inputs["images"][0]
            saves.append((name, seconds, images.shape[:3].numel() / 1e6))
        return result

    execution._async_map_node_over_list = call  # noqa: SLF001  as above


def timed_settlement(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``original``, the queue's ``task_done``, with a clock."""

    @functools.wraps(original)
    def task_done(*args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        result = original(*args, **kwargs)
        settlements.append(time.perf_counter() - began)
        return result

    return task_done


def time_executions() -> None:
    """Time every prompt from the moment that ComfyUI begins to execute it until it is through."""
    timed: list[Any] = []
    original = execution.PromptExecutor.execute

    def execute(self: Any, *args: Any, **kwargs: Any) -> Any:
        queue = self.server.prompt_queue
        if queue not in timed:  # what packs do to it is done by now
            timed.append(queue)
            queue.task_done = timed_settlement(queue.task_done)
        began = time.perf_counter()
        try:
            return original(self, *args, **kwargs)
        finally:
            executions.append((began, time.perf_counter()))

    execution.PromptExecutor.execute = execute


time_executions()
time_savers()

NODE_CLASS_MAPPINGS = {
    "BenchmarkLargeFile": LargeFile,
    "BenchmarkGate": Gate,
    "BenchmarkRepeats": Repeats,
}
