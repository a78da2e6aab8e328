"""Ports for servers that take theirs by number, some time after they are started."""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack, suppress


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on at the moment.

    None is among those that a system gives to whoever asks for any: a server that takes its own
    seconds later would find them taken.
    """
    with ExitStack() as stack:
        taken: list[int] = []
        for port in random.SystemRandom().sample(range(10_000, 32_000), 100):
            with suppress(OSError):
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
                taken.append(port)
        assert len(taken) >= count
        return taken[:count]


def free_port() -> int:
    """Return one such port."""
    return free_ports(1)[0]
