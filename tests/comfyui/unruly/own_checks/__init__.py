"""Asks somebody on the server's loop before a prompt is checked, and takes classes away at the start."""

import functools

import execution
import nodes
from server import PromptServer

loop, validate_prompt = PromptServer.instance.loop, execution.validate_prompt


@functools.wraps(validate_prompt)
async def checked(*args, **kwargs):
    allowed = loop.create_future()
    loop.call_soon_threadsafe(allowed.set_result, True)
    assert await allowed
    return await validate_prompt(*args, **kwargs)


async def strip(_):
    """Leave what is meant for users."""
    for name, node_class in list(nodes.NODE_CLASS_MAPPINGS.items()):
        if getattr(node_class, "DEV_ONLY", False):
            del nodes.NODE_CLASS_MAPPINGS[name]


execution.validate_prompt = checked
PromptServer.instance.app.on_startup.append(strip)
NODE_CLASS_MAPPINGS = {}
