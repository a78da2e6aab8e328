"""One long-lived Node.js: requests and answers go over its pipes, in any order."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import subprocess
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from ..config import without_secrets
from .node_frames import LONGEST_LINE, Texts, read_frame, write_frame

log = logging.getLogger("comfyui_stateless.workflows")

SCRIPT = Path(__file__).parent / "node" / "main.js"
OLDEST = 18
END_S = 2
PATIENCE = 4
"""Times the files' own limit after which the process itself must be stuck: a file is transpiled and
evaluated, and tried again when another request has ended its thread.
"""

VERSION_TEST = f"process.exit(parseInt(process.versions.node) < {OLDEST} ? 1 : 0)"


_Answer = tuple[dict[str, Any], list[str]]


class NodeMissing(Exception):
    """There is no Node.js, or an old one; the message says so."""


class NodeEnded(Exception):
    """The process ended, or was stuck, while it had a request."""


@dataclass(slots=True)
class _Running:
    """A process, with the requests that it has not answered yet.

    Attributes:
        is_gone: Whether it takes no more requests.
    """

    process: asyncio.subprocess.Process
    waiting: dict[int, asyncio.Future[_Answer]] = field(default_factory=dict)
    writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    readers: list[asyncio.Task[None]] = field(default_factory=list)
    is_gone: bool = False

    async def end(self) -> None:
        """Let it end, as it does when its input ends, or kill it."""
        self.lose()
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            await asyncio.wait_for(self.process.wait(), END_S)
        except asyncio.TimeoutError:
            with suppress(ProcessLookupError):
                self.process.kill()
            await self.process.wait()
        await asyncio.gather(*self.readers, return_exceptions=True)

    def lose(self) -> None:
        """Tell all who wait that no answer will come."""
        self.is_gone = True
        for answer in self.waiting.values():
            if not answer.done():
                answer.set_exception(NodeEnded("Node.js has ended"))


class Node:
    """Starts Node.js at the first request, and again when it has ended.

    Args:
        limit_s: Seconds that a file's code may take for one request.
        variables: What the environment has besides ours, and instead of it.
    """

    def __init__(self, limit_s: float, variables: Mapping[str, str]) -> None:
        self._limit_s = limit_s
        self._variables = dict(variables)
        self._running: _Running | None = None
        self._starting = asyncio.Lock()
        self._again = asyncio.Lock()
        self._ids = count(1)

    async def ask(self, packages: Path, request: Mapping[str, Any]) -> dict[str, Any]:
        """Send a request and return its answer.

        Args:
            packages: Where zod and the others are.

        Raises:
            NodeMissing: There is none, or an old one.
            NodeEnded: It ended before it answered, twice.
        """
        try:
            return await self._ask(packages, request)
        except NodeEnded:
            # One of those that it had may end it again, and none of the others with it.
            async with self._again:
                return await self._ask(packages, request)

    async def close(self) -> None:
        """End the process."""
        async with self._starting:
            running, self._running = self._running, None
        if running is not None:
            await running.end()

    async def _ask(self, packages: Path, request: Mapping[str, Any]) -> dict[str, Any]:
        running = await self._process(packages)
        number = next(self._ids)
        answer = asyncio.get_running_loop().create_future()
        running.waiting[number] = answer
        texts = Texts()
        try:
            line = {**request, "id": number, "input": texts.taken_out(request.get("input"))}
            # Whoever asks may be cancelled, the frame must be whole.
            await asyncio.shield(asyncio.ensure_future(_send(running, line, texts)))
            reply, more = await asyncio.wait_for(answer, self._limit_s * PATIENCE)
            return {name: texts.put_back(value, more) for name, value in reply.items()}
        except asyncio.TimeoutError:
            await running.end()
            raise NodeEnded("Node.js was stuck") from None
        finally:
            running.waiting.pop(number, None)
            if answer.done() and not answer.cancelled():
                answer.exception()  # seen: sending may have failed first

    async def _process(self, packages: Path) -> _Running:
        async with self._starting:
            if self._running is None or self._running.is_gone:
                if self._running is not None:
                    await self._running.end()
                self._running = await self._start(packages)
            return self._running

    async def _start(self, packages: Path) -> _Running:
        node = await self._find()
        options = {"packages": str(packages), "limit": int(self._limit_s * 1000)}
        process = await asyncio.create_subprocess_exec(
            node,
            str(SCRIPT),
            json.dumps(options),
            env={**without_secrets(), **self._variables},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            limit=LONGEST_LINE,
            # A Ctrl-C is for us; when we end, its input does and so does it.
            start_new_session=os.name == "posix",
        )
        running = _Running(process)
        running.readers += [
            asyncio.create_task(_read_answers(running)),
            asyncio.create_task(_read_complaints(process)),
        ]
        return running

    async def _find(self) -> str:
        node = shutil.which("node")
        if node is None:
            raise NodeMissing(f"it needs Node.js {OLDEST} or newer, and `node` is not on PATH")
        test = await asyncio.create_subprocess_exec(
            node, "-e", VERSION_TEST, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        if await test.wait() != 0:
            raise NodeMissing(f"it needs Node.js {OLDEST} or newer, which {node} is not")
        return node


async def _send(running: _Running, line: Mapping[str, Any], texts: Texts) -> None:
    assert running.process.stdin is not None
    try:
        async with running.writing:
            await write_frame(running.process.stdin, line, texts)
    except (BrokenPipeError, ConnectionResetError):
        running.lose()
        raise NodeEnded("Node.js has ended") from None


async def _read_answers(running: _Running) -> None:
    assert running.process.stdout is not None
    try:
        while frame := await read_frame(running.process.stdout):
            _take(running, *frame)
    finally:
        running.lose()


def _take(running: _Running, reply: dict[str, Any], texts: list[str]) -> None:
    if "log" in reply:
        log.info("%s: %s", reply["file"], reply["log"])
        return
    answer = running.waiting.get(reply["id"])
    if answer is not None and not answer.done():
        answer.set_result((reply, texts))


async def _read_complaints(process: asyncio.subprocess.Process) -> None:
    assert process.stderr is not None
    async for line in process.stderr:
        log.warning("Node.js: %s", line.decode(errors="replace").rstrip())
