"""Sends events and ends prompts in ways of its own: it calls nothing that was there before.

Its end of a prompt wants a workflow in it, which prompts from the editor have.
"""

import types

from server import PromptServer

server, queue = PromptServer.instance, PromptServer.instance.prompt_queue
ended = []


def send_sync(event, data, sid=None):
    server.loop.call_soon_threadsafe(server.messages.put_nowait, (event, data, sid))


def task_done(self, item_id, history_result, status, **more):
    ended.append(self.currently_running[item_id][3]["extra_pnginfo"]["workflow"]["id"])
    type(self).task_done(self, item_id, history_result, status, **more)


server.send_sync = send_sync
queue.task_done = types.MethodType(task_done, queue)
NODE_CLASS_MAPPINGS = {}
