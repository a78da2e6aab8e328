"""Nodes in the manner of much-used packs: of switches, of video, of what is asked for each time."""

import asyncio
import base64
import io
import json
import sqlite3
import threading
import time
import uuid
from pathlib import Path

import folder_paths
import numpy as np
import torch
from comfy_execution.graph_utils import ExecutionBlocker
from PIL import Image
from server import BinaryEventTypes, PromptServer


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


def picture(image):
    return Image.fromarray((image.clamp(0, 1).numpy() * 255).astype("uint8"))


class NotesDown:
    """Writes a text where it is told to, and says nothing of it."""

    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_NODE = (), "run", "test", True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"file": ("STRING", {}), "text": ("STRING", {})}}

    def run(self, file, text):
        path = Path(folder_paths.get_output_directory(), file)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return {}


class SavesInPlace:
    """Saves under a prefix that is a name and nothing else, in a folder of the caller's choice."""

    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_NODE = (), "run", "test", True

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "images": ("IMAGE",),
                "output_path": ("STRING", {"default": ""}),
                "filename_prefix": ("STRING", {"default": "placed"}),
                "reports": ("BOOLEAN", {"default": True}),
            }
        }

    def run(self, images, output_path, filename_prefix, reports):
        folder = Path(folder_paths.get_output_directory(), output_path)
        folder.mkdir(parents=True, exist_ok=True)
        entries = []
        for number, image in enumerate(images):
            name = f"{filename_prefix}_{number}.png"
            try:
                picture(image).save(folder / name)
            except OSError:
                continue
            preview = f"preview_{name}"
            picture(image).save(Path(folder_paths.get_temp_directory(), preview))
            entries.append({"filename": name, "subfolder": output_path, "type": "output"})
            if not reports:
                entries[-1] = {"filename": preview, "subfolder": "", "type": "temp"}
        return {"ui": {"images": entries}}


class SavesInSubdirectory(SavesInPlace):
    """Calls the folder otherwise."""

    @classmethod
    def INPUT_TYPES(cls):
        required = super().INPUT_TYPES()["required"]
        required["subdirectory_name"] = required.pop("output_path")
        return {"required": required}

    def run(self, subdirectory_name, **given):
        return super().run(output_path=subdirectory_name, **given)


class SendsPictures:
    """Sends its pictures to the client, after a preview of each."""

    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_NODE = (), "run", "test", True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"images": ("IMAGE",), "says_so": ("BOOLEAN", {"default": True})}}

    def run(self, images, says_so):
        server = PromptServer.instance
        for image in images:
            for sent, side in ((picture(1 - image), 512), (picture(image), None)):
                event = BinaryEventTypes.UNENCODED_PREVIEW_IMAGE
                server.send_sync(event, ["PNG", sent, side], server.client_id)
        entry = {"source": "websocket", "content-type": "image/png", "type": "output"}
        return {"ui": {"images": [entry] * len(images) if says_so else []}}


class SendsInTurns(SendsPictures):
    """Does the same while others do."""

    async def run(self, images, says_so):
        shown = {"images": []}
        for image in images:
            await asyncio.sleep(0.1)
            shown["images"] += super().run(image[None], says_so)["ui"]["images"]
        return {"ui": shown}


class LoadsBase64:
    """Takes base64 for what others take a file for."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE",), "run", "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("STRING", {})}}

    def run(self, image):
        pixels = np.array(Image.open(io.BytesIO(base64.b64decode(image))).convert("RGB"))
        return (torch.from_numpy(pixels.astype(np.float32) / 255)[None],)


class LoadsFileOrData:
    """Takes a file that was uploaded, or none but what another input holds."""

    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_NODE = (), "run", "test", True

    @classmethod
    def INPUT_TYPES(cls):
        there = Path(folder_paths.get_input_directory()).iterdir()
        files = [path.name for path in there if path.is_file()]
        choice = ([*files, "#data"], {"image_upload": True})
        return {"required": {"image": choice, "data": ("STRING", {})}}

    def run(self, image, data):
        return {"ui": {"text": [image, data]}}


class ShowsNumbers:
    """Shows what are no texts where texts are shown."""

    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_NODE = (), "run", "test", True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def run(self):
        named = {"name": "answer", "text": "named", "content-type": "text/plain"}
        return {"ui": {"text": [3, 0.5, True, named, None], "counts": [4], "animated": (True,)}}


class ShowsText:
    """Shows a text where a list of them is due."""

    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_NODE = (), "run", "test", True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"text": ("STRING", {})}}

    def run(self, text):
        return {"ui": {"text": text, "others": ("a", "b")}}


class WorksInParts:
    """Has its prompt run once more for each part of its work, and saves with the last."""

    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_NODE = (), "run", "test", True

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "images": ("IMAGE",),
                "filename_prefix": ("STRING", {"default": "parts"}),
                "parts": ("INT", {"default": 3}),
                "seconds": ("FLOAT", {"default": 0.0}),
                "fails": ("BOOLEAN", {"default": False}),
            },
            "hidden": {"unique_id": "UNIQUE_ID", "prompt": "PROMPT"},
        }

    def run(self, images, filename_prefix, parts, seconds, fails, unique_id, prompt):
        time.sleep(seconds)
        part = prompt[unique_id]["inputs"].get("part", 1)
        if part < parts:
            server = PromptServer.instance
            (running,) = server.prompt_queue.currently_running.values()
            _, _, graph, *rest = running
            graph = {**graph, unique_id: {**graph[unique_id]}}
            graph[unique_id]["inputs"] = {**graph[unique_id]["inputs"], "part": part + 1}
            server.prompt_queue.put((-server.number, str(uuid.uuid4()), graph, *rest))
            server.number += 1
            if fails:
                raise RuntimeError("after it has asked for more")
            return {"ui": {"unfinished": [True]}}
        found = folder_paths.get_save_image_path(
            filename_prefix, folder_paths.get_output_directory()
        )
        folder, name, _, subfolder, _ = found
        picture(images[0]).save(Path(folder, f"{name}_{part}.png"))
        entry = {"filename": f"{name}_{part}.png", "subfolder": subfolder, "type": "output"}
        return {"ui": {"images": [entry], "text": [str(part)]}}


class WritesForOthers:
    """Writes a text where it is told to, and gives its path to other nodes."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("STRING",), "run", "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"file": ("STRING", {}), "text": ("STRING", {})}}

    def run(self, file, text):
        path = Path(folder_paths.get_output_directory(), file)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return (str(path),)


