"""What the tests of uploads have in common."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

import pytest

from comfyui_stateless.config import AzureAccount, HttpAccess
from comfyui_stateless.engine import OutputFile
from comfyui_stateless.errors import StatelessError
from comfyui_stateless.storage.azure import AzureBackend, AzureTarget
from comfyui_stateless.storage.backends import Backends, Target
from comfyui_stateless.storage.base import Backend
from comfyui_stateless.storage.connections import Client
from comfyui_stateless.storage.http import HttpBackend, HttpTarget
from comfyui_stateless.storage.policy import Policy
from comfyui_stateless.uploads import Uploads
from tests.uploads.receiver import BOUND_S, Receiver

SECRET = "planted-secret-51cc"
LARGE_BYTES = 20 * 1024 * 1024 + 17

AWKWARD_NAMES = (
    "a/b/id_c_00001_.png",
    "with space.png",
    "ünïcödé 日本.png",
    "100%.png",
    "%41%2F.png",
    "a#b.png",
    "a?b=c&d.png",
    "a+b;c,d@e!$'(f)~.png",
)


def backends(*others: Backend, azure: AzureAccount | None = None) -> Backends:
    """Return these backends, and HTTP that goes everywhere."""
    access = HttpAccess(trusted=frozenset({"*"}))
    client = Client(Policy(access))
    account = azure or AzureAccount(None, None, None, None)
    return Backends(AzureBackend(account, client), (*others, HttpBackend(client, access)))


def output(name: str, body: bytes | Path = b"content", media_type: str = "image/png") -> OutputFile:
    size = len(body) if isinstance(body, bytes) else body.stat().st_size
    return OutputFile("9", name, "image", media_type, body, size, None, None)


def target(receiver: Receiver, prefix: str = "/out/") -> HttpTarget:
    return HttpTarget(url_prefix=f"{receiver.origin}{prefix}")


async def delivered(
    uploads: Uploads, place: Target | AzureTarget | None, outputs: Sequence[OutputFile]
) -> tuple[str, ...]:
    """Upload outputs as one job; return their URLs."""
    async with uploads.job(place) as job:
        return await job.finish(outputs)


async def failure(work: Awaitable[object]) -> StatelessError:
    """Return what fails."""
    with pytest.raises(StatelessError) as caught:
        await work
    return caught.value


async def come(moment: threading.Event) -> None:
    """Wait for something on another thread, so that the loop goes on."""
    assert await asyncio.to_thread(moment.wait, BOUND_S)


async def eventually(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + BOUND_S
    while not condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.005)
