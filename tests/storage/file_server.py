"""A real HTTP server for files, on threads; each file has faults that can be switched on."""

from __future__ import annotations

import hashlib
import re
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import unquote

OCTETS = "application/octet-stream"
BOUND_S = 20.0
PIECE_BYTES = 64 * 1024


@dataclass
class File:
    """What a path holds, and what is wrong with how it is served.

    Attributes:
        status: Answered in place of the usual one, with ``headers`` and ``content``.
        headers: Sent with every answer, in place of those of the same name.
        version: What identifies the content: a strong or weak ETag, a date, or nothing.
        ranges: Whether parts are served; ``lying`` sends other parts than it says,
            ``unconditional`` sends parts of another version in spite of If-Range.
        framing: How the end of the body is told.
        cut_at: Bytes of the body after which the connection ends, in order or by a reset.
        stall_at: Bytes of the body after which nothing more comes.
        head_status: What HEAD is answered with.
        missing: Bytes that the announced length is too large by.
    """

    content: bytes = b""
    media_type: str = OCTETS
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    version: Literal["strong", "weak", "date", "none"] = "strong"
    modified_s: float = 1_700_000_000
    ranges: Literal["yes", "no", "lying", "unconditional"] = "yes"
    framing: Literal["length", "chunked", "close"] = "length"
    cut_at: int | None = None
    reset: bool = False
    stall_at: int | None = None
    head_status: int | None = None
    missing: int = 0

    @property
    def etag(self) -> str:
        return f'"{hashlib.sha256(self.content).hexdigest()[:16]}"'


@dataclass(frozen=True)
class Seen:
    """A request that arrived."""

    method: str
    path: str
    headers: dict[str, str]


