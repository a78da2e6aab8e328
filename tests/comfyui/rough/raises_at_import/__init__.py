"""Fails, with a route registered already."""

from aiohttp import web
from server import PromptServer


@PromptServer.instance.routes.get("/test-raises")
async def answer(_):
    return web.json_response("here")


raise RuntimeError("a pack that cannot be imported")
