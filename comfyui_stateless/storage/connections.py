"""A blocking HTTP/1.1 client that goes where the policy lets it, and tells whole from cut."""

from __future__ import annotations

import contextlib
import http.client
import io
import re
import socket
import ssl
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NamedTuple
from urllib.parse import quote, urljoin

from pydantic import SecretStr

from .. import __version__
from ..config import Proxies
from ..errors import HostRefused, StorageError, TransferFailed, UnsupportedURL
from .answers import Inlet, Pace
from .base import Cancel, Source
from .policy import PRINTABLE, Policy, Target, parse
from .proxies import Proxy
from .sockets import Dialer, Timeouts, failures_told, interrupt, request_head

MAX_REDIRECTS = 10
USER_AGENT = f"comfyui-stateless/{__version__}"

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_REPEATING_REDIRECTS = frozenset({307, 308})
_SEND_BYTES = 128 * 1024
"""A piece has to be taken within the time limit for reads, also where the line is slow."""

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_NOT_IN_VALUES = re.compile(r"[^\t\x20-\x7e\x80-\xff]")
_FRAMING = frozenset(
    {
        "accept-encoding", "connection", "content-length", "expect", "host", "keep-alive",
        "proxy-authorization", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
    }
)  # fmt: skip
"""Headers that say how a message is framed, or are for a proxy: only this module sets them."""

_MEANING = frozenset({"content-encoding", "content-range", "content-type", "if-range", "range"})
"""Headers that change what comes: no credential is one."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for.

    Attributes:
        headers: Sent to every origin that redirects lead to.
        credentials: Headers for the origin of ``url`` alone, until a redirect leaves it.
        source: The body, if there is one.
    """

    method: str
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict)
    credentials: Mapping[str, SecretStr] = field(default_factory=dict)
    source: Source | None = None


