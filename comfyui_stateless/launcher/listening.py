"""The sockets that the gateway listens on."""

from __future__ import annotations

import asyncio
import errno
import socket
from contextlib import ExitStack
from typing import Any

from ..errors import ConfigError

BACKLOG = 1024
EVERY_ADDRESS = "::"

_WITHOUT_IPV6 = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL, errno.EPROTONOSUPPORT})


async def listening(host: str, port: int) -> list[socket.socket]:
    """Return sockets that are bound to every address of ``host``, with one port for all.

    Args:
        host: A name or an address. ``::`` is every address of this machine, IPv4 too.
        port: 0 takes one that is free.

    Raises:
        ConfigError: Names host and port, and says why they cannot be listened on.
    """
    try:
        if host == EVERY_ADDRESS:
            return [_on_every_address(port)]
        return _on_all(await _addresses(host, port))
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"HOST and PORT: {host}, port {port}, cannot be listened on: {_why(error)}.",
            details={"host": host, "port": port},
        ) from error


def _on_every_address(port: int) -> socket.socket:
    if socket.has_dualstack_ipv6():
        try:
            return socket.create_server(
                (EVERY_ADDRESS, port),
                family=socket.AF_INET6,
                backlog=BACKLOG,
                dualstack_ipv6=True,
            )
        except OSError as error:
            if error.errno not in _WITHOUT_IPV6:
                raise
    return socket.create_server(("", port), backlog=BACKLOG)


async def _addresses(host: str, port: int) -> list[tuple[int, tuple[Any, ...]]]:
    found = await asyncio.get_running_loop().getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )
    return list(dict.fromkeys((int(family), address) for family, _, _, _, address in found))


def _on_all(addresses: list[tuple[int, tuple[Any, ...]]]) -> list[socket.socket]:
    bound: list[socket.socket] = []
    with ExitStack() as on_failure:
        for family, (address, port, *scope) in addresses:
            # Where any port will do, all get the one that the first got.
            chosen = port or (bound[0].getsockname()[1] if bound else 0)
            where = (address, chosen, *scope)
            listener = socket.create_server(where, family=family, backlog=BACKLOG)
            bound.append(on_failure.enter_context(listener))
        on_failure.pop_all()
    return bound


def _why(error: Exception) -> str:
    text = getattr(error, "strerror", None) or str(error)
    return str(text).partition(" (while attempting")[0].rstrip(".")
