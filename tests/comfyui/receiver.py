"""A server, on threads, that takes webhooks and uploads, and can be down for a while."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote

from standardwebhooks import Webhook

SECRET = "whsec_dGhlIHRlc3RzIG9mIHRoZSBzdGF0ZWxlc3MgQVBJ"


@dataclass(frozen=True)
class Message:
    """A webhook that came, with a good signature.

    Attributes:
        at: When it came, on the monotonic clock.
    """

    message_id: str
    body: dict[str, Any]
    at: float

    @property
    def id(self) -> str:
        return str(self.body["id"])


@dataclass
class Receiver:
    """Takes POST and PUT at any path.

    Attributes:
        messages: What was posted and answered with 200.
        uploads: What was put, by the path.
        put_at: When that came, on the monotonic clock.
        forged: What came without a good signature.
        refuses: Whether a message is answered with 503 in place of 200.
        secret: What messages have to be signed with.
    """

    messages: list[Message] = field(default_factory=list)
    uploads: dict[str, bytes] = field(default_factory=dict)
    put_at: dict[str, float] = field(default_factory=dict)
    forged: list[bytes] = field(default_factory=list)
    refuses: Callable[[], bool] = lambda: False
    secret: str = SECRET
    port: int = 0
    _server: ThreadingHTTPServer | None = None
    _thread: threading.Thread | None = None

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        handler = type("Handler", (_Handler,), {"receiver": self})
        self._server = _Server(("127.0.0.1", self.port), handler)
        self.port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    def stop(self) -> None:
        """Be down; ``start`` takes the same port again."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()
            self._server = self._thread = None

    def of(self, job_id: str) -> list[Message]:
        return [message for message in list(self.messages) if message.id == job_id]

    def wait_for(self, job_id: str, within_s: float = 30) -> Message:
        deadline = time.monotonic() + within_s
        while not (found := self.of(job_id)):
            assert time.monotonic() < deadline, f"no message of {job_id}"
            time.sleep(0.02)
        return found[0]

    def take(self, headers: dict[str, str], content: bytes) -> int:
        """Take a message; return the status of the answer."""
        try:
            body = Webhook(self.secret).verify(content, headers)
        except Exception:  # noqa: BLE001  whatever is wrong with it
            self.forged.append(content)
            return 400
        assert body == json.loads(content)
        if self.refuses():
            return 503
        self.messages.append(Message(headers["webhook-id"], body, time.monotonic()))
        return 200

    def put(self, path: str, content: bytes) -> int:
        """Take an upload; return the status of the answer."""
        self.uploads[path] = content
        self.put_at.setdefault(path, time.monotonic())
        return 201


@contextmanager
def receiving(refuses: Callable[[], bool] = lambda: False) -> Iterator[Receiver]:
    """Run a receiver."""
    receiver = Receiver(refuses=refuses)
    receiver.start()
    try:
        yield receiver
    finally:
        receiver.stop()


def now_and_then(seed: int, share: float) -> Callable[[], bool]:
    """Return what says yes to a share of those who ask, by a seed."""
    generator = random.Random(seed)
    return lambda: generator.random() < share


class _Server(ThreadingHTTPServer):
    request_queue_size = 128

    def handle_error(self, *_: object) -> None:
        """Clients that are killed are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 20.0
    receiver: Receiver

    def do_POST(self) -> None:
        content = self._content()
        if content is not None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            self._answer(self.receiver.take(headers, content))

    def do_PUT(self) -> None:
        content = self._content()
        if content is not None:
            self._answer(self.receiver.put(unquote(self.path), content))

    def _content(self) -> bytes | None:
        """Return the body, None if it broke off."""
        length = int(self.headers["Content-Length"])
        content = self.rfile.read(length)
        return content if len(content) == length else None

    def _answer(self, status: int) -> None:
        self.send_response_only(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""
