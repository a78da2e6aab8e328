"""An HTTP server that takes uploads: slowly, or not at the first time, where a test wants that."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

BOUND_S = 20.0
PIECE_BYTES = 64 * 1024


@dataclass
class Answer:
    """What an upload is answered with."""

    status: int = 201
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Received:
    """An upload that came whole."""

    digest: str
    size: int
    media_type: str
    target: str
    authorization: str | None


class Hold:
    """Stops uploads to a path in their middle, or at their end, until it is released."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.released = threading.Event()


class Receiver:
    """Takes PUT.

    Attributes:
        received: What came whole, by its decoded path.
        requests: The decoded paths of all that began to come.
        broken: The decoded paths of what broke off.
        answers: What the next uploads to a path are answered with; 201 after that.
        holds: What stops the uploads to a path.
        at_once, most_at_once: Uploads that are being taken now, and that ever were.
    """

    def __init__(self) -> None:
        self.received: dict[str, Received] = {}
        self.requests: list[str] = []
        self.broken: list[str] = []
        self.answers: dict[str, list[Answer]] = {}
        self.holds: dict[str, Hold] = {}
        self.at_once = self.most_at_once = 0
        self.changed = threading.Condition()
        self.origin = ""

    def hold(self, path: str) -> Hold:
        return self.holds.setdefault(path, Hold())

    def came(self, path: str, content: bytes) -> bool:
        """Say whether this is what came whole to a path."""
        found = self.received.get(path)
        return found is not None and found.digest == hashlib.sha256(content).hexdigest()

    def wait_until_idle(self) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self.at_once == 0, BOUND_S)

    def begins(self, path: str) -> None:
        with self.changed:
            self.requests.append(path)
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)

    def ends(self) -> None:
        with self.changed:
            self.at_once -= 1
            self.changed.notify_all()


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Run a receiver for the block."""
    receiver = Receiver()
    handler = type("Handler", (_Handler,), {"receiver": receiver})
    server = _Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.005,))
    thread.start()
    receiver.origin = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield receiver
    finally:
        for hold in receiver.holds.values():
            hold.released.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """Keep quiet: clients that hang up are part of the tests."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = BOUND_S
    receiver: Receiver

    def do_PUT(self) -> None:
        path = unquote(self.path.partition("?")[0])
        self.receiver.begins(path)
        try:
            found = self._body(path)
            if found is None:
                self.receiver.broken.append(path)
            else:
                self._answer(path, found)
        finally:
            self.receiver.ends()

    def _body(self, path: str) -> Received | None:
        length, digest = int(self.headers["Content-Length"]), hashlib.sha256()
        left, hold = length, self.receiver.holds.get(path)
        while left:
            piece = b""
            with suppress(OSError):
                piece = self.rfile.read1(min(left, PIECE_BYTES))
            if not piece:
                return None
            digest.update(piece)
            left -= len(piece)
            if hold:
                hold.reached.set()
                hold.released.wait(BOUND_S)
        login = self.headers.get("Authorization")
        media_type = self.headers["Content-Type"]
        return Received(digest.hexdigest(), length, media_type, self.path, login)

    def _answer(self, path: str, found: Received) -> None:
        answers = self.receiver.answers.get(path)
        answer = answers.pop(0) if answers else Answer()
        if answer.status < 300:
            self.receiver.received[path] = found
        self.send_response_only(answer.status)
        for name, value in {**answer.headers, "Content-Length": "0"}.items():
            self.send_header(name, value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""
