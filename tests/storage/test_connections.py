"""The HTTP client: what it sends, and that it tells whole from cut, slow and cancelled."""

from __future__ import annotations

import os
import resource
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest
from pydantic import SecretStr

from comfyui_stateless.config import HttpAccess
from comfyui_stateless.errors import (
    HostRefused,
    OutOfDescriptors,
    StorageError,
    TransferFailed,
    UnsupportedURL,
)
from comfyui_stateless.storage.answers import Inlet
from comfyui_stateless.storage.base import Cancel, Cancelled, Source
from comfyui_stateless.storage.connections import Client, Request
from comfyui_stateless.storage.policy import Policy
from comfyui_stateless.storage.sockets import Timeouts
from tests.storage.file_server import BOUND_S, FileServer, file_server, listener
from tests.storage.requesting import (
    CONTENT,
    CREDENTIALS,
    PATIENT,
    SECRET,
    assert_no_secret,
    body,
    cancelled_after,
    client,
    get,
)


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as server:
        yield server


@pytest.fixture
def other() -> Iterator[FileServer]:
    with file_server() as server:
        yield server


SHORT = Timeouts(connect_s=0.3, read_s=0.3)


@contextmanager
def no_descriptors() -> Iterator[None]:
    """Let this process open nothing for the block, as when it has opened all that it may.

    The descriptors are taken, since a limit below what a thread is polling breaks its ``poll``.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as taken:
        highest = taken.enter_context(Path(os.devnull).open("rb")).fileno()
        highest = max(highest, *(int(entry.name) for entry in Path("/dev/fd").iterdir()))
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 1, hard))
        taken.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        with suppress(OSError):
            while True:
                taken.callback(os.close, os.dup(0))
        yield


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_to_be_out_of_descriptors_is_no_fault_of_the_url(server: FileServer, host: str) -> None:
    url = server.add("/a", b"1").replace("127.0.0.1", host)
    with no_descriptors(), pytest.raises(OutOfDescriptors) as caught:
        get(client(), url)
    assert (caught.value.status, caught.value.is_servers) == (503, True)
    assert body(get(client(), url)) == b"1"


def test_a_request_says_who_we_are_and_wants_bytes_as_they_are(server: FileServer) -> None:
    body(get(client(), server.add("/a", b"1")))
    headers = server.requests[0].headers
    assert headers["user-agent"].startswith("comfyui-stateless/")
    assert headers["accept-encoding"] == "identity"
    assert headers["host"] == f"127.0.0.1:{server.port}"


def test_a_header_takes_the_place_of_ours_and_is_sent_once() -> None:
    with listener(lambda peer: peer.sendall(EMPTY)) as (port, heads):
        request = Request(
            "GET", f"http://127.0.0.1:{port}/", headers={"user-agent": "another", "ACCEPT": "a/b"}
        )
        with client().request(request, Cancel()):
            pass
    lines = heads[0].decode().lower().split("\r\n")
    assert [line for line in lines if line.startswith(("user-agent", "accept:"))] == [
        "user-agent: another",
        "accept: a/b",
    ]


EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X-Key", "a\r\nX-Injected: 1"),
        ("X-Key", "a\nX-Injected: 1"),
        ("X-Key", "a\rb"),
        ("X-Key", "a\0b"),
        ("X-Key", "日本"),
        ("X-Key\r\nX-Injected", "1"),
        ("X Key", "1"),
        ("X-Key:", "1"),
        ("", "1"),
        ("Host", "internal"),
        ("content-length", "3"),
        ("Transfer-Encoding", "chunked"),
        ("Connection", "keep-alive"),
        ("Proxy-Authorization", "Basic x"),
    ],
)
@pytest.mark.parametrize("kind", ["headers", "credentials"])
def test_a_header_that_would_change_the_request_is_refused(
    server: FileServer, name: str, value: str, kind: str
) -> None:
    value += SECRET
    headers = {name: value} if kind == "headers" else {}
    credentials = {name: SecretStr(value)} if kind == "credentials" else {}
    request = Request("GET", server.add("/a"), headers=headers, credentials=credentials)
    with pytest.raises(UnsupportedURL) as caught:
        client().request(request, Cancel())
    assert_no_secret(caught.value)
    assert server.connections == 0


@pytest.mark.parametrize("name", ["Range", "If-Range", "Content-Type"])
def test_a_credential_cannot_change_what_comes(server: FileServer, name: str) -> None:
    with pytest.raises(UnsupportedURL):
        get(client(), server.add("/a"), credentials={name: SecretStr("bytes=0-1")})


def test_the_type_of_a_body_cannot_add_a_header(server: FileServer) -> None:
    source = Source(b"1", 1, "image/png\r\nX-Injected: 1")
    with pytest.raises(UnsupportedURL):
        client().request(Request("PUT", server.add("/a"), source=source), Cancel())


def test_a_request_shows_no_secret(server: FileServer) -> None:
    request = Request("GET", f"http://u:{SECRET}@a/?sig={SECRET}", credentials=CREDENTIALS)
    assert SECRET not in repr(request)


# Whole or cut


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
@pytest.mark.parametrize("buffer_bytes", [1, 1000, 256 * 1024])
def test_a_body_comes_whole_however_its_end_is_told(
    server: FileServer, framing: str, buffer_bytes: int
) -> None:
    content = CONTENT if buffer_bytes > 1 else CONTENT[:500]
    url = server.add("/a", content, framing=framing)
    assert body(get(client(), url), buffer_bytes) == content


@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
@pytest.mark.parametrize("tenth", range(10))
def test_a_cut_body_is_never_taken_for_whole(
    server: FileServer, framing: str, tenth: int, reset: bool
) -> None:
    cut_at = len(CONTENT) * tenth // 10
    url = server.add(f"/{SECRET}", CONTENT, framing=framing, cut_at=cut_at, reset=reset)
    with pytest.raises(TransferFailed) as caught:
        body(get(client(), url))
    assert url in caught.value.message


def test_what_came_before_a_cut_is_given_out(server: FileServer) -> None:
    url = server.add("/a", CONTENT, cut_at=150_000)
    buffer, count = memoryview(bytearray(len(CONTENT))), 0
    with get(client(), url) as response:
        while count < 150_000:
            count += response.readinto(buffer[count:])
        with pytest.raises(TransferFailed, match="106000 bytes early"):
            response.readinto(buffer[count:])
    assert buffer[:count] == CONTENT[:150_000]


def test_a_length_that_is_too_large_is_a_failed_transfer(server: FileServer) -> None:
    with pytest.raises(TransferFailed):
        body(get(client(), server.add("/a", b"0123", missing=1)))


def test_a_length_that_is_too_small_ends_the_body(server: FileServer) -> None:
    assert body(get(client(), server.add("/a", b"0123", missing=-1))) == b"012"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1",
        b"SSH-2.0-OpenSSH_9\r\n",
        b"<html>no HTTP</html>\r\n\r\n",
        b"HTTP/1.1 abc OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 200 + b"\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ],
    ids=[
        "nothing", "half-a-line", "another-protocol", "html", "no-status", "long-header",
        "many-headers", "no-chunk", "cut-chunk", "no-last-chunk",
    ],
)  # fmt: skip
def test_what_is_no_http_is_a_failed_transfer(answer: bytes) -> None:
    with listener(lambda peer: peer.sendall(answer)) as (port, _):
        url = f"http://127.0.0.1:{port}/?sig={SECRET}"
        with pytest.raises(TransferFailed) as caught:
            body(get(client(), url, credentials=CREDENTIALS))
    assert_no_secret(caught.value)


@pytest.mark.parametrize("takes_the_rest", [True, False])
def test_an_answer_before_the_body_was_taken_is_heard(tmp_path: Path, takes_the_rest: bool) -> None:
    def refuse(peer: socket.socket) -> None:
        peer.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
        peer.shutdown(socket.SHUT_WR)
        while takes_the_rest and peer.recv(65536):
            pass

    (file := tmp_path / "a").write_bytes(bytes(30_000_000))
    with listener(refuse) as (port, _):
        url = f"http://127.0.0.1:{port}/"
        source = Source(file, 30_000_000, "image/png")
        with client().request(Request("PUT", url, source=source), Cancel()) as response:
            assert response.status == 413


def test_success_before_the_body_was_taken_is_no_success(tmp_path: Path) -> None:
    def approve(peer: socket.socket) -> None:
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    (file := tmp_path / "a").write_bytes(bytes(30_000_000))
    with listener(approve) as (port, _):
        source = Source(file, 30_000_000, "image/png")
        request = Request("PUT", f"http://127.0.0.1:{port}/", source=source)
        with pytest.raises(TransferFailed):
            client().request(request, Cancel())


def test_a_file_that_became_shorter_is_not_uploaded(server: FileServer, tmp_path: Path) -> None:
    (file := tmp_path / "a").write_bytes(b"123")
    request = Request("PUT", f"{server.origin}/a", source=Source(file, 4, "image/png"))
    with pytest.raises(StorageError, match="became shorter"):
        client().request(request, Cancel())
    assert "/a" not in server.files


# Silence


def test_a_server_that_says_nothing_is_a_failed_transfer() -> None:
    hold = threading.Event()
    with listener(lambda peer: hold.wait(BOUND_S)) as (port, _):
        with pytest.raises(TransferFailed, match="silent for too long"):
            get(client(timeouts=SHORT), f"http://127.0.0.1:{port}/?sig={SECRET}")
        hold.set()


def test_a_body_that_stalls_is_a_failed_transfer(server: FileServer) -> None:
    url = server.add("/a", CONTENT, stall_at=100_000)
    with pytest.raises(TransferFailed, match="silent for too long"):
        body(get(client(timeouts=SHORT), url))


@contextmanager
def full_queue() -> Iterator[int]:
    """Yield a port that takes no more connections: the next one waits."""
    with ExitStack() as resources:
        server = resources.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(4):
            waiting = resources.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(server.getsockname())
        yield server.getsockname()[1]


def test_a_connection_that_is_not_taken_is_a_failed_transfer() -> None:
    with full_queue() as port, pytest.raises(TransferFailed):
        get(client(timeouts=SHORT), f"http://127.0.0.1:{port}/")


def test_a_port_that_nobody_listens_at_is_a_failed_transfer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(TransferFailed, match="refused"):
        get(client(), f"http://127.0.0.1:{port}/")


# Cancelling


def test_connecting_is_cancelled() -> None:
    with full_queue() as port, cancelled_after() as cancel, pytest.raises(Cancelled):
        get(client(timeouts=PATIENT), f"http://127.0.0.1:{port}/", cancel)


def test_a_tls_handshake_is_cancelled() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}/"
        with cancelled_after() as cancel, pytest.raises(Cancelled):
            get(client(timeouts=PATIENT), url, cancel)


@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_reading_is_cancelled_however_the_end_is_told(server: FileServer, framing: str) -> None:
    url = server.add("/a", CONTENT, framing=framing, stall_at=100_000)
    with cancelled_after() as cancel, pytest.raises(Cancelled):
        body(get(client(timeouts=PATIENT), url, cancel))


def test_a_connection_is_given_up_with_its_response(server: FileServer) -> None:
    gone = threading.Event()

    def watch(peer: socket.socket) -> None:
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n")
        with suppress(OSError):
            peer.recv(1)
        gone.set()

    cancel = Cancel()
    with (
        listener(watch) as (port, _),
        get(client(timeouts=PATIENT), f"http://127.0.0.1:{port}/", cancel),
    ):
        assert not gone.is_set()
    assert gone.wait(BOUND_S)
    cancel.cancel()


# Clients of the operator's


def test_a_client_that_trusts_more_reaches_more(server: FileServer, other: FileServer) -> None:
    url = server.add("/a", b"1")
    narrow = Client(Policy(HttpAccess()))
    assert body(get(narrow.trusting(f"{server.origin}/bucket"), url)) == b"1"
    with pytest.raises(HostRefused):
        get(narrow.trusting(other.origin), url)
    with pytest.raises(HostRefused):
        get(narrow, url)


def test_an_answer_whose_file_is_collected_first_ends_without_an_error() -> None:
    here, there = socket.socketpair()
    with here, there:
        there.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n")
        raw = Inlet(here, 5).answer("GET")
        raw.fp.close()
        raw.close()
