"""A small proxy that remembers what it was asked."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from pydantic import SecretStr

from tests.storage.file_server import BOUND_S
from tests.storage.requesting import SECRET


@dataclass
class TinyProxy:
    """A proxy that takes CONNECT and absolute URLs; it sends all of them to one place."""

    port: int = 0
    authorization: str | None = None
    status: int = 200
    heads: list[str] = field(default_factory=list)

    @property
    def url(self) -> SecretStr:
        return SecretStr(f"http://user:{SECRET}@127.0.0.1:{self.port}")


@contextmanager
def proxy_to(target: int, status: int = 200) -> Iterator[TinyProxy]:
    proxy = TinyProxy(status=status)
    with socket.create_server(("127.0.0.1", 0)) as server:
        proxy.port = server.getsockname()[1]
        threads = [threading.Thread(target=_accept_proxied, args=(server, proxy, target))]
        threads[0].start()
        yield proxy
        server.shutdown(socket.SHUT_RDWR)
        threads[0].join(BOUND_S)


def _accept_proxied(server: socket.socket, proxy: TinyProxy, target: int) -> None:
    with suppress(OSError):
        while True:
            threading.Thread(
                target=_proxied, args=(server.accept()[0], proxy, target), daemon=True
            ).start()


def _proxied(peer: socket.socket, proxy: TinyProxy, target: int) -> None:
    with peer, suppress(OSError):
        peer.settimeout(BOUND_S)
        head = peer.recv(65536)
        proxy.heads.append(head.decode("latin-1"))
        if proxy.status != 200:
            peer.sendall(b"HTTP/1.1 %d No\r\nContent-Length: 0\r\n\r\n" % proxy.status)
            return
        with socket.create_connection(("127.0.0.1", target)) as onward:
            if head.startswith(b"CONNECT"):
                peer.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
            else:
                line, rest = head.split(b"\r\n", 1)
                method, url, version = line.split()
                path = b"/" + url.split(b"/", 3)[3]
                onward.sendall(b" ".join((method, path, version)) + b"\r\n" + rest)
            back = threading.Thread(target=_pump, args=(onward, peer), daemon=True)
            back.start()
            _pump(peer, onward)
            back.join(BOUND_S)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while piece := source.recv(65536):
            sink.sendall(piece)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