class Response:
    """An answer whose body has yet to be read; a context manager that gives up its connection.

    Attributes:
        target: Where it came from in the end.
        first_headers: Of the first answer, which may have been a redirect.
    """

    def __init__(
        self,
        raw: http.client.HTTPResponse,
        inlet: Inlet,
        target: Target,
        cancel: Cancel,
        resources: contextlib.ExitStack,
    ) -> None:
        self.target = target
        self.first_headers = raw.headers
        self.status = raw.status
        self.headers = raw.headers
        self._place = target.redacted
        self._raw = raw
        self._inlet = inlet
        self._pace = Pace(self._place)
        self._left = raw.length
        self._cancel = cancel
        self._resources = resources

    @property
    def length(self) -> int | None:
        """Bytes of the body that are still to come, None where that is not known."""
        return self._left

    def readinto(self, buffer: memoryview) -> int:
        """Fill the front of ``buffer`` with what is there; return how many bytes, 0 at the end.

        Raises:
            TransferFailed: The connection broke, stalled, or ended before the body did.
            StorageError: It comes so slowly that it would never end.
            Cancelled: It was cancelled.
        """
        self._cancel.check()
        began = time.monotonic()
        self._inlet.begin_step(buffer.nbytes)
        with failures_told(self._place, self._cancel):
            count = self._read(buffer)
        self._pace.note(count, time.monotonic() - began)
        # Cancelling shuts the socket down, which looks like the end of the body.
        self._cancel.check()
        if self._left is not None:
            if not count and self._left and buffer.nbytes:
                raise TransferFailed(
                    f"{self._place}: the connection ended {self._left} bytes early."
                )
            self._left -= count
        return count

    def _read(self, buffer: memoryview) -> int:
        """Read once from the socket: what arrived before a connection breaks is not lost."""
        if self._raw.chunked:
            piece = self._raw.read1(buffer.nbytes)
            if len(piece) > buffer.nbytes:  # of a chunk whose size is negative
                raise http.client.IncompleteRead(b"")
            buffer[: len(piece)] = piece
            return len(piece)
        return self._raw.fp.readinto1(buffer if self._left is None else buffer[: self._left])

    def close(self) -> None:
        """Give up the connection, whatever is left of the body."""
        self._resources.close()

    def __enter__(self) -> Response:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Client:
    """Sends requests. Each has a connection of its own, so any number of threads may share it.

    Args:
        policy: Says where connections may go; asked again for every redirect.
        tls: In place of one that trusts the system's authorities.
    """

    def __init__(
        self,
        policy: Policy,
        proxies: Proxies = Proxies(),  # noqa: B008 - it is frozen
        *,
        timeouts: Timeouts = Timeouts(),  # noqa: B008 - it is frozen
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._dialer = Dialer(policy, proxies, timeouts, tls)

    @property
    def policy(self) -> Policy:
        """Where this client may go."""
        return self._dialer.policy

    def trusting(self, *urls: str) -> Client:
        """Return a client that also reaches the origins of ``urls``, which the operator has set."""
        dialer = self._dialer
        return Client(
            dialer.policy.trusting(*urls), dialer.proxies, timeouts=dialer.timeouts, tls=dialer.tls
        )

    def request(self, request: Request, cancel: Cancel) -> Response:
        """Send ``request`` and follow redirects; return the answer, whatever its status.

        Raises:
            UnsupportedURL: A URL is malformed, or a header or a credential cannot be sent.
            HostRefused: The policy says no, to the URL or to a redirect.
            AccessDenied: A proxy says no.
            TransferFailed: The connection could not be made, broke or stalled.
            StorageError: The redirects do not end.
            Cancelled: It was cancelled.
            OSError: The file to send cannot be read.
        """
        first = hop = _Hop(request, self.policy.check_url(request.url))
        first_headers: http.client.HTTPMessage | None = None
        seen: set[str] = set()
        while hop.target.url not in seen and len(seen) <= MAX_REDIRECTS:
            seen.add(hop.target.url)
            response = self._exchange(hop, cancel)
            response.first_headers = first_headers = first_headers or response.headers
            location = response.headers.get("Location")
            if response.status not in hop.followed or location is None:
                return response
            response.close()
            hop = hop.redirected(location)
        how = "in a circle" if hop.target.url in seen else f"more than {MAX_REDIRECTS} times"
        raise StorageError(f"{first.target.redacted} redirects {how}.")

    def _exchange(self, hop: _Hop, cancel: Cancel) -> Response:
        resources = contextlib.ExitStack()
        try:
            pieces = resources.enter_context(_pieces(hop.request.source))
            with failures_told(hop.target.redacted, cancel):
                raw, inlet = self._answer(hop, pieces, cancel, resources)
            return Response(raw, inlet, hop.target, cancel, resources)
        except BaseException:
            resources.close()
            raise

    def _answer(
        self,
        hop: _Hop,
        pieces: Iterable[bytes | memoryview],
        cancel: Cancel,
        resources: contextlib.ExitStack,
    ) -> tuple[http.client.HTTPResponse, Inlet]:
        """Send a request and read the head of its answer; ``resources`` gets what to close."""
        cancel.check()
        proxy = self._dialer.proxy_for(hop.target)
        head = hop.head(proxy)
        sock = resources.enter_context(self._dialer.dial(hop.target, proxy, cancel))
        resources.enter_context(cancel.calling(partial(interrupt, sock)))
        broken = _send(sock, head, pieces, cancel)
        inlet = Inlet(sock, 2 * self._dialer.timeouts.read_s)
        raw = inlet.answer(hop.request.method)
        resources.callback(raw.close)
        cancel.check()
        if broken and 200 <= raw.status < 300:
            raise broken
        return raw, inlet


class _Hop(NamedTuple):
    """One exchange of those that a request leads to."""

    request: Request
    target: Target

    @property
    def followed(self) -> frozenset[int]:
        """The statuses that repeat the request elsewhere."""
        return _REDIRECTS if self.request.source is None else _REPEATING_REDIRECTS

    def redirected(self, location: str) -> _Hop:
        """Return the exchange that follows; user and password in ``location`` do not count.

        Raises:
            HostRefused: It leads from https to http.
            UnsupportedURL: It leads nowhere that we go.
        """
        here = self.target
        try:
            encoded = quote(location.strip().encode("latin-1"), safe=PRINTABLE)
            there = parse(urljoin(here.url, encoded))
        except (ValueError, UnsupportedURL) as error:
            raise UnsupportedURL(f"{here.redacted} redirects to no http or https URL.") from error
        if (here.scheme, there.scheme) == ("https", "http"):
            raise HostRefused(f"{here.redacted} redirects from https to http, at {there.origin}.")
        stays = here.origin == there.origin
        credentials = self.request.credentials if stays else {}
        return _Hop(replace(self.request, url=there.url, credentials=credentials), there)

    def head(self, proxy: Proxy | None) -> bytes:
        """Return the request up to its body.

        Raises:
            UnsupportedURL: A header cannot be sent.
        """
        target, headers = self.target, _Headers()
        headers.add({"User-Agent": USER_AGENT, "Accept": "*/*"})
        headers.add(self.request.headers, without=_FRAMING)
        revealed = {n: v.get_secret_value() for n, v in self.request.credentials.items()}
        headers.add(revealed, without=_FRAMING | _MEANING)
        if source := self.request.source:
            headers.add({"Content-Type": source.media_type, "Content-Length": str(source.size)})
        headers.add(
            {"Host": target.authority, "Accept-Encoding": "identity", "Connection": "close"}
        )
        if proxy and target.scheme == "http":
            headers.add(proxy.headers())
            return request_head(self.request.method, target.url, headers)
        return request_head(self.request.method, target.path, headers)


class _Headers(dict[str, str]):
    """Headers by their names as they are sent; one that is added takes the place of its like."""

    def add(self, headers: Mapping[str, str], without: frozenset[str] = frozenset()) -> None:
        """Add ``headers``.

        Raises:
            UnsupportedURL: One cannot be sent, or is not to be set by who gave it.
        """
        for name, value in headers.items():
            if not _NAME.fullmatch(name) or name.lower() in without:
                raise UnsupportedURL(f"{name!r} is no header that can be sent with a request.")
            if _NOT_IN_VALUES.search(value):
                raise UnsupportedURL(f"The header {name} has a character that headers cannot hold.")
            for like in [known for known in self if known.lower() == name.lower()]:
                del self[like]
            self[name] = value


@contextlib.contextmanager
def _pieces(source: Source | None) -> Iterator[Iterable[bytes | memoryview]]:
    """Give a body in pieces, none where there is no body.

    Raises:
        OSError: Its file cannot be read.
        StorageError: Its file has become shorter.
    """
    if source is None:
        yield ()
    elif isinstance(source.body, bytes):
        view = memoryview(source.body)
        yield [view[at : at + _SEND_BYTES] for at in range(0, len(view), _SEND_BYTES)]
    else:
        with source.body.open("rb", buffering=0) as file:
            yield _file_pieces(file, source.size)


def _file_pieces(file: io.FileIO, size: int) -> Iterator[memoryview]:
    buffer = memoryview(bytearray(min(size, _SEND_BYTES)))
    while size:
        count = file.readinto(buffer[:size])
        if not count:
            raise StorageError("A file became shorter while it was uploaded.")
        yield buffer[:count]
        size -= count


def _send(
    sock: socket.socket, head: bytes, pieces: Iterable[bytes | memoryview], cancel: Cancel
) -> OSError | None:
    """Send a request; return why not all of it was taken, since an answer may say more."""
    try:
        sock.sendall(head)
        for piece in pieces:
            cancel.check()
            sock.sendall(piece)
    except (BrokenPipeError, ConnectionResetError) as error:
        return error
    return None
