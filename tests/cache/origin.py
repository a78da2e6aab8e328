"""A real HTTP server of files that can misbehave in every way that the tests need."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PIECE_BYTES = 16 * 1024


@dataclass
class File:
    """What a path holds, and how it is served.

    Attributes:
        etag: None sends none; by default it is made of the content.
        ranges: Whether parts are given.
        says_range: Stands in for the right Content-Range.
        length: Stands in for the right Content-Length of the whole; chunked where it is 0.
        cut_every: Ends the connection after as many bytes of a body.
        rate: Bytes per second of one connection.
        failures: Statuses, with headers, that the next requests get first.
        token: The bearer token without which the answer is 401.
        on_get: Called before each GET is answered.
        gate: Held until it is set, after the first piece of a body.
    """

    content: bytes = b""
    media_type: str = "application/octet-stream"
    headers: dict[str, str] = field(default_factory=dict)
    etag: str | None = ""
    ranges: bool = True
    says_range: str | None = None
    length: int | None = None
    cut_every: int | None = None
    rate: float | None = None
    failures: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    authorization: str | None = None
    on_get: Callable[[], object] | None = None
    gate: threading.Event | None = None

    @property
    def tag(self) -> str | None:
        return (
            f'"{hashlib.sha256(self.content).hexdigest()[:16]}"' if self.etag == "" else self.etag
        )


@dataclass(frozen=True)
class Seen:
    """A request that came in."""

    method: str
    path: str
    headers: dict[str, str]

    @property
    def range(self) -> str | None:
        return self.headers.get("range")


class Origin:
    """Serves ``files`` by path; ``seen`` is what was asked, in order."""

    def __init__(self) -> None:
        self.files: dict[str, File] = {}
        self.seen: list[Seen] = []
        self.busy = 0
        self.most_busy = 0
        self.mutex = threading.Lock()
        origin = self

        class Handler(_Handler):
            site = origin

        self.server = _Server(("127.0.0.1", 0), Handler)

    def put(self, path: str, content: bytes, **how: object) -> str:
        """Serve a file; return its URL."""
        self.files[path.partition("?")[0]] = File(content, **how)  # type: ignore[arg-type]  # by name
        return self.url(path)

    def url(self, path: str, userinfo: str = "") -> str:
        at = f"{userinfo}@" if userinfo else ""
        return f"http://{at}127.0.0.1:{self.server.server_address[1]}{path}"

    def gets(self, path: str | None = None) -> list[Seen]:
        return [s for s in self.seen if s.method == "GET" and path in (None, s.path)]


class _Server(ThreadingHTTPServer):
    request_queue_size = 128
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that hangs up is no error here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: Origin

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        with self.site.mutex:
            self.site.busy += 1
            self.site.most_busy = max(self.site.busy, self.site.most_busy)
        try:
            self.answer()
        finally:
            with self.site.mutex:
                self.site.busy -= 1

    def answer(self) -> None:
        path = self.path.partition("?")[0]
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.site.seen.append(Seen(self.command, self.path, headers))
        file = self.site.files.get(path)
        if file is None:
            self.refuse(404, {})
            return
        if self.command == "GET" and file.on_get is not None:
            file.on_get()
        if file.failures:
            self.refuse(*file.failures.pop(0))
        elif file.authorization and headers.get("authorization") != file.authorization:
            self.refuse(401, {})
        else:
            self.give(file, headers)

    def refuse(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": "0", **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def give(self, file: File, headers: dict[str, str]) -> None:
        size = len(file.content)
        start, end = 0, size
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", headers.get("range", ""))
        if asked and file.ranges and headers.get("if-range") in (None, file.tag):
            start, end = int(asked[1]), min(size, int(asked[2] or size - 1) + 1)
            if start >= size:
                self.refuse(416, {"Content-Range": f"bytes */{size}"})
                return
            self.send_response(206)
            self.send_header("Content-Range", file.says_range or f"bytes {start}-{end - 1}/{size}")
            length = end - start
        else:
            asked = None
            self.send_response(200)
            length = size if file.length is None else file.length
        is_chunked = file.length == 0 and not asked
        self.head(file, length, is_chunked)
        if self.command == "GET":
            with suppress(OSError):
                self.body(
                    file,
                    file.content[start : min(end, start + length) if length else end],
                    is_chunked,
                    length,
                )

    def head(self, file: File, length: int, is_chunked: bool) -> None:
        self.send_header("Content-Type", file.media_type)
        if file.ranges:
            self.send_header("Accept-Ranges", "bytes")
        if file.tag is not None:
            self.send_header("ETag", file.tag)
        for name, value in file.headers.items():
            self.send_header(name, value)
        if is_chunked:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def body(self, file: File, content: bytes, is_chunked: bool, length: int) -> None:
        began, sent = time.monotonic(), 0
        most = len(content) if file.cut_every is None else min(file.cut_every, len(content))
        while sent < most:
            piece = content[sent : min(sent + PIECE_BYTES, most)]
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if is_chunked else piece)
            sent += len(piece)
            if file.gate is not None:
                file.gate.wait(10)
            if file.rate is not None:
                time.sleep(max(0.0, began + sent / file.rate - time.monotonic()))
        if most < len(content) or (not is_chunked and most < length):
            self.close_connection = True
        elif is_chunked:
            self.wfile.write(b"0\r\n\r\n")


@contextmanager
def serving() -> Iterator[Origin]:
    """Run an origin."""
    origin = Origin()
    thread = threading.Thread(target=origin.server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield origin
    finally:
        origin.server.shutdown()
        thread.join()
        origin.server.server_close()
