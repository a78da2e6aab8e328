"""Wraps what we wrap, on the classes instead of the instances, and puts loaders and savers in place."""

import collections
import copy
import functools
import sys

import execution
import nodes
from aiohttp import web
from server import PromptServer

heard = collections.Counter(
    ours_is_there=any(name.endswith("/comfyui-stateless") for name in sys.modules)
)


def wrap(owner, name):
    original = getattr(owner, name)

    @functools.wraps(original)
    def counted(*args, **kwargs):
        heard[name] += 1
        return original(*args, **kwargs)

    setattr(owner, name, counted)


wrap(PromptServer, "send_sync")
wrap(execution.PromptQueue, "task_done")
wrap(execution.PromptQueue, "put")
wrap(execution.PromptExecutor, "execute")
wrap(execution, "validate_prompt")

queue = PromptServer.instance.prompt_queue
put, send_sync = queue.put, PromptServer.instance.send_sync


def copied(item):
    """Hand a copy on, with a note of the pack's in it."""
    number, prompt_id, prompt, extra_data, *more = copy.deepcopy(item)
    return put((number, prompt_id, prompt, {**extra_data, "pack": "was here"}, *more))


def thrifty(event, data, sid=None):
    """Send nothing to who is not connected."""
    if sid is None or sid in PromptServer.instance.sockets or sid == "tests":
        send_sync(event, data, sid)


queue.put, PromptServer.instance.send_sync = copied, thrifty


class Loader(nodes.LoadImage):
    """Stands in ComfyUI's place."""

    def load_image(self, image):
        heard["load_image"] += 1
        return super().load_image(image)


class Saver(nodes.SaveImage):
    """Stands in ComfyUI's place, and saves as that does."""


nodes.NODE_CLASS_MAPPINGS["LoadImage"] = Loader
nodes.NODE_CLASS_MAPPINGS["SaveImage"] = Saver
NODE_CLASS_MAPPINGS = {}


@PromptServer.instance.routes.get("/test-heard")
async def report(_):
    return web.json_response(heard)
