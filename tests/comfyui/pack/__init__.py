"""Nodes for the tests: each does one thing that real packs do and that is hard on an API."""

import time
from pathlib import Path

import folder_paths
import torch
from comfy.model_management import throw_exception_if_processing_interrupted
from comfy.utils import ProgressBar
from comfy_execution.graph_utils import GraphBuilder
from PIL import Image

from . import (
    loaders,
    popular,
    remote,  # noqa: F401  it registers routes
    replacing,  # noqa: F401  it registers a handler
    structure,
    watching,  # noqa: F401  it registers a route
)

IMAGE_IN = {"required": {"image": ("IMAGE",)}}


class Pattern:
    """Noise that depends on a seed only, with values that are no colours among it."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE",), "run", "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "seed": ("INT", {"default": 0}),
                "width": ("INT", {"default": 64}),
                "height": ("INT", {"default": 48}),
                "batch": ("INT", {"default": 1}),
                "channels": ("INT", {"default": 3}),
            }
        }

    def run(self, seed, width, height, batch, channels):
        generator = torch.Generator().manual_seed(seed)
        image = torch.rand((batch, height, width, channels), generator=generator) * 1.2 - 0.1
        image[:, 0, 0] = float("nan")
        image[:, 0, 1] = float("inf")
        image[:, 0, 2] = float("-inf")
        return (image,)


class HalfPattern(Pattern):
    """The same in half precision."""

    def run(self, seed, width, height, batch, channels):
        return (super().run(seed, width, height, batch, channels)[0].half(),)


class Sizes:
    """A list of images of several sizes."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE",), "run", "test"
    OUTPUT_IS_LIST = (True,)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"count": ("INT", {"default": 3})}}

    def run(self, count):
        return ([torch.full((1, 8 + i, 16 + i, 3), i / 10) for i in range(count)],)


class Raises:
    """Raises what it is told to."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE",), "run", "test"
    KINDS = ("ValueError", "MemoryError", "OutOfMemoryError", "SystemExit", "KeyboardInterrupt")

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "image": ("IMAGE",),
                "kind": (list(cls.KINDS),),
                "message": ("STRING", {"default": ""}),
            }
        }

    @classmethod
    def IS_CHANGED(cls, **_):
        return time.time()

    def run(self, image, kind, message):
        if kind == "OutOfMemoryError":
            raise torch.OutOfMemoryError(message)
        raise getattr(__import__("builtins"), kind)(message)


class Waits:
    """Passes an image on after a time, stopping early when interrupted unless it is stubborn."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE",), "run", "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "image": ("IMAGE",),
                "seconds": ("FLOAT", {"default": 1.0}),
                "stubborn": ("BOOLEAN", {"default": False}),
                "nonce": ("STRING", {"default": ""}),
            }
        }

    def run(self, image, seconds, stubborn, nonce):
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if not stubborn:
                throw_exception_if_processing_interrupted()
            time.sleep(0.01)
        return (image,)


class Counts:
    """Writes down that it runs, every time, and passes an image on after a time."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE",), "run", "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "image": ("IMAGE",),
                "path": ("STRING", {"default": ""}),
                "line": ("STRING", {"default": ""}),
                "seconds": ("FLOAT", {"default": 0.0}),
            }
        }

    @classmethod
    def IS_CHANGED(cls, **_):
        return time.time()

    def run(self, image, path, line, seconds):
        with Path(path).open("a") as file:
            file.write(f"{line}\n")
        time.sleep(seconds)
        return (image,)


class Steps:
    """Tells its progress, with pictures of it, as samplers do."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE",), "run", "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "image": ("IMAGE",),
                "steps": ("INT", {"default": 5}),
                "seconds": ("FLOAT", {"default": 0.0}),
                "nonce": ("STRING", {"default": ""}),
            }
        }

    def run(self, image, steps, seconds, nonce):
        bar = ProgressBar(steps)
        for step in range(steps):
            time.sleep(seconds)
            shade = (step * 255 // steps, 0, 0)
            bar.update_absolute(step + 1, steps, ("JPEG", Image.new("RGB", (40, 20), shade), 64))
        return (image,)


class Blackens:
    """Works in place: whoever looks at the image later sees black."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE",), "run", "test"
    OUTPUT_NODE = True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE",), "after": ("IMAGE",)}}

    def run(self, image, after):
        image.zero_()
        return {"ui": {"text": ["blackened"]}, "result": (image,)}


class Expands:
    """Makes a SaveImage, and what feeds it, at run time."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE",), "run", "test"
    INPUT = IMAGE_IN

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE",), "prefix": ("STRING", {"default": "inner"})}}

    def run(self, image, prefix):
        graph = GraphBuilder()
        inverted = graph.node("ImageInvert", image=image)
        graph.node("SaveImage", images=inverted.out(0), filename_prefix=prefix)
        return {"result": (inverted.out(0),), "expand": graph.finalize()}


