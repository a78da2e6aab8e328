"""How the tests of the HTTP client and its backend ask for things, and what they plant."""

from __future__ import annotations

import ssl
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from pydantic import SecretStr

from comfyui_stateless.config import HttpAccess
from comfyui_stateless.storage.auth import Auth
from comfyui_stateless.storage.base import Cancel, ObjectInfo, Span
from comfyui_stateless.storage.connections import Client, Request, Response
from comfyui_stateless.storage.http import HttpBackend, HttpDownload
from comfyui_stateless.storage.policy import Policy
from comfyui_stateless.storage.sockets import Timeouts
from tests.storage.contract import read_all
from tests.storage.file_server import BOUND_S, FileServer

CONTENT = bytes(range(256)) * 1000
SECRET = "planted-secret-77aa"
CREDENTIALS = {"Authorization": SecretStr(f"Bearer {SECRET}"), "X-Key": SecretStr(SECRET)}
PATIENT = Timeouts(connect_s=3 * BOUND_S, read_s=3 * BOUND_S)
"""For what is cancelled: no timeout is to end it before."""

GIVEN = (f"Bearer {SECRET}", SECRET)
"""What ``sent`` shows of a request that carried ``CREDENTIALS``."""


def client(
    *trusted: str,
    tls: ssl.SSLContext | None = None,
    timeouts: Timeouts = Timeouts(),  # noqa: B008 - it is frozen
) -> Client:
    """Return a client that trusts these origins, all of them where none is named."""
    access = HttpAccess(trusted=frozenset(trusted or {"*"}))
    return Client(Policy(access), tls=tls, timeouts=timeouts)


def get(
    client: Client,
    url: str,
    cancel: Cancel | None = None,
    credentials: Mapping[str, SecretStr] | None = None,
) -> Response:
    request = Request("GET", url, credentials=credentials or {})
    return client.request(request, cancel or Cancel())


def body(response: Response, buffer_bytes: int = 256 * 1024) -> bytes:
    """Read a response to its end, and close it."""
    content, buffer = bytearray(), memoryview(bytearray(buffer_bytes))
    with response:
        while count := response.readinto(buffer):
            content += buffer[:count]
    return bytes(content)


def sent(server: FileServer) -> list[tuple[str | None, str | None]]:
    """Return the credentials of each request that arrived."""
    return [(s.headers.get("authorization"), s.headers.get("x-key")) for s in server.requests]


def backend(access: HttpAccess | None = None) -> HttpBackend:
    """Return a backend that goes everywhere, or where ``access`` lets it."""
    access = access or HttpAccess(trusted=frozenset({"*"}))
    return HttpBackend(Client(Policy(access), access.proxies), access)


def head(url: str, auth: Auth | None = None, by: HttpBackend | None = None) -> ObjectInfo:
    return (by or backend()).head(url, auth, Cancel())


def opened(url: str, span: Span | None = None, auth: Auth | None = None) -> HttpDownload:
    return backend().open(url, auth, span, Cancel())


def content(download: HttpDownload) -> bytes:
    """Read a download to its end, and close it."""
    with download:
        return read_all(download)


def assert_no_secret(error: BaseException) -> None:
    shown = "".join(traceback.format_exception(error)) + repr(error)
    assert SECRET not in shown


@contextmanager
def cancelled_after(seconds: float = 0.15) -> Iterator[Cancel]:
    """Give a ``Cancel`` that is cancelled soon; see that the block ended because of it."""
    cancel, began = Cancel(), time.monotonic()
    timer = threading.Timer(seconds, cancel.cancel)
    timer.start()
    yield cancel
    timer.join()
    assert time.monotonic() - began < BOUND_S
