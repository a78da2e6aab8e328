"""Nodes in the manner of much-used packs: of switches, of video, of what is asked for each time."""

import json
from pathlib import Path

import folder_paths
from comfy_execution.graph_utils import ExecutionBlocker
from PIL import Image


class AnyInputs(dict):
    """Claims to have every name, as packs do whose nodes grow inputs in the editor."""

    def __contains__(self, name):
        return True

    def __getitem__(self, name):
        return ("STRING", {})


class ShowsInputs:
    """Shows all that it is given."""

    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_NODE = (), "run", "test", True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}, "optional": AnyInputs()}

    def run(self, **given):
        return {"ui": {"text": [json.dumps(given)]}}


class CombinesVideo:
    """Writes an animation, and a picture beside it of which it tells nothing, where it is told to."""

    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_NODE = (), "run", "test", True

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "images": ("IMAGE",),
                "filename_prefix": ("STRING", {"default": "video"}),
                "kind": (["output", "temp", "input"],),
                "then_fails": ("BOOLEAN", {"default": False}),
            }
        }

    def run(self, images, filename_prefix, kind, then_fails):
        found = folder_paths.get_save_image_path(
            filename_prefix, folder_paths.get_directory_by_type(kind)
        )
        folder, name, number, subfolder, _ = found
        image = Image.fromarray((images[0].numpy() * 255).astype("uint8"))
        image.save(Path(folder, f"{name}_{number:05}.png"))
        if then_fails:
            raise RuntimeError("no encoder")
        animation = f"{name}_{number:05}.gif"
        image.save(Path(folder, animation), save_all=True)
        entry = {"filename": animation, "subfolder": subfolder, "type": kind, "format": "image/gif"}
        return {"ui": {"gifs": [entry]}}


class ChangesOddly:
    """Tells of a change by something that is no JSON."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE",), "run", "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE",)}}

    @classmethod
    def IS_CHANGED(cls, image):
        return b"digest"

    def run(self, image):
        return (image,)


class Blocks:
    """Has what hangs behind it not run, and says why."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE",), "run", "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE",), "message": ("STRING", {"default": ""})}}

    def run(self, image, message):
        return (ExecutionBlocker(message or None),)


CLASSES = (ShowsInputs, CombinesVideo, ChangesOddly, Blocks)
