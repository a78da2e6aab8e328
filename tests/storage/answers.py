"""A small HTTP server on threads that answers with what a function returns."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Call:
    """A request that arrived."""

    method: str
    path: str
    query: str
    authorization: str | None
    body: bytes = field(default=b"", repr=False)


@dataclass
class Answer:
    """A response before it is sent."""

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


Answering = Callable[[Call], Answer]


@contextmanager
def answering(answer: Answering, calls: list[Call]) -> Iterator[str]:
    """Serve on a free port of 127.0.0.1, write down what arrives; give the origin."""
    server = _Server(("127.0.0.1", 0), _handler(answer, calls))
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Server(ThreadingHTTPServer):
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """Keep quiet: clients that hang up are part of the tests."""


def _handler(answer: Answering, calls: list[Call]) -> type[BaseHTTPRequestHandler]:
    return type("Handler", (_Handler,), {"answer": staticmethod(answer), "calls": calls})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 10
    disable_nagle_algorithm = True
    answer: Answering
    calls: list[Call]

    def _serve(self) -> None:
        parts = urlsplit(self.path)
        login = self.headers.get("Authorization")
        call = Call(self.command, parts.path, parts.query, login, self._body())
        self.calls.append(call)
        self._send(_part(self.answer(call), self.headers))

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.status)
        for name, value in {**answer.headers, "Content-Length": len(answer.body)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet."""

    do_GET = do_HEAD = do_POST = do_PUT = _serve  # noqa: N815 - the server's names


def _part(answer: Answer, asked: Message) -> Answer:
    found = re.fullmatch(r"bytes=(\d+)-(\d*)", asked.get("Range", ""))
    if asked.get("If-Range", etag := answer.headers.get("ETag")) != etag:
        return answer
    if answer.status != 200 or found is None or "Accept-Ranges" not in answer.headers:
        return answer
    start, size = int(found[1]), len(answer.body)
    end = min(int(found[2] or size) + 1, size)
    if start >= size:
        return Answer(416, b"", {"Content-Range": f"bytes */{size}"})
    headers = {**answer.headers, "Content-Range": f"bytes {start}-{end - 1}/{size}"}
    return Answer(206, answer.body[start:end], headers)
