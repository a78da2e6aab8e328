"""Where we may connect: which URLs are well-formed, which addresses are public, whom we trust.

A URL is read once, into a ``Target``, and nothing reads it again: what is checked is what is
connected to. The table of addresses is our own, because ``ipaddress.is_global`` answers
differently from one Python to the next.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from urllib.parse import SplitResult, quote, unquote, urlsplit

from pydantic import SecretStr

from ..config import HttpAccess
from ..errors import (
    HostRefused,
    OutOfDescriptors,
    TransferFailed,
    UnsupportedURL,
    is_out_of_descriptors,
)
from ..naming import redacted

Network = IPv4Network | IPv6Network
Resolve = Callable[[str, int], Sequence[str]]
"""Gives the numeric addresses of a host, best first; raises ``OSError`` where it has none."""

PORTS = {"http": 80, "https": 443}

MAX_NAME = 254
"""Characters of a host's name, with a trailing dot; IDNA takes long for more."""

NOT_PUBLIC: tuple[Network, ...] = tuple(
    ip_network(network)
    for network in (
        "0.0.0.0/8",  # this host
        "10.0.0.0/8",
        "100.64.0.0/10",  # carriers' NAT, and some clouds' metadata
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's host, which every machine of Azure reaches
        "169.254.0.0/16",  # link-local, where clouds keep their metadata
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",  # documentation
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, and broadcast
        # All of IPv6 but 2000::/3: the rest is no one's, a link's, a site's or the host's own.
        "::/3",
        "4000::/2",
        "8000::/1",
        "2001::/23",  # protocols, among them Teredo
        "2001:db8::/32",
        "3fff::/20",
    )
)
"""What is not the public internet, after IANA's registries of special-purpose addresses."""

_NAT64 = IPv6Network("64:ff9b::/96")
_FORBIDDEN = re.compile(r"[\x00-\x20\x7f\\\ud800-\udfff]")
_HOST = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")
_BRACKETED = re.compile(r"\[([^\[\]]+)\](?::\d*)?")
PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))
"""The characters that stand in a URL as they are."""


