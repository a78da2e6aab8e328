"""A route that runs a prompt on the engine and returns all that its observer heard."""

import base64
import threading
import time
import uuid
from dataclasses import asdict

from aiohttp import web
from server import PromptServer

STATUSES = []
OWN = []


class Watcher:
    """Writes down what it hears of a run.

    Args:
        wanted: The events that it wants, None for all but previews.
    """

    def __init__(self, wanted, raises):
        self.heard = []
        self._wanted = wanted
        self._raises = raises

    def wants(self, event):
        return event != "preview" if self._wanted is None else event in self._wanted

    def started(self):
        self._hear("started")

    def event(self, name, data):
        image = data.get("image")
        if isinstance(image, bytes):
            data = {**data, "image": base64.b64encode(image).decode()}
        self._hear("event", name=name, data=data)

    def image(self, captured):
        self._hear("image", node_id=captured.node_id, filename=captured.filename)

    def file(self, file):
        self._hear("file", **described(file))

    def _hear(self, kind, **said):
        self.heard.append({"kind": kind, "at": time.monotonic(), **said})
        if kind in self._raises:
            raise RuntimeError(f"the watcher does not like this {kind}")


def note_status(data):
    STATUSES.append({"thread": threading.current_thread().name, "data": data})


def described(file):
    content = file.path.read_text(errors="replace")
    return {
        "node_id": file.node_id,
        "filename": file.filename,
        "temp": file.temp,
        "content": content[:100],
    }


def served():
    """Return the engine of the extension that runs here."""
    for app in PromptServer.instance.app._subapps:
        for key in app:
            if hasattr(app[key], "engine"):
                return app[key].engine
    if not OWN:
        from .remote import module

        OWN.append(module("host.engine").ComfyEngine(PromptServer.instance))
        OWN[0].install()
    return OWN[0]


@PromptServer.instance.routes.post("/test-host/watch")
async def watch(request):
    given = await request.json()
    engine, watcher = served(), Watcher(given.get("wanted"), given.get("raises", ()))
    engine.on_status = note_status
    prompt = prepared(given)
    outcome = {}
    async with engine.workspace(prompt.run_id) as workspace:
        try:
            runnable = await engine.validate(prompt, workspace)
            execution = await runnable.run(watcher, lambda: None)
        except Exception as error:  # noqa: BLE001  the tests want to see any
            outcome["error"] = {"type": type(error).__name__, "message": str(error)}
        else:
            outcome["files"] = [described(file) for file in execution.files]
            outcome["nodes"] = {node: asdict(times) for node, times in execution.nodes.items()}
    server = PromptServer.instance
    ours = [sid for sid in server.sockets_metadata if sid.startswith("stateless-")]
    return web.json_response(
        {
            **outcome,
            "run_id": prompt.run_id,
            "loop_thread": threading.current_thread().name,
            "heard": watcher.heard,
            "sockets": ours,
            "statuses": STATUSES[-50:],
        }
    )


def prepared(given):
    """Return the prompt in a form that the engine takes; it looks at no class."""

    class Prompt:
        run_id = str(uuid.uuid4())
        id = given.get("id", "caller")
        graph = given["graph"]
        name_prefix = "job_"
        extra_data = given.get("extra_data", {})

    return Prompt()
