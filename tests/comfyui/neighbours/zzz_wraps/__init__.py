"""A pack that wraps the functions that we wrap too, as others do."""

from server import PromptServer

server = PromptServer.instance
send_sync, task_done = server.send_sync, server.prompt_queue.task_done
seen = {"zzz events": 0, "zzz prompts": 0}


def count_event(event, data, sid=None):
    seen["zzz events"] += 1
    return send_sync(event, data, sid)


def count_prompt(*args, **kwargs):
    seen["zzz prompts"] += 1
    return task_done(*args, **kwargs)


server.send_sync, server.prompt_queue.task_done = count_event, count_prompt


@server.routes.get("/test-zzz")
async def report(_):
    from aiohttp import web

    return web.json_response(seen)


NODE_CLASS_MAPPINGS = {}