@dataclass(frozen=True, slots=True)
class Target:
    """A well-formed URL, in the parts that a connection needs.

    Attributes:
        host: In lower case and ASCII, without brackets; a name or an address.
        path: The path and the query, percent-encoded.
        userinfo: The user and the password in the URL, decoded.
    """

    scheme: str
    host: str
    port: int
    path: str = field(repr=False)
    userinfo: tuple[str, SecretStr] | None = field(default=None, repr=False)

    @property
    def authority(self) -> str:
        """The host and, if it is not the scheme's usual one, the port."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def origin(self) -> str:
        """What the policy trusts and credentials belong to."""
        return f"{self.scheme}://{self.authority}"

    @property
    def url(self) -> str:
        """The URL without user and password; its query may be secret."""
        return f"{self.origin}{self.path}"

    @property
    def redacted(self) -> str:
        """The URL as it may be shown."""
        return redacted(self.url)


def parse(url: str) -> Target:
    """Read an http or https URL.

    Raises:
        UnsupportedURL: It is none, or not well-formed. The message does not repeat a malformed
            URL: where its secrets begin and end is not known.
    """
    if _FORBIDDEN.search(url):
        raise UnsupportedURL(
            "The URL holds a space, a control character, a backslash or half a character."
        )
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise UnsupportedURL("The URL is malformed.") from None
    if parts.scheme not in PORTS:
        raise UnsupportedURL("The URL has to begin with http:// or https://.")
    if port == 0:
        raise UnsupportedURL("The URL names port 0.")
    return Target(
        parts.scheme, _host(parts), port or PORTS[parts.scheme], _path(parts), _userinfo(parts)
    )


def _host(parts: SplitResult) -> str:
    """Return the host as a resolver gets it: IDNA makes plain ASCII of look-alike characters."""
    host = parts.hostname or ""
    if "[" in parts.netloc:
        return _ipv6(parts.netloc.rpartition("@")[2])
    try:
        name = host[: MAX_NAME + 1].encode("idna").decode("ascii").lower().removesuffix(".")
    except UnicodeError:
        name = ""
    if not _HOST.fullmatch(name) or len(host) > MAX_NAME:
        raise UnsupportedURL("The URL has no host, or a malformed one.")
    return name


def _ipv6(place: str) -> str:
    match = _BRACKETED.fullmatch(place)
    try:
        return str(IPv6Address(match[1] if match else ""))
    except ValueError:
        raise UnsupportedURL("The URL has a malformed IPv6 address.") from None


def _path(parts: SplitResult) -> str:
    path = parts.path if parts.path.startswith("/") else f"/{parts.path}"
    return quote(f"{path}?{parts.query}" if parts.query else path, safe=PRINTABLE)


def _userinfo(parts: SplitResult) -> tuple[str, SecretStr] | None:
    user, password = unquote(parts.username or ""), unquote(parts.password or "")
    return (user, SecretStr(password)) if user or password else None


def resolve_name(host: str, port: int) -> list[str]:
    """Return the addresses of ``host`` as the system's resolver gives them, each once.

    Raises:
        OSError: It has none, or the resolver failed.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except socket.gaierror:
        # A resolver that is out of descriptors only says that it failed; a socket says why.
        socket.socket().close()
        raise
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class Policy:
    """Decides where a URL from a request may lead. Blocks while it resolves: call it in a thread.

    Args:
        resolve: Stands in for the system's resolver.
        refused: The networks that only trusted origins may lie in.
    """

    def __init__(
        self,
        access: HttpAccess,
        *,
        resolve: Resolve = resolve_name,
        refused: Iterable[Network] = NOT_PUBLIC,
    ) -> None:
        self._trusted = origins_of(access.trusted)
        self._resolve = resolve
        self._refused = tuple(refused)

    def trusting(self, *urls: str) -> Policy:
        """Return this policy with the origins of ``urls``, which the operator has set, trusted."""
        policy = Policy(HttpAccess(), resolve=self._resolve, refused=self._refused)
        policy._trusted = self._trusted | origins_of(urls)
        return policy

    def check_url(self, url: str) -> Target:
        """Read ``url``; nothing is resolved.

        Raises:
            UnsupportedURL: It is no well-formed http or https URL.
        """
        return parse(url)

    def trusts(self, target: Target) -> bool:
        """Say whether the operator lets ``target`` be at any address."""
        return "*" in self._trusted or target.origin in self._trusted

    def resolve(self, host: str, port: int) -> Sequence[str]:
        """Return the addresses of ``host``, unchecked: for what the operator has set.

        Raises:
            TransferFailed: It has none, or the resolver failed.
        """
        try:
            found = self._resolve(host, port)
        except (OSError, UnicodeError) as error:
            if is_out_of_descriptors(error):
                raise OutOfDescriptors(f"{host}: too many files are open.") from error
            raise TransferFailed(f"The name {host} cannot be resolved.") from error
        if not found:
            raise TransferFailed(f"The name {host} has no address.")
        return found

    def addresses(self, target: Target) -> Sequence[str]:
        """Return the numeric addresses that may be connected to for ``target``, best first.

        Raises:
            HostRefused: One of them, or the literal address in the URL, is not public and the
                origin is not trusted.
            TransferFailed: The name cannot be resolved.
        """
        if self.trusts(target):
            return self.resolve(target.host, target.port)
        if _is_literal(target.host):
            self._check(target, target.host)
        found = self.resolve(target.host, target.port)
        for address in found:
            self._check(target, address)
        return found

    def _check(self, target: Target, address: str) -> None:
        if not is_public(address, self._refused):
            raise HostRefused(
                f"{target.origin} is not reached: it is at {address}, which is not a public "
                "address. HTTP_TRUSTED_ORIGINS can allow it."
            )


def is_public(address: str, refused: Iterable[Network] = NOT_PUBLIC) -> bool:
    """Say whether a numeric address lies in none of the ``refused`` networks.

    An address that embeds one of IPv4 is judged by that; one with a scope is never public.
    """
    parsed = ip_address(address)
    if isinstance(parsed, IPv6Address):
        if parsed.scope_id is not None:
            return False
        parsed = _embedded(parsed) or parsed
    return not any(parsed in network for network in refused)


def _embedded(address: IPv6Address) -> IPv4Address | None:
    """Return the IPv4 address that packets to ``address`` end at, by mapping, NAT64 or 6to4."""
    if address in _NAT64:
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour


def _is_literal(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def origins_of(urls: Iterable[str]) -> frozenset[str]:
    """Return the origins of ``urls`` in the form of ``Target.origin``; ``*`` stays.

    Raises:
        UnsupportedURL: One is no http or https URL.
    """
    return frozenset(url if url == "*" else parse(url).origin for url in urls)
