"""Answers whatever nobody else does."""

from aiohttp import web
from server import PromptServer


async def answer(request):
    return web.json_response({"nobody has": request.path})


router = PromptServer.instance.app.router
router.add_route("*", "/{path:.*}", answer)
router.add_route("*", "/api/{path:.*}", answer)
NODE_CLASS_MAPPINGS = {}
