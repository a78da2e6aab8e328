"""By which names this server may be called.

A page whose name is made to lead to this machine is, to a browser, this server's own page. What it
cannot do is call the server by another name than its own: that is what is looked at here.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from ipaddress import ip_address

from multidict import CIMultiDict, CIMultiDictProxy

from .errors import WrongHost

_NAME = re.compile(r"[a-z0-9_-]+(\.[a-z0-9_-]+)*")
_PLACE = re.compile(r"(\[[^\[\]]*\]|[^:\[\]]*)(?::\d{0,5})?")
"""What a Host header holds: a name or an address, and maybe a port."""


def host_names(text: str) -> frozenset[str]:
    """Return the host names in a list, as they are compared.

    Raises:
        ValueError: One is neither a name nor an address, or says more than that.
    """
    names = frozenset(map(_setting, filter(None, map(str.strip, text.split(",")))))
    if not names:
        raise ValueError("holds no host name")
    return names


def require_host(
    headers: CIMultiDict[str] | CIMultiDictProxy[str], allowed: Collection[str]
) -> None:
    """Refuse a request that calls this server by a name that is not ``allowed``.

    What a proxy says of the name in other headers is not looked at: a page can say that too.

    Raises:
        WrongHost: It does, or it names none.
    """
    named = headers.getall("Host", ())
    places = [_PLACE.fullmatch(host.strip()) for host in named]
    if named and all(place is not None and _plain(place[1]) in allowed for place in places):
        return
    shown = ascii(", ".join(named)[:100]) if named else "no host"
    raise WrongHost(f"This server is not to be called by {shown}: ALLOWED_HOSTS does not list it.")


def _setting(text: str) -> str:
    name = _plain(text)
    if not _NAME.fullmatch(name) and not _is_address(name):
        shown = text.rpartition("@")[2]
        raise ValueError(f"{shown!r} is no host name such as api.example.com, without a port")
    return name


def _plain(text: str) -> str:
    name = text.lower().removesuffix(".")
    if name.startswith("[") and name.endswith("]"):
        name = name[1:-1]
    return str(ip_address(name)) if _is_address(name) else name


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
