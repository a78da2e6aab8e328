"""Image savers that hand their pixels over instead of compressing and writing them.

In our copy of a graph ``SaveImage``, ``PreviewImage`` and ``SaveImageWebsocket`` are replaced by
subclasses of the classes registered under these names. The tensor becomes uint8 on the thread
that runs nodes, because a node behind it may change the tensor in place; everything else happens
on the encoder threads.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, Protocol

import folder_paths
import nodes
import numpy as np
import numpy.typing as npt
import torch
from comfy.cli_args import args
from comfy_execution.utils import get_executing_context

from ..naming import leaves_folder
from .originals import is_original

FOLDER_CLASS = "StatelessFolder"
PREFIX = "filename_prefix"
BAND = 786_432
"""Values that are scaled at a time, 3 MiB of float32: smaller ones would have this thread ask for the
interpreter's lock more often."""

_NUMPY_TYPES = (torch.float32, torch.float64)
_HALF_BAND = 32_000
"""Values of half precision that are scaled at a time: too few for torch to split over threads."""

Pixels = npt.NDArray[np.uint8]


class Saver(NamedTuple):
    """A saver of ours: the name that it is registered under, its class, whether it passes images on."""

    name: str
    passes_on: bool
    node_class: type


class Metadata:
    """The text chunks that ``SaveImage`` embeds, made once, on the thread that first asks."""

    def __init__(self, prompt: Any, extra_pnginfo: Mapping[str, Any] | None) -> None:
        self._prompt = prompt
        self._extra = extra_pnginfo or {}
        self._lock = threading.Lock()
        self._chunks: tuple[tuple[str, str], ...] | None = None

    @property
    def is_empty(self) -> bool:
        """Whether the saver was given nothing to embed."""
        return self._prompt is None and not self._extra

    def __call__(self) -> tuple[tuple[str, str], ...]:
        """Return pairs of keyword and text, in the order of ``SaveImage``."""
        with self._lock:
            if self._chunks is None:
                self._chunks = () if args.disable_metadata else tuple(self._dumped())
            return self._chunks

    def _dumped(self) -> Iterable[tuple[str, str]]:
        if self._prompt is not None:
            # ComfyUI writes into it what IS_CHANGED gives, which may be anything.
            yield "prompt", json.dumps(self._prompt, default=str)
        for key, value in self._extra.items():
            yield key, json.dumps(value)


class ImageSink(Protocol):
    """A run, as its savers see it."""

    def take(
        self, node_id: str, prefix: str | None, images: Any, metadata: Metadata, *, temp: bool
    ) -> None: ...


class Runs(Protocol):
    """Gives the live run of ours with a prompt id, None for the prompts of others."""

    def get(self, prompt_id: str) -> ImageSink | None: ...


class Savers:
    """Makes and registers our savers, as needed.

    Each follows the class that is registered now: a pack may put its own in place of ComfyUI's
    after we were loaded. A class whose saving is not ComfyUI's own, or which names its files by a
    function that is not, is left alone; its files are collected from the disk.
    """

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self._bases: dict[str, tuple[Any, ...]] = {}
        self._savers: dict[str, Saver | None] = {}

    def saver(self, class_type: str) -> Saver | None:
        """Return our saver for a class_type, None where there is none.

        Our classes are registered anew each time: a pack may have taken away what it does not know.
        """
        registered = nodes.NODE_CLASS_MAPPINGS
        registered[FOLDER_CLASS] = StatelessFolder
        if class_type not in _SAVES:
            return None
        base = registered.get(class_type)
        known = (base, getattr(base, "save_images", None), folder_paths.get_save_image_path)
        if known != self._bases.get(class_type):
            self._bases[class_type] = known
            self._savers[class_type] = self._made(class_type, base)
        if saver := self._savers[class_type]:
            registered[saver.name] = saver.node_class
        return saver

    def _made(self, class_type: str, base: Any) -> Saver | None:
        if not _saves_as_comfyui(base, *_SAVES[class_type]):
            return None
        passes_on = bool(base.RETURN_TYPES)
        return Saver(f"Stateless{class_type}", passes_on, capturing(base, self._runs))


