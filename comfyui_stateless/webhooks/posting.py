"""One attempt: a POST to where the policy lets us, streamed, redirects included."""

from __future__ import annotations

import asyncio
import io
import os
import socket
import ssl
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO
from urllib.parse import quote, urljoin

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from yarl import URL

from ..config import Proxies
from ..errors import HostRefused, StorageError, TransferFailed, UnsupportedURL
from ..journal import Content
from ..storage.connections import USER_AGENT
from ..storage.policy import PRINTABLE, Policy, Target
from ..storage.proxies import Proxy, basic_authorization, proxy_for

MAX_HEAD_BYTES = 32 * 1024
"""Of an answer, interim ones before it included; its body is not read."""

MAX_REDIRECTS = 5
REPEATING_REDIRECTS = frozenset({307, 308})
"""The redirects that keep a POST a POST."""

_pinned: ContextVar[Sequence[str]] = ContextVar("pinned", default=())
"""The addresses that the request of this task may connect to."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds for an attempt: to connect, and in all for a small body.

    A large body gets as much more as it needs at ``min_rate`` bytes a second.
    """

    connect_s: float = 10
    total_s: float = 30
    min_rate: float = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Answer:
    """The head of what the receiver answered; nobody reads the rest."""

    status: int
    headers: Mapping[str, str]


class Undeliverable(Exception):
    """There was no answer; the message says why and holds no secret."""


class Poster:
    """Posts bodies. Each request has a connection of its own, to an address that was checked.

    Args:
        threads: Where names are resolved.
        tls: In place of one that trusts the system's authorities.
    """

    def __init__(
        self, proxies: Proxies, timeouts: Timeouts, threads: Executor, tls: ssl.SSLContext | None
    ) -> None:
        self._proxies = proxies
        self._timeouts = timeouts
        self._threads = threads
        connector = aiohttp.TCPConnector(
            resolver=_Pinned(),
            use_dns_cache=False,
            force_close=True,
            limit=0,
            ssl=True if tls is None else tls,
        )
        # Each connection asks it for what reads an answer; there is no other way to set that.
        connector._factory = partial(_Heads)  # type: ignore[assignment]  # noqa: SLF001
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": USER_AGENT, "Content-Type": "application/json"},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=timeouts.connect_s),
            auto_decompress=False,
        )

    async def post(
        self, url: str, headers: Mapping[str, str], body: Content, policy: Policy
    ) -> Answer:
        """Send ``body``, and again to where a 307 or 308 leads.

        Raises:
            HostRefused, UnsupportedURL: The policy says no, to the URL or to a redirect.
            Undeliverable: No answer came in time, or the connection failed.
        """
        seconds = self._timeouts.total_s + body.size / self._timeouts.min_rate
        try:
            return await asyncio.wait_for(self._follow(url, headers, body, policy), seconds)
        except (HostRefused, UnsupportedURL):
            raise
        except StorageError as error:
            raise Undeliverable(error.message) from error
        except (aiohttp.ClientError, asyncio.TimeoutError, OSError) as error:
            raise Undeliverable(_reason(error)) from error

    async def close(self) -> None:
        """Give up all connections."""
        await self._session.close()

    async def _follow(
        self, url: str, headers: Mapping[str, str], body: Content, policy: Policy
    ) -> Answer:
        target = policy.check_url(url)
        answer = await self._exchange(target, {**headers, **_authorization(target)}, body, policy)
        for _ in range(MAX_REDIRECTS):
            if answer.status not in REPEATING_REDIRECTS or "Location" not in answer.headers:
                break
            target = _redirected(target, answer.headers["Location"], policy)
            answer = await self._exchange(target, headers, body, policy)
        return answer

    async def _exchange(
        self, target: Target, headers: Mapping[str, str], body: Content, policy: Policy
    ) -> Answer:
        proxy = proxy_for(target, self._proxies)
        loop = asyncio.get_running_loop()
        _pinned.set(await loop.run_in_executor(self._threads, _addresses, policy, target, proxy))
        extra = proxy.headers() if proxy else {}
        if body.path is None:
            file = _opened(body)
        else:
            file = await loop.run_in_executor(self._threads, _opened, body)
        with file:
            async with self._session.post(
                URL(target.url, encoded=True),
                data=file,
                headers={**headers, **(extra if target.scheme == "http" else {})},
                allow_redirects=False,
                proxy=_proxy_url(proxy),
                proxy_headers=extra,
            ) as response:
                return Answer(response.status, response.headers)


class _Heads(ResponseHandler):
    """Reads answers as far as their heads can be, and ends the connection behind that.

    aiohttp reads interim answers on the event loop for as long as they come.
    """

    def __init__(self) -> None:
        super().__init__(asyncio.get_running_loop())
        self._room = MAX_HEAD_BYTES

    def data_received(self, data: bytes) -> None:
        if self._room:
            super().data_received(data[: self._room])
        self._room = max(0, self._room - len(data))
        if not self._room and self.transport is not None:
            self.transport.abort()


class _Pinned(AbstractResolver):
    """Gives the addresses that were checked for the request at hand, and no others."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        addresses = _pinned.get()
        if not addresses:
            raise OSError(f"no address of {host} was checked")
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for address in addresses
        ]

    async def close(self) -> None:
        """Nothing is held."""


def _addresses(policy: Policy, target: Target, proxy: Proxy | None) -> Sequence[str]:
    """Check ``target``; return the addresses to connect to, its own or the proxy's.

    A name that only the proxy can resolve is the proxy's to check.
    """
    if proxy is None:
        return policy.addresses(target)
    with suppress(TransferFailed):
        policy.addresses(target)
    return policy.resolve(proxy.host, proxy.port)


def _redirected(here: Target, location: str, policy: Policy) -> Target:
    """Return where a redirect leads; user and password in it do not count.

    Raises:
        HostRefused: From https to http.
        UnsupportedURL: To no http or https URL.
    """
    try:
        there = policy.check_url(urljoin(here.url, quote(location.strip(), safe=PRINTABLE)))
    except (ValueError, UnsupportedURL) as error:
        raise UnsupportedURL(f"{here.redacted} redirects to no http or https URL.") from error
    if (here.scheme, there.scheme) == ("https", "http"):
        raise HostRefused(f"{here.redacted} redirects from https to http, at {there.origin}.")
    return there


def _authorization(target: Target) -> dict[str, str]:
    if target.userinfo is None:
        return {}
    return {"Authorization": basic_authorization(*target.userinfo).get_secret_value()}


def _proxy_url(proxy: Proxy | None) -> URL | None:
    return None if proxy is None else URL.build(scheme="http", host=proxy.host, port=proxy.port)


def _opened(body: Content) -> BinaryIO:
    return io.BytesIO(body.read()) if body.path is None else body.path.open("rb")


def _reason(error: Exception) -> str:
    """Say what went wrong without the URL, which some of these errors repeat."""
    if isinstance(error, asyncio.TimeoutError):
        return "the receiver took too long"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return "the receiver's certificate is not trusted"
    if isinstance(error, OSError) and error.errno is not None and error.errno > 0:
        return f"the connection failed ({os.strerror(error.errno)})"
    return f"the connection failed ({type(error).__name__})"
