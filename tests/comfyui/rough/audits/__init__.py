"""Reads every body before its handler does, and says so in a header; what fails gets another face.

What takes longer than a header allows is cut off.
"""

import asyncio
import hashlib

from aiohttp import web
from server import PromptServer


@web.middleware
async def audit(request, handler):
    body = await request.read() if request.can_read_body else b""
    try:
        response = await asyncio.wait_for(
            handler(request), float(request.headers.get("X-Limit", 99))
        )
    except asyncio.TimeoutError:
        return web.json_response({"rewritten": 504}, status=504)
    except web.HTTPException as error:
        return web.json_response({"rewritten": error.status}, status=error.status)
    if not response.prepared:
        response.headers["X-Audit"] = hashlib.sha256(body).hexdigest()
    return response


PromptServer.instance.app.middlewares.append(audit)
NODE_CLASS_MAPPINGS = {}
