"""Changes what ComfyUI's own savers and loaders do, under their names."""

import functools

import nodes
from aiohttp import web
from comfy_execution.utils import get_executing_context
from server import PromptServer

save_images, load_image = nodes.SaveImage.save_images, nodes.LoadImage.load_image
loads = []


@functools.wraps(save_images)
def inverted(self, images, *args, **kwargs):
    return save_images(self, 1 - images, *args, **kwargs)


@functools.wraps(load_image)
def noted(self, image):
    loads.append(get_executing_context().node_id)
    return load_image(self, image)


nodes.SaveImage.save_images, nodes.LoadImage.load_image = inverted, noted
NODE_CLASS_MAPPINGS = {}


@PromptServer.instance.routes.get("/test-loads")
async def report(_):
    return web.json_response(loads)
