"""What settings say of other servers: where we may connect, through what, and as whom."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from urllib.parse import urlsplit

from pydantic import SecretStr

from .naming import redacted


@dataclass(frozen=True, slots=True)
class Proxies:
    """The proxies of every outgoing connection.

    Attributes:
        http: The URL for ``http://``, user and password included; None is a direct connection.
        https: The same for ``https://``.
        exempt: The hosts that are connected to directly, as NO_PROXY lists them.
    """

    http: SecretStr | None = None
    https: SecretStr | None = None
    exempt: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HttpAccess:
    """What HTTP requests to others carry and where they may go.

    Attributes:
        trusted: Origins whose addresses are not checked; ``*`` is all of them.
        header: A header with its value for storage requests, if any.
        header_origins: The origins that get it, None for all.
    """

    trusted: frozenset[str] = frozenset()
    header: tuple[str, SecretStr] | None = None
    header_origins: frozenset[str] | None = None
    proxies: Proxies = Proxies()


@dataclass(frozen=True, slots=True)
class AzureAccount:
    """The operator's Azure storage account; what is None is not set."""

    connection_string: SecretStr | None = None
    account: str | None = None
    key: SecretStr | None = None
    sas_token: SecretStr | None = None


@dataclass(frozen=True, slots=True)
class HuggingFaceAccess:
    """The operator's Hub and its token."""

    endpoint: str = "https://huggingface.co"
    token: SecretStr | None = None


def origin_of(url: str, *, exact: bool = False) -> str:
    """Return the origin of an http or https URL: scheme, host, and the port if not the usual one.

    Args:
        exact: Whether ``url`` may say no more than an origin.

    Raises:
        ValueError: It has none, or says more.
    """
    parts = urlsplit(url.strip())
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{_shown(url)!r} is no origin such as https://host:8443")
    if exact and (parts.path.strip("/") or parts.query or parts.fragment or "@" in parts.netloc):
        raise ValueError(f"{_shown(url)!r} says more than an origin such as https://host:8443")
    usual = {"http": 80, "https": 443}[parts.scheme]
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    port = parts.port or usual
    return f"{parts.scheme}://{host}" + ("" if port == usual else f":{port}")


def _shown(url: str) -> str:
    """Return an address that is wrong as it may be shown: to all clients, where settings are."""
    return redacted(url) if "://" in url else redacted(url).rpartition("@")[2]


def origins(text: str) -> frozenset[str]:
    """Return the origins in a list; ``*`` stays."""
    return frozenset(o if o == "*" else origin_of(o) for o in split_list(text))


def split_list(text: str) -> tuple[str, ...]:
    """Return the parts of a list whose separator is the comma."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def check_secret(text: str) -> bytes:
    """Return the key in a secret for signatures: base64, with or without ``whsec_``, padded or not.

    Raises:
        ValueError: It is no base64. The message does not repeat it.
    """
    encoded = text.strip().removeprefix("whsec_").rstrip("=")
    try:
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise ValueError("is no base64, with or without whsec_ in front")
    return key
