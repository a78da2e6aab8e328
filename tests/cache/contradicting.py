"""A server that says what a test has it say, however wrong that is as HTTP."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from tests.cache.content import noise

CONTENT = noise(100_000)

Say = Callable[[bytes, int], bytes]
"""Gives the answer to a request, by its head and by how many came before it."""


@contextmanager
def contradicting(say: Say) -> Iterator[tuple[str, list[bytes]]]:
    """Run such a server for the block; give its URL, and the heads of what it is asked."""
    heads: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listener:
        thread = threading.Thread(target=_serve, args=(listener, say, heads))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}/a.bin", heads
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _serve(listener: socket.socket, say: Say, heads: list[bytes]) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        with client, suppress(OSError):
            client.settimeout(10)
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += client.recv(1024 * 1024)
            client.sendall(say(head, len(heads)))
            heads.append(head)
            client.shutdown(socket.SHUT_WR)
            client.recv(1)


def answer(status: str, body: bytes, *headers: str) -> bytes:
    """Return an answer; its length is not announced unless ``headers`` do."""
    head = "\r\n".join([f"HTTP/1.1 {status}", *headers, "", ""])
    return head.encode("latin-1") + body


def chunk(body: bytes) -> bytes:
    """Return a chunked body of one chunk."""
    return b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


def breaking_once(say: Callable[[int], bytes], *headers: str) -> Say:
    """Break off the first answer in its middle; what asks for a part gets what ``say`` says.

    Args:
        say: Given where the part begins.
        headers: Of the answers with all.
    """
    whole = ("Accept-Ranges: bytes", f"Content-Length: {len(CONTENT)}", *headers)

    def answered(head: bytes, before: int) -> bytes:
        if not before:
            return answer("200 OK", CONTENT[: len(CONTENT) // 2], *whole)
        asked = re.search(rb"\r\nRange: bytes=(\d+)-", head)
        return say(int(asked[1])) if asked else answer("200 OK", CONTENT, *whole)

    return answered
