"""A plain HTTP server for the files of a folder, in a process of its own: parts, and a speed limit.

    python -m benchmarks.file_server FOLDER [BYTES_PER_SECOND]

It writes its port to standard output. `GET /.sent` says how many bytes of files it has sent.
"""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import BinaryIO
from urllib.request import ProxyHandler, build_opener

SENT = "/.sent"
STEP_BYTES = 64 * 1024
"""Bytes between two looks at the clock, where the speed is limited."""

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@dataclass(frozen=True)
class FileServer:
    """A running server."""

    origin: str

    def sent(self) -> int:
        """Return how many bytes of files it has sent so far."""
        with build_opener(ProxyHandler({})).open(f"{self.origin}{SENT}", timeout=10) as answer:
            return int(answer.read())


@contextmanager
def file_server(folder: Path, bytes_per_second: int = 0) -> Iterator[FileServer]:
    """Serve a folder, each connection no faster than so many bytes per second; 0 is no limit."""
    command = [sys.executable, "-m", "benchmarks.file_server", str(folder), str(bytes_per_second)]
    root = Path(__file__).resolve().parent.parent
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield FileServer(f"http://127.0.0.1:{int(process.stdout.readline())}")
        finally:
            process.kill()


class Handler(BaseHTTPRequestHandler):
    """Answers GET and HEAD."""

    protocol_version = "HTTP/1.1"
    folder = Path()
    bytes_per_second = 0
    sent = 0
    lock = threading.Lock()

    def do_HEAD(self) -> None:
        self._answer(has_body=False)

    def do_GET(self) -> None:
        if self.path == SENT:
            self._head(200, len(str(Handler.sent)))
            self.wfile.write(str(Handler.sent).encode())
        else:
            self._answer(has_body=True)

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, *, has_body: bool) -> None:
        path = self.folder / self.path.partition("?")[0].rpartition("/")[2]
        if not path.is_file():
            self._head(404, 0)
            return
        size = path.stat().st_size
        asked = _RANGE.fullmatch(self.headers.get("Range", ""))
        start = int(asked[1]) if asked else 0
        end = min(int(asked[2]) + 1, size) if asked and asked[2] else size
        part = {"Content-Range": f"bytes {start}-{end - 1}/{size}"} if asked else {}
        self._head(206 if asked else 200, end - start, ETag=f'"{size:x}"', **part)
        if has_body:
            with path.open("rb") as file:
                self._send(file, start, end)

    def _head(self, status: int, length: int, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(length))
        self.send_header("Accept-Ranges", "bytes")
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _send(self, file: BinaryIO, start: int, end: int) -> None:
        began, step = time.monotonic(), STEP_BYTES if self.bytes_per_second else end - start
        for at in range(start, end, max(step, 1)):
            count = min(step, end - at)
            try:
                self.connection.sendfile(file, at, count)
            except OSError:
                self.close_connection = True
                return
            with self.lock:
                Handler.sent += count
            if self.bytes_per_second:
                due = began + (at + count - start) / self.bytes_per_second
                time.sleep(max(0.0, due - time.monotonic()))


class Server(ThreadingHTTPServer):
    """Takes many connections at once."""

    request_queue_size = 512
    daemon_threads = True


def main(folder: str, bytes_per_second: str = "0") -> None:
    """Serve until the process is ended."""
    Handler.folder, Handler.bytes_per_second = Path(folder), int(bytes_per_second)
    with Server(("127.0.0.1", 0), Handler) as server:
        server.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        print(server.server_port, flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