class ReadsPath:
    """Shows what stands in a file."""

    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_NODE = (), "run", "test", True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"path": ("STRING", {}), "number": ("INT", {"default": 0})}}

    def run(self, path, number):
        return {"ui": {"text": [Path(path).read_text()]}}


class SavesAtTop:
    """Takes a prefix, and puts its file where it likes, without a word."""

    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_NODE = (), "run", "test", True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"images": ("IMAGE",), "filename_prefix": ("STRING", {"default": "x"})}}

    def run(self, images, filename_prefix):
        picture(images[0]).save(Path(folder_paths.get_output_directory(), "top.png"))
        return {}


class ChecksInPlace:
    """Its check has to be made where ComfyUI makes it: on the thread of the server's loop."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE",), "run", "test"
    thread = threading.get_ident()

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE",), "number": ("INT", {"default": 0})}}

    @classmethod
    def VALIDATE_INPUTS(cls, number):
        if threading.get_ident() != cls.thread:
            raise RuntimeError("this is another thread")
        return True

    def run(self, image, number):
        return (image,)


class ChecksLater(ChecksInPlace):
    """Its check waits for something of the server's loop."""

    @classmethod
    async def VALIDATE_INPUTS(cls, number):
        return asyncio.get_running_loop() is PromptServer.instance.loop or "another loop"


class TellsSecret:
    """Tells what the caller sent for a pack, in its own words."""

    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_NODE = (), "run", "test", True

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"how": (["text", "repr", "json"],), "fails": ("BOOLEAN", {})}}

    def run(self, how, fails):
        (running,) = PromptServer.instance.prompt_queue.currently_running.values()
        extra = {
            name: value
            for part in running[3:]
            if isinstance(part, dict)
            for name, value in part.items()
        }
        (secret,) = extra["pack"]["keys"][0]["api_key"]
        told = {"text": str, "repr": repr, "json": json.dumps}[how](secret)
        if fails:
            raise RuntimeError(f"{extra['pack']['name']} knows {told}")
        return {"ui": {"text": [f"{extra['pack']['name']} knows {told}"]}}


class ShowsPreview:
    """Shows what it passes on, as samplers of packs do, though it is no output node."""

    RETURN_TYPES, FUNCTION, CATEGORY = ("IMAGE",), "run", "test"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE",)}}

    def run(self, image):
        name = f"{uuid.uuid4()}.png"
        picture(image[0]).save(Path(folder_paths.get_temp_directory(), name))
        entry = {"filename": name, "subfolder": "", "type": "temp"}
        return {"ui": {"images": [entry]}, "result": (image,)}


class KeepsDatabase:
    """Counts its runs in a database in the output folder, which it keeps open."""

    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_NODE = (), "run", "test", True
    database = None

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"closes": ("BOOLEAN", {"default": False})}}

    def run(self, closes):
        cls = type(self)
        if cls.database is None:
            path = Path(folder_paths.get_output_directory(), "of a pack.db")
            cls.database = sqlite3.connect(path, check_same_thread=False)
            cls.database.execute("CREATE TABLE IF NOT EXISTS runs (number)")
        cls.database.execute("INSERT INTO runs VALUES (1)")
        cls.database.commit()
        ((count,),) = cls.database.execute("SELECT count(*) FROM runs")
        if closes:
            cls.database.close()
            cls.database = None
        return {"ui": {"text": [str(count)]}}


CLASSES = (
    ShowsInputs, CombinesVideo, ChangesOddly, Blocks, NotesDown, SavesInPlace, SendsPictures, SendsInTurns,
    LoadsBase64, LoadsFileOrData, ShowsNumbers, ShowsText, WorksInParts, SavesInSubdirectory,
    WritesForOthers, ReadsPath, SavesAtTop, ChecksInPlace, ChecksLater, TellsSecret, KeepsDatabase, ShowsPreview,
)  # fmt: skip
