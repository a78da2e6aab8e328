"""Which connections go through a proxy: HTTP_PROXY, HTTPS_PROXY and NO_PROXY."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

from pydantic import SecretStr

from ..config import Proxies
from ..errors import StorageError
from .policy import Target, parse


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy that is spoken to in plain HTTP.

    Attributes:
        authorization: The value of Proxy-Authorization, if the proxy wants one.
    """

    host: str
    port: int
    authorization: SecretStr | None = field(default=None, repr=False)

    def headers(self) -> dict[str, str]:
        """Return what a request to the proxy carries."""
        if self.authorization is None:
            return {}
        return {"Proxy-Authorization": self.authorization.get_secret_value()}


def proxy_for(target: Target, proxies: Proxies) -> Proxy | None:
    """Return the proxy that ``target`` is reached through, None for a direct connection.

    Raises:
        StorageError: The variable holds no URL of a proxy that we can speak to.
    """
    url = proxies.https if target.scheme == "https" else proxies.http
    if url is None or any(_is_exempt(target, entry) for entry in proxies.exempt):
        return None
    return _proxy(url.get_secret_value())


def _proxy(url: str) -> Proxy:
    try:
        parsed = parse(url if "://" in url else f"http://{url}")
    except StorageError:
        parsed = None
    if parsed is None or parsed.scheme != "http":
        raise StorageError(
            "HTTP_PROXY or HTTPS_PROXY holds no URL such as http://user:password@host:3128."
        )
    return Proxy(parsed.host, parsed.port, _basic(parsed.userinfo))


def _basic(userinfo: tuple[str, SecretStr] | None) -> SecretStr | None:
    return None if userinfo is None else basic_authorization(*userinfo)


def basic_authorization(user: str, password: SecretStr) -> SecretStr:
    """Return the value of an Authorization header of the Basic scheme, in UTF-8."""
    pair = f"{user}:{password.get_secret_value()}".encode()
    return SecretStr(f"Basic {base64.b64encode(pair).decode('ascii')}")


def _is_exempt(target: Target, entry: str) -> bool:
    """Say whether an entry of NO_PROXY means ``target``.

    ``*`` is every host. ``example.com`` and ``.example.com`` are that host and those below it,
    ``10.0.0.0/8`` is a network of literal addresses. A port behind them limits them to it.
    """
    if entry == "*":
        return True
    if "/" in entry:
        return _is_in(target.host, entry)
    name, port = _split_port(entry.lower())
    if port and port != str(target.port):
        return False
    name = name.lstrip("*").strip(".")
    return bool(name) and (target.host == name or target.host.endswith(f".{name}"))


def _is_in(host: str, network: str) -> bool:
    try:
        return ip_address(host) in ip_network(network, strict=False)
    except ValueError:
        return False


def _split_port(entry: str) -> tuple[str, str]:
    if entry.startswith("["):
        address, _, port = entry[1:].partition("]")
        return address, port.removeprefix(":")
    if entry.count(":") == 1:
        name, _, port = entry.partition(":")
        return name, port
    return entry, ""
