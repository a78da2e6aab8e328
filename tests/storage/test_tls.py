"""Connections over TLS: whom they trust, and where a body ends."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from comfyui_stateless.config import HttpAccess
from comfyui_stateless.errors import (
    TransferFailed,
)
from comfyui_stateless.storage.base import Cancel, Source
from comfyui_stateless.storage.connections import Client, Request
from comfyui_stateless.storage.policy import Policy
from comfyui_stateless.storage.sockets import interrupt
from tests.storage.certificates import authority
from tests.storage.file_server import BOUND_S, FileServer, file_server
from tests.storage.requesting import (
    CONTENT,
    body,
    client,
    get,
)


@pytest.fixture
def secure() -> Iterator[FileServer]:
    with file_server(tls=authority().server) as server:
        yield server


@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_a_body_comes_over_tls(secure: FileServer, framing: str) -> None:
    url = secure.add("/a", CONTENT, framing=framing)
    assert body(get(client(tls=authority().client), url)) == CONTENT


def test_an_upload_goes_over_tls(secure: FileServer, tmp_path: Path) -> None:
    (file := tmp_path / "a").write_bytes(CONTENT)
    source = Source(file, len(CONTENT), "image/png")
    request = Request("PUT", f"{secure.origin}/a", source=source)
    with client(tls=authority().client).request(request, Cancel()) as response:
        assert response.status == 201
    assert secure.files["/a"].content == CONTENT


def test_a_certificate_of_nobody_we_know_is_refused(secure: FileServer) -> None:
    with pytest.raises(TransferFailed, match="certificate is not trusted"):
        get(client(), secure.add("/a"))
    assert secure.requests == []


def test_a_certificate_is_checked_for_the_name_and_not_the_address(secure: FileServer) -> None:
    policy = Policy(HttpAccess(), resolve=lambda host, port: ["127.0.0.1"], refused=())
    secure.add("/a", b"1")
    tls = Client(policy, tls=authority().client)
    assert body(get(tls, f"https://secure.example:{secure.port}/a")) == b"1"
    with pytest.raises(TransferFailed, match="certificate is not trusted"):
        get(tls, f"https://another.example:{secure.port}/a")


def test_a_tls_body_of_unknown_length_is_whole_only_if_tls_says_so() -> None:
    answer = b"HTTP/1.1 200 OK\r\n\r\n0123"
    tls = client(tls=authority().client)
    with tls_once(authority().server, answer, ssl.SSLSocket.unwrap) as port:
        assert body(get(tls, f"https://127.0.0.1:{port}/")) == b"0123"
    with tls_once(authority().server, answer, interrupt) as port:
        response = get(tls, f"https://127.0.0.1:{port}/")
        with pytest.raises(TransferFailed):
            body(response)


@contextmanager
def tls_once(
    context: ssl.SSLContext, answer: bytes, end: Callable[[ssl.SSLSocket], object]
) -> Iterator[int]:
    """Answer one connection over TLS, and end it with ``end``."""

    def serve() -> None:
        with listening, context.wrap_socket(listening.accept()[0], server_side=True) as peer:
            peer.settimeout(BOUND_S)
            peer.recv(65536)
            peer.sendall(answer)
            with suppress(OSError):
                end(peer)

    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=serve)
    thread.start()
    yield listening.getsockname()[1]
    thread.join(BOUND_S)