class FileServer:
    """Serves ``files`` by their decoded paths, which begin with a slash; takes PUT.

    Attributes:
        requests: What arrived, in order.
        connections: How many connections were made.
        authorization: The value of Authorization without which everything is refused.
        stalled: Set when an answer has stopped in its middle.
    """

    def __init__(self, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self.files: dict[str, File] = {}
        self.requests: list[Seen] = []
        self.connections = 0
        self.authorization: str | None = None
        self.stalled = threading.Event()
        self.released = threading.Event()
        self.host = host
        self._tls = tls
        self._server = _Server(self, host, tls)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.005,))
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def origin(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}"

    def add(self, path: str, content: bytes = b"", **faults: object) -> str:
        """Serve ``content``, with faults, and return its URL; ``path`` needs no encoding."""
        self.files[path] = File(content, **faults)  # type: ignore[arg-type] # a test's own words
        return self.origin + path

    def redirect(self, path: str, location: str, status: int = 302) -> str:
        return self.add(path, status=status, headers={"Location": location})

    def close(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextmanager
def file_server(host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> Iterator[FileServer]:
    server = FileServer(host, tls)
    try:
        yield server
    finally:
        server.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, files: FileServer, host: str, tls: ssl.SSLContext | None) -> None:
        self.files = files
        self.tls = tls
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        super().__init__((host, 0), _Handler)

    def server_bind(self) -> None:
        # The base class looks its own name up, which may take long.
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()

    def process_request(self, request: object, client_address: object) -> None:
        self.files.connections += 1
        super().process_request(request, client_address)  # type: ignore[arg-type] # as it came

    def finish_request(self, request: object, client_address: object) -> None:
        assert isinstance(request, socket.socket)
        request.settimeout(BOUND_S)
        with suppress(OSError):
            if self.tls:
                request = self.tls.wrap_socket(request, server_side=True)
            super().finish_request(request, client_address)
            if self.tls:
                request.close()


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._serve(with_body=True)

    def do_HEAD(self) -> None:
        self._serve(with_body=False)

    def do_PUT(self) -> None:
        files = self.server.files
        self._note()
        length = int(self.headers["Content-Length"])
        content = self.rfile.read(length)
        if len(content) < length:
            return
        present = files.files.get(self._path)
        if not self._is_allowed():
            self._answer(401, {}, b"")
        elif present and present.status:
            self._answer(present.status, present.headers, present.content)
        else:
            files.files[self._path] = File(content, self.headers["Content-Type"])
            self._answer(201, {}, b"")

    def _serve(self, *, with_body: bool) -> None:
        self._note()
        file = self.server.files.files.get(self._path)
        if not self._is_allowed():
            self._answer(401, {}, b"denied")
        elif file is None:
            self._answer(404, {}, b"not here" if with_body else b"")
        elif not with_body and file.head_status:
            self._answer(file.head_status, {}, b"")
        else:
            self._send(file, with_body=with_body)

    def _send(self, file: File, *, with_body: bool) -> None:
        part, headers = self._part(file)
        status = file.status or (206 if "Content-Range" in headers else 200)
        if headers.get("Content-Range", "").startswith("bytes */"):
            status = file.status or 416
        headers.update(_validators(file))
        headers.update({"Content-Type": file.media_type, "Date": formatdate(usegmt=True)})
        if file.framing == "length":
            headers["Content-Length"] = str(len(part) + file.missing)
        elif file.framing == "chunked":
            headers["Transfer-Encoding"] = "chunked"
        self._head(status, {**headers, **file.headers})
        if with_body:
            self._body(file, part)

    def _part(self, file: File) -> tuple[bytes, dict[str, str]]:
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        headers = {} if file.ranges == "no" else {"Accept-Ranges": "bytes"}
        condition = self.headers.get("If-Range")
        met = condition is None or condition in _validators(file).values()
        if file.ranges == "no" or not match or not (met or file.ranges == "unconditional"):
            return file.content, headers
        start, end = int(match[1]), int(match[2] or len(file.content)) + 1
        part, size = file.content[start:end], len(file.content)
        said = start + (file.ranges == "lying")
        what = f"{said}-{said + len(part) - 1}" if part else "*"
        return part, {**headers, "Content-Range": f"bytes {what}/{size}"}

    def _body(self, file: File, part: bytes) -> None:
        stop = min(n for n in (file.cut_at, file.stall_at, len(part)) if n is not None)
        for at in range(0, stop, PIECE_BYTES):
            piece = part[at : min(at + PIECE_BYTES, stop)]
            if file.framing == "chunked":
                piece = b"%x\r\n%b\r\n" % (len(piece), piece)
            self.wfile.write(piece)
        if file.stall_at is not None:
            self.server.files.stalled.set()
            self.server.files.released.wait(BOUND_S)
        elif file.reset:
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        elif file.framing == "chunked" and file.cut_at is None:
            self.wfile.write(b"0\r\n\r\n")

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self._head(status, {"Content-Length": str(len(body)), **headers})
        self.wfile.write(body)

    def _head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response_only(status)
        for name, value in {**headers, "Connection": "close"}.items():
            self.send_header(name, value)
        self.end_headers()
        self.close_connection = True

    def _note(self) -> None:
        seen = Seen(self.command, self.path, {k.lower(): v for k, v in self.headers.items()})
        self.server.files.requests.append(seen)

    @property
    def _path(self) -> str:
        return unquote(self.path.partition("?")[0])

    def _is_allowed(self) -> bool:
        wanted = self.server.files.authorization
        return wanted is None or self.headers.get("Authorization") == wanted

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""


def _validators(file: File) -> dict[str, str]:
    return {
        "strong": {"ETag": file.etag},
        "weak": {"ETag": f"W/{file.etag}"},
        "date": {"Last-Modified": formatdate(file.modified_s, usegmt=True)},
        "none": {},
    }[file.version]


@contextmanager
def listener(
    answer: Callable[[socket.socket], object], host: str = "127.0.0.1"
) -> Iterator[tuple[int, list[bytes]]]:
    """Give each connection's socket, its first request read, to ``answer``; then hang up.

    Yields the port, and the list of the heads of the requests so far.
    """
    heads: list[bytes] = []
    with socket.create_server((host, 0)) as server:
        thread = threading.Thread(target=_accept, args=(server, answer, heads))
        thread.start()
        try:
            yield server.getsockname()[1], heads
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(BOUND_S)


def _accept(
    server: socket.socket, answer: Callable[[socket.socket], object], heads: list[bytes]
) -> None:
    with suppress(OSError):
        while True:
            connection, _ = server.accept()
            with connection, suppress(OSError):
                connection.settimeout(BOUND_S)
                head = b""
                while b"\r\n\r\n" not in head and (more := connection.recv(65536)):
                    head += more
                heads.append(head)
                answer(connection)
