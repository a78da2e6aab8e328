"""Servers that answer for ever: in the head, between the chunks, behind the body, byte by byte."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

import pytest

from comfyui_stateless.config import HttpAccess
from comfyui_stateless.errors import StorageError, TransferFailed
from comfyui_stateless.storage import answers
from comfyui_stateless.storage.base import Cancel
from comfyui_stateless.storage.connections import Client, Request, Response
from comfyui_stateless.storage.policy import Policy
from comfyui_stateless.storage.sockets import Timeouts
from tests.storage.requesting import body

BOUND_S = 5.0
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


@contextmanager
def saying(pieces: Callable[[], Iterable[bytes]], pause_s: float = 0) -> Iterator[str]:
    """Run a server that reads a request and says ``pieces``; give its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    client = listener.accept()[0]
                    with client, suppress(OSError):
                        client.recv(65536)
                        for piece in pieces():
                            client.sendall(piece)
                            time.sleep(pause_s)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/a"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(BOUND_S)


def asked(url: str) -> Response:
    policy = Policy(HttpAccess(trusted=frozenset({"*"})))
    client = Client(policy, timeouts=Timeouts(connect_s=2, read_s=0.2))
    return client.request(Request("GET", url), Cancel())


def without_end(*before: bytes, then: bytes) -> Callable[[], Iterable[bytes]]:
    return lambda: itertools.chain(before, itertools.repeat(then))


@pytest.mark.parametrize(
    "pieces",
    [
        without_end(OK, then=b"A: b\r\n" * 1000),
        without_end(OK, then=b"A" * 1000),
        without_end(then=b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
        without_end(then=b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 1000),
        without_end(then=b"H" * 1000),
        without_end(then=b"\r\n" * 1000),
        without_end(CHUNKED, then=b"1;" + b"x" * 1000),
        without_end(CHUNKED, then=b"0" * 1000),
        without_end(CHUNKED + b"1\r\na\r\n0\r\n", then=b"A: b\r\n" * 1000),
        lambda: [CHUNKED + b"-1\r\n"],
        lambda: [OK + b"Content-Length: 3\r\n\r\na"],
    ],
    ids=[
        "headers", "header", "continues", "hints", "status line", "empty lines",
        "chunk extension", "chunk size", "trailers", "negative chunk", "short",
    ],
)  # fmt: skip
def test_an_answer_without_end_is_a_failed_transfer(
    pieces: Callable[[], Iterable[bytes]],
) -> None:
    began = time.monotonic()
    with saying(pieces) as url, pytest.raises(TransferFailed):
        body(asked(url))
    assert time.monotonic() - began < BOUND_S


@pytest.mark.parametrize(
    "pieces",
    [
        without_end(then=b"H"),
        without_end(OK, then=b"A"),
        without_end(CHUNKED, then=b"0"),
        without_end(CHUNKED + b"0\r\n", then=b"A"),
    ],
    ids=["status line", "header", "chunk size", "trailer"],
)
def test_what_comes_byte_by_byte_without_end_is_a_failed_transfer(
    pieces: Callable[[], Iterable[bytes]],
) -> None:
    with saying(pieces, pause_s=0.05) as url, pytest.raises(TransferFailed):
        body(asked(url))


def test_a_body_that_comes_all_too_slowly_is_given_up_for_good(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(answers, "SLOW_S", 0.3)
    head = OK + b"Content-Length: 1000000\r\n\r\n"
    slow = saying(without_end(head, then=b"a"), pause_s=0.05)
    with slow as url, pytest.raises(StorageError, match="never end") as caught:
        body(asked(url))
    assert not isinstance(caught.value, TransferFailed)


def test_the_end_of_a_slow_but_short_body_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "SLOW_S", 0.05)
    monkeypatch.setattr(answers, "SLOW_BYTES", 1)
    with saying(lambda: [OK + b"Content-Length: 3\r\n\r\n", b"a", b"b", b"c"], pause_s=0.04) as url:
        assert body(asked(url)) == b"abc"


def test_a_chunk_of_a_negative_size_never_overflows_what_is_read_into() -> None:
    said = CHUNKED + b"-1\r\n" + b"a" * 1000
    with saying(lambda: [said]) as url, asked(url) as response, pytest.raises(TransferFailed):
        response.readinto(memoryview(bytearray(10)))


@pytest.mark.parametrize("interim", ["100 Continue", "102 Processing", "103 Early Hints"])
@pytest.mark.parametrize("split", [1, 30, 1000])
def test_interim_answers_are_passed_over(interim: str, split: int) -> None:
    first = f"HTTP/1.1 {interim}\r\nLink: </a>\r\n\r\n".encode()
    said = first * 3 + OK + b"Content-Length: 1\r\n\r\na"
    with saying(lambda: [said[:split], said[split:]], pause_s=0.01) as url:
        response = asked(url)
        assert (response.status, body(response)) == (200, b"a")


@pytest.mark.parametrize(
    "framing",
    [
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked, identity",
        "Content-Length: 3\r\nContent-Length: 5",
        "Content-Length: 3, 3",
        "Content-Length: 1_0",
        "Content-Length: +3",
        "Content-Length: -3",
        "Content-Length: 0x3",
        f"Content-Length: {'9' * 5000}",
    ],
)
def test_a_body_whose_end_is_not_clear_is_a_failed_transfer(framing: str) -> None:
    said = OK + framing.encode() + b"\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    with saying(lambda: [said]) as url, pytest.raises(TransferFailed, match="UnclearFraming"):
        body(asked(url))


@pytest.mark.parametrize(
    "framing",
    [
        "Content-Length: 3",
        "Content-Length: 3\r\nContent-Length: 3",
        "Transfer-Encoding: identity",
        "Connection: close",
    ],
)
def test_a_body_whose_end_is_clear_comes_whole(framing: str) -> None:
    with saying(lambda: [OK + framing.encode() + b"\r\n\r\nabc"]) as url:
        assert body(asked(url)) == b"abc"
