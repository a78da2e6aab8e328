"""Sockets to where the policy lets us: pinned to a checked address, through proxies and TLS."""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache, partial
from typing import NamedTuple

from ..config import Proxies
from ..errors import AccessDenied, OutOfDescriptors, TransferFailed, is_out_of_descriptors
from .base import Cancel
from .policy import Policy, Target
from .proxies import Proxy, proxy_for


@lru_cache(maxsize=1)
def verifying_tls() -> ssl.SSLContext:
    """Return the context that checks servers against the system's authorities; made once."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


class Timeouts(NamedTuple):
    """Seconds: for a connection with all its addresses, for the next bytes of a peer."""

    connect_s: float = 10.0
    read_s: float = 30.0


class Dialer(NamedTuple):
    """Connects to targets.

    Attributes:
        tls: None is ``verifying_tls()``.
    """

    policy: Policy
    proxies: Proxies
    timeouts: Timeouts
    tls: ssl.SSLContext | None = None

    def dial(self, target: Target, proxy: Proxy | None, cancel: Cancel) -> socket.socket:
        """Return a socket that speaks HTTP with ``target``, or with the proxy on its behalf.

        Raises:
            HostRefused, TransferFailed: The policy says no; the name cannot be resolved.
            AccessDenied: The proxy says no.
            OSError, http.client.HTTPException: No connection came about.
        """
        addresses = self._addresses(target, proxy)
        cancel.check()
        port = proxy.port if proxy else target.port
        sock = _connected(addresses, port, self.timeouts.connect_s, cancel)
        try:
            if target.scheme == "https":
                sock = self._secured(sock, target, proxy, cancel)
            sock.settimeout(self.timeouts.read_s)
        except BaseException:
            sock.close()
            raise
        return sock

    def proxy_for(self, target: Target) -> Proxy | None:
        """Return the proxy that ``target`` is reached through, None for a direct connection."""
        return proxy_for(target, self.proxies)

    def _addresses(self, target: Target, proxy: Proxy | None) -> Sequence[str]:
        """Check ``target``; return the addresses to connect to, its own or the proxy's.

        What a proxy resolves cannot be pinned. So the name is checked here as far as it is known
        here: a literal address, and every address of a name that resolves. A name that does not
        is left to the proxy, which may be the only one that can resolve any.
        """
        if proxy is None:
            return self.policy.addresses(target)
        if not self.policy.trusts(target):
            with contextlib.suppress(TransferFailed):
                self.policy.addresses(target)
        return self.policy.resolve(proxy.host, proxy.port)

    def _secured(
        self, sock: socket.socket, target: Target, proxy: Proxy | None, cancel: Cancel
    ) -> ssl.SSLSocket:
        if proxy:
            with cancel.calling(partial(interrupt, sock)):
                _tunnel(sock, target, proxy)
        context = self.tls or verifying_tls()
        # A body of unknown length ends with the connection: TLS tells an end from a cut.
        secured = context.wrap_socket(
            sock,
            server_hostname=target.host,
            do_handshake_on_connect=False,
            suppress_ragged_eofs=False,
        )
        try:
            with cancel.calling(partial(interrupt, secured)):
                secured.do_handshake()
        except BaseException:
            secured.close()
            raise
        return secured


def interrupt(sock: socket.socket) -> None:
    """End what another thread waits for on ``sock``, and leave its TLS state alone.

    ``SSLSocket.shutdown`` drops the TLS layer: a read that goes on would return what it gets raw.
    """
    socket.socket.shutdown(sock, socket.SHUT_RDWR)


def request_head(method: str, path: str, headers: Mapping[str, str]) -> bytes:
    """Return a request up to its body; names and values were checked before."""
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items())]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


@contextlib.contextmanager
def failures_told(place: str, cancel: Cancel) -> Iterator[None]:
    """Raise what goes wrong with a connection as ``TransferFailed``, with ``place`` in front.

    Raises:
        Cancelled: It went wrong because it was cancelled.
    """
    try:
        yield
    except (OSError, http.client.HTTPException) as error:
        cancel.check()
        kind = OutOfDescriptors if is_out_of_descriptors(error) else TransferFailed
        raise kind(f"{place}: {_reason(error)}.") from error


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "the peer was silent for too long"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted ({error.verify_message})"
    if isinstance(error, http.client.IncompleteRead):
        return "the connection ended before the body did"
    if isinstance(error, http.client.RemoteDisconnected):
        return "the connection ended without an answer"
    if isinstance(error, http.client.HTTPException):
        return f"the answer is not valid HTTP ({type(error).__name__})"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def _connected(
    addresses: Sequence[str], port: int, timeout_s: float, cancel: Cancel
) -> socket.socket:
    """Connect to the first address that takes it; what they share is the time."""
    deadline = time.monotonic() + timeout_s
    for left in range(len(addresses), 1, -1):
        share = max(deadline - time.monotonic(), 0.1) / left
        try:
            return _connected_to(addresses[-left], port, share, cancel)
        except OSError:
            cancel.check()
    return _connected_to(addresses[-1], port, max(deadline - time.monotonic(), 0.1), cancel)


def _connected_to(address: str, port: int, timeout_s: float, cancel: Cancel) -> socket.socket:
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.settimeout(timeout_s)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with cancel.calling(partial(interrupt, sock)):
            sock.connect((address, port))
        cancel.check()
    except BaseException:
        sock.close()
        raise
    return sock


def _tunnel(sock: socket.socket, target: Target, proxy: Proxy) -> None:
    host = f"[{target.host}]" if ":" in target.host else target.host
    place = f"{host}:{target.port}"
    sock.sendall(request_head("CONNECT", place, {"Host": place, **proxy.headers()}))
    with contextlib.closing(http.client.HTTPResponse(sock, method="CONNECT")) as answer:
        answer.begin()
        status = answer.status
    if status in (401, 403, 407):
        raise AccessDenied(f"The proxy {proxy.host} refused a connection to {place} ({status}).")
    if not 200 <= status < 300:
        raise TransferFailed(f"The proxy {proxy.host} has no connection to {place} ({status}).")