class WritesFile:
    """Writes a file under a fixed name, with no filename_prefix."""

    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_NODE = (), "run", "test", True

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "text": ("STRING", {"default": ""}),
                "name": ("STRING", {"default": "report.csv"}),
                "folder": (["output", "temp", "input"],),
            }
        }

    def run(self, text, name, folder):
        path = Path(folder_paths.get_directory_by_type(folder)) / name
        if folder != "input":
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return {"ui": {"files": [{"filename": name, "subfolder": "", "type": folder}]}}


class SavesSilently:
    """Writes below a filename_prefix and reports nothing, as savers of models do."""

    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_NODE = (), "run", "test", True

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "text": ("STRING", {"default": ""}),
                "filename_prefix": ("STRING", {"default": "models/silent"}),
            }
        }

    def run(self, text, filename_prefix):
        folder, name, counter, *_ = folder_paths.get_save_image_path(
            filename_prefix, folder_paths.get_output_directory()
        )
        (Path(folder) / f"{name}_{counter:05}_.safetensors").write_text(text)
        return {}


class SavesLarge:
    """Writes a file of many MiB."""

    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_NODE = (), "run", "test", True

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "mib": ("INT", {"default": 64}),
                "filename_prefix": ("STRING", {"default": "large"}),
            }
        }

    def run(self, mib, filename_prefix):
        folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
            filename_prefix, folder_paths.get_output_directory()
        )
        file = f"{name}_{counter:05}_.bin"
        with (Path(folder) / file).open("wb") as stream:
            for block in range(mib):
                stream.write(bytes([block % 256]) * 2**20)
        return {"ui": {"files": [{"filename": file, "subfolder": subfolder, "type": "output"}]}}


class Notes:
    """Writes a file below a filename_prefix, reports it, and gives its path to who wants it."""

    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_NODE = ("STRING",), "run", "test", True

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "text": ("STRING", {"default": ""}),
                "filename_prefix": ("STRING", {"default": "notes/note"}),
            }
        }

    def run(self, text, filename_prefix):
        folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
            filename_prefix, folder_paths.get_output_directory()
        )
        path = Path(folder, f"{name}_{counter:05}_.txt")
        path.write_text(text)
        file = {"filename": path.name, "subfolder": subfolder, "type": "output"}
        return {"ui": {"files": [file]}, "result": (str(path),)}


class Appends:
    """Changes a file that an earlier node wrote."""

    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_NODE = (), "run", "test", True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"path": ("STRING", {"forceInput": True}), "text": ("STRING", {})}}

    def run(self, path, text):
        path = Path(path)
        path.write_text(path.read_text() + text)
        return {"ui": {"text": [text]}}


class Texts:
    """A list of texts: what takes one text runs once for each."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("STRING",), "run", "test"
    OUTPUT_IS_LIST = (True,)

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"count": ("INT", {"default": 3})}}

    def run(self, count):
        return ([f"text {number}" for number in range(count)],)


class Says:
    """Shows a text."""

    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_NODE = (), "run", "test", True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"text": ("STRING", {"default": ""})}}

    def run(self, text):
        return {"ui": {"text": [text]}}


class Prefix:
    """Gives a text over a link."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("STRING",), "run", "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"text": ("STRING", {"default": "linked/name"})}}

    def run(self, text):
        return (text,)


class TellsSecrets:
    """Fails with the API key in its message, as careless clients of services do."""

    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_NODE = (), "run", "test", True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"after": ("IMAGE",)}, "hidden": {"key": "API_KEY_COMFY_ORG"}}

    def run(self, after, key):
        raise ValueError(f"401 for key {key}")


class Sound:
    """A second of a tone."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("AUDIO",), "run", "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"hertz": ("FLOAT", {"default": 440.0})}}

    def run(self, hertz):
        wave = torch.sin(torch.arange(44100) * hertz * 6.2832 / 44100)
        return ({"waveform": wave.expand(1, 2, -1).contiguous(), "sample_rate": 44100},)


class Mesh:
    """A triangle."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("MESH",), "run", "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"size": ("FLOAT", {"default": 1.0})}}

    def run(self, size):
        try:
            from comfy_api.latest._util import MESH
        except ImportError:
            from comfy_extras.nodes_hunyuan3d import MESH
        corners = torch.tensor([[[0.0, 0, 0], [size, 0, 0], [0, size, 0]]])
        return (MESH(corners, torch.tensor([[[0, 1, 2]]])),)


NODE_CLASS_MAPPINGS = {
    f"Test{cls.__name__}": cls
    for cls in (
        Pattern,
        HalfPattern,
        Sizes,
        Raises,
        Waits,
        Counts,
        Steps,
        Blackens,
        Expands,
        WritesFile,
        SavesSilently,
        SavesLarge,
        Notes,
        Appends,
        Texts,
        Says,
        Prefix,
        TellsSecrets,
        Sound,
        Mesh,
        *loaders.CLASSES,
        *popular.CLASSES,
        *structure.CLASSES,
    )
}