def capturing(base: Any, runs: Runs) -> type:
    """Return a subclass of an image saver that hands its images to the run it belongs to.

    In a prompt of somebody else it saves as its base does.
    """
    takes_prefix = PREFIX in base.INPUT_TYPES().get("required", {})
    looks_at_first = issubclass(base, nodes.SaveImage)

    def save_images(self: Any, images: Any, **given: Any) -> dict[str, Any]:
        context = get_executing_context()
        run = runs.get(context.prompt_id) if context else None
        if run is None or context is None:
            return base.save_images(self, images, **given)  # type: ignore[no-any-return]
        if looks_at_first:
            images[0]  # an empty batch fails there, with this error
        run.take(
            context.node_id,
            given.get(PREFIX) if takes_prefix else None,
            images,
            Metadata(given.get("prompt"), given.get("extra_pnginfo")),
            temp=getattr(self, "type", "output") == "temp",
        )
        return {"ui": {"images": []}, **({"result": (images,)} if base.RETURN_TYPES else {})}

    return type(
        f"Stateless{base.__name__}",
        (base,),
        {
            "__doc__": "Hands images to the stateless API; made for it, not for the editor.",
            "CATEGORY": "stateless",
            "DEPRECATED": True,
            "DEV_ONLY": True,
            "save_images": save_images,
        },
    )


def to_uint8(image: torch.Tensor) -> Pixels:
    """Return the pixels that ``SaveImage`` would write.

    Args:
        image: ``[H, W]`` or ``[H, W, C]``, 0 to 1, any float type, on any device.

    Raises:
        TypeError: There is no image mode for this number of channels, or there are no pixels.
    """
    has_mode = image.ndim == 2 or (image.ndim == 3 and image.shape[2] in (2, 3, 4))
    if not has_mode or 0 in image.shape:
        raise TypeError(f"An image of shape {tuple(image.shape)} cannot be saved.")
    image = image.detach()
    if image.device.type == "cpu" and image.dtype in _NUMPY_TYPES:
        return _banded(image.numpy())
    if image.device.type == "cpu" and image.dtype == torch.float16:
        return _banded_half(image)
    scaled = image.mul(255.0).clamp_(0, 255)
    return scaled.to(torch.uint8).contiguous().cpu().numpy()  # type: ignore[no-any-return]


def _banded(image: npt.NDArray[np.floating[Any]]) -> Pixels:
    """Scale in bands that fit a core's cache, on this thread alone.

    torch would split the work over threads, and wait for cores that the encoders have.
    """
    values = image.reshape(-1)
    pixels = np.empty(values.size, np.uint8)
    scaled = np.empty(min(BAND, values.size), values.dtype)
    with np.errstate(invalid="ignore"):  # of NaN: what it becomes is what SaveImage makes of it
        for start in range(0, values.size, BAND):
            band = values[start : start + BAND]
            part = scaled[: band.size]
            np.multiply(band, 255.0, out=part)
            part.clip(0, 255, out=part)  # one pass; maximum and minimum took 2.5 times as long each
            np.copyto(pixels[start : start + BAND], part, casting="unsafe")
    return pixels.reshape(image.shape)


def _banded_half(image: torch.Tensor) -> Pixels:
    """Do the same in half precision, which numpy computes value by value: 16 times as slowly."""
    values = image.reshape(-1)
    pixels = torch.empty(values.shape, dtype=torch.uint8)
    for start in range(0, len(values), _HALF_BAND):
        part = values[start : start + _HALF_BAND].mul(255.0).clamp_(0, 255)
        pixels[start : start + _HALF_BAND] = part
    return pixels.reshape(image.shape).numpy()  # type: ignore[no-any-return]


class StatelessFolder:
    """Puts a prefix that comes over a link into the folder of the run it is used in."""

    CATEGORY = "stateless"
    DEPRECATED = True
    DEV_ONLY = True
    FUNCTION = "join"
    RETURN_TYPES = ("STRING",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802  ComfyUI's name
        return {"required": {"folder": ("STRING", {}), "prefix": (_Anything("*"), {})}}

    def join(self, folder: str, prefix: Any) -> tuple[str]:
        if leaves_folder(str(prefix)):
            raise ValueError("filename_prefix must be a path inside the output folder.")
        return (f"{folder}/{prefix}",)


class _Anything(str):
    """A type that every link fits: ComfyUI compares types with ``!=``."""

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = str.__hash__


_SAVES = {
    "SaveImage": ("nodes", "SaveImage.save_images"),
    "PreviewImage": ("nodes", "SaveImage.save_images"),
    "SaveImageWebsocket": ("websocket_image_save", "SaveImageWebsocket.save_images"),
}
"""The savers that are replaced, with module and name of the function that saves in ComfyUI."""


def _saves_as_comfyui(base: Any, module: str, name: str) -> bool:
    function = getattr(base, "save_images", None)
    defined_in = getattr(function, "__module__", "")
    return (
        getattr(base, "FUNCTION", None) == "save_images"
        and getattr(function, "__qualname__", "") == name
        and defined_in.replace("\\", "/").rpartition("/")[2] == module
        and is_original(function, defined_in)
        and (module != "nodes" or is_original(folder_paths.get_save_image_path, "folder_paths"))
    )
