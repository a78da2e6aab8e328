"""A node that tells what a tensor is, and notes of which thread did what, for structural tests."""

import functools
import gc
import hashlib
import sys
import threading
from collections import Counter
from pathlib import Path

import av
import PIL.Image
from aiohttp import web
from server import PromptServer

from .remote import PACKAGE

ENCODING = (".outputs", ".images.convert")
CHANGES = ("os.mkdir", "os.rename", "os.link")
OF_A_JOB = ("Run", "Plan", "RunFolder", "Collector", "Report", "CapturedImage")
NOTES = {"is_on": False, "written": [], "encoded": [], "opened": []}


class Fingerprint:
    """Says as text what its image and mask are, to the last bit, and on which thread it ran."""

    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_NODE = (), "run", "test", True

    @classmethod
    def INPUT_TYPES(cls):
        return {"optional": {"image": ("IMAGE",), "mask": ("MASK",), "blacken": ("BOOLEAN",)}}

    def run(self, image=None, mask=None, blacken=False):
        said = [described(tensor) for tensor in (image, mask) if tensor is not None]
        if blacken:
            for tensor in (image, mask):
                tensor.zero_()
        return {"ui": {"text": [*said, threading.current_thread().name]}}


def described(tensor):
    digest = hashlib.sha256(tensor.contiguous().numpy().tobytes()).hexdigest()
    traits = tensor.is_inference(), tensor.is_contiguous(), tensor.stride(), tensor.device.type
    return f"{tuple(tensor.shape)} {tensor.dtype} {traits} {digest}"


def note(kind, what):
    NOTES[kind].append([threading.current_thread().name, str(what)])


def heard(event, args):
    """Note every file that is opened for writing, and every folder that is made."""
    if NOTES["is_on"] and (event in CHANGES or (event == "open" and is_written(*args))):
        note("written", args[0])


def is_written(path, mode, flags):
    is_for_writing = any(c in (mode or "") for c in "wax+") or bool((flags or 0) & 3)
    return is_for_writing and not isinstance(path, int)


def noted(kind, function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        if NOTES["is_on"]:
            note(kind, args[0] if kind == "opened" else function.__name__)
        return function(*args, **kwargs)

    return wrapper


def watch_encoders():
    """Note the calls of whatever compresses images, in the extension that runs here."""
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if file and PACKAGE in Path(file).resolve().parents and name.endswith(ENCODING):
            for function in ("encode", "encode_png"):
                if hasattr(module, function):
                    setattr(module, function, noted("encoded", getattr(module, function)))


sys.addaudithook(heard)
PIL.Image.Image.save = noted("encoded", PIL.Image.Image.save)
PIL.Image.open = noted("opened", PIL.Image.open)
av.open = noted("opened", av.open)  # what ComfyUI loads pictures with from 2026 on


@PromptServer.instance.routes.post("/test-host/structure")
async def structure(request):
    """Return the notes that were taken, and go on with none; or, with `keep`, with these."""
    if not NOTES.get("encoders"):
        watch_encoders()
        NOTES["encoders"] = True
    asked = await request.json()
    NOTES["is_on"] = asked["on"]
    taken = {kind: NOTES[kind][:] for kind in ("written", "encoded", "opened")}
    for kind in () if asked.get("keep") else taken:
        NOTES[kind].clear()
    return web.json_response(taken)


@PromptServer.instance.routes.post("/test-host/left")
async def left(request):
    """Count what there is of jobs' own objects; with `collects`, turn the garbage collector on or off."""
    collects = (await request.json()).get("collects")
    if collects is not None:
        gc.collect()
        (gc.enable if collects else gc.disable)()
    counts = Counter(type(found).__name__ for found in gc.get_objects())
    return web.json_response({name: counts[name] for name in OF_A_JOB})


@PromptServer.instance.routes.post("/test-host/copies")
async def copies(request):
    """Count the inputs of nodes that have an input of a name: a graph's copies, if one node has it."""
    name = (await request.json())["input"]
    return web.json_response(sum(type(each) is dict and name in each for each in gc.get_objects()))


CLASSES = (Fingerprint,)
