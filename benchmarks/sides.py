"""The two ways to an image: our route, and what a user does with plain ComfyUI.

Both run on the same client stack. Each simulated client has a session of its own, whose one
connection stays open from request to request.
"""

from __future__ import annotations

import asyncio
import base64
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import aiohttp

from .graphs import Graph

Fetch = Callable[[bytes], Awaitable[bytes]]
"""Sends a body and returns what came back, read to its end and not looked at."""

Events: TypeAlias = "aiohttp.ClientWebSocketResponse[bool]"

EVENT_TIMEOUT_S = 600
UNLIMITED = aiohttp.ClientTimeout(total=None)


class WrongAnswer(Exception):
    """A response was not what it has to be: the figures would mean nothing."""


class Side(Protocol):
    """A way to an image."""

    name: str

    def body(self, graph: Graph) -> bytes:
        """Return what a client sends for a graph."""

    def connect(self, url: str) -> Any:
        """Return a context manager that gives a client's ``Fetch``, its sockets open."""

    def image(self, answer: bytes) -> bytes:
        """Return the image in an answer, having checked the rest of it."""


class Ours:
    """``POST /api/stateless/prompt``: the image is in the response, as base64."""

    def __init__(self, convert_output: Mapping[str, Any] | None = None) -> None:
        self.name = "ours"
        self._fields = {"convert_output": convert_output} if convert_output else {}

    def body(self, graph: Graph) -> bytes:
        return json.dumps({"prompt": graph, **self._fields}).encode()

    @asynccontextmanager
    async def connect(self, url: str) -> AsyncIterator[Fetch]:
        async with session(url) as http:

            async def fetch(body: bytes) -> bytes:
                return await post(http, "/api/stateless/prompt", body)

            yield fetch

    def image(self, answer: bytes) -> bytes:
        document = json.loads(answer)
        (encoded,), (described,), (name,) = (
            document[field] for field in ("images", "outputs", "filenames")
        )
        image = base64.b64decode(encoded, validate=True)
        if described["size_bytes"] != len(image) or described["filename"] != name:
            raise WrongAnswer(f"The image has {len(image)} bytes, not as in {described}.")
        return image


class Beside:
    """Another server before the same ComfyUI: ``POST /prompt`` there, the image as base64."""

    name = "beside"

    def __init__(self, url: str, inputs: Path) -> None:
        self._url = url
        self._inputs = inputs

    def body(self, graph: Graph) -> bytes:
        """Return the graph, its pictures by their full paths: bare names count as base64 there."""
        named = {key: self._with_path(node) for key, node in graph.items()}
        return json.dumps({"prompt": named}).encode()

    def _with_path(self, node: dict[str, Any]) -> dict[str, Any]:
        if node["class_type"] != "LoadImage":
            return node
        return {**node, "inputs": {"image": str(self._inputs / node["inputs"]["image"])}}

    @asynccontextmanager
    async def connect(self, _: str) -> AsyncIterator[Fetch]:
        async with session(self._url) as http:

            async def fetch(body: bytes) -> bytes:
                return await post(http, "/prompt", body)

            yield fetch

    def image(self, answer: bytes) -> bytes:
        (encoded,) = json.loads(answer)["images"]
        return base64.b64decode(encoded, validate=True)


class Plain:
    """ComfyUI alone: ``POST /prompt``, the websocket until the end, ``GET /view``."""

    name = "plain"

    def body(self, graph: Graph) -> bytes:
        return json.dumps({"prompt": graph}).encode()[:-1]

    @asynccontextmanager
    async def connect(self, url: str) -> AsyncIterator[Fetch]:
        client_id = uuid.uuid4().hex
        ending = json.dumps({"client_id": client_id}).replace("{", ", ", 1).encode()
        async with session(url) as http, http.ws_connect(f"/ws?clientId={client_id}") as events:

            async def fetch(body: bytes) -> bytes:
                queued = json.loads(await post(http, "/prompt", body + ending))
                image = await finished(events, queued["prompt_id"])
                async with http.get("/view", params=image) as response:
                    content = await response.read()
                    response.raise_for_status()
                    return content

            yield fetch

    def image(self, answer: bytes) -> bytes:
        return answer


@asynccontextmanager
async def session(url: str) -> AsyncIterator[aiohttp.ClientSession]:
    """Give a session whose connection is open; a websocket takes a second one."""
    connector = aiohttp.TCPConnector(limit=2)
    async with aiohttp.ClientSession(url, connector=connector, timeout=UNLIMITED) as http:
        async with http.get("/prompt") as response:
            await response.read()
        yield http


async def post(http: aiohttp.ClientSession, path: str, body: bytes) -> bytes:
    """Return the answer to a JSON body.

    Raises:
        WrongAnswer: It is not a 200.
    """
    headers = {"Content-Type": "application/json"}
    async with http.post(path, data=body, headers=headers) as response:
        answer = await response.read()
        if response.status != 200:
            raise WrongAnswer(f"{path} answered {response.status}: {answer[:500]!r}")
        return answer


async def finished(events: Events, prompt_id: str) -> dict[str, str]:
    """Wait for the end of a prompt; return the image that its events named.

    Raises:
        WrongAnswer: The prompt failed, or ended without an image.
    """
    image: dict[str, str] = {}
    while True:
        kind, data = await next_event(events)
        if data.get("prompt_id") != prompt_id:
            continue
        if kind == "executed":
            (image,) = data["output"]["images"]
        elif kind == "execution_error":
            raise WrongAnswer(f"The prompt failed: {data}")
        elif kind == "executing" and data["node"] is None:
            if not image:
                raise WrongAnswer("The prompt ended without an image.")
            return image


async def next_event(events: Events) -> tuple[str, dict[str, Any]]:
    """Return type and data of the next event; previews, which are binary, are passed over."""
    while True:
        message = await asyncio.wait_for(events.receive(), EVENT_TIMEOUT_S)
        if message.type is aiohttp.WSMsgType.TEXT:
            event = json.loads(message.data)
            return event["type"], event["data"]
        if message.type is not aiohttp.WSMsgType.BINARY:
            raise WrongAnswer(f"The websocket ended: {message.type.name}.")
