"""Clients that keep a connection to ComfyUI's own port and send no request."""

from __future__ import annotations

import socket
import time
from contextlib import ExitStack

from comfyui_stateless.stalls import FIRST_REQUEST_S, LOOKS
from tests.chaos.arena import Arena

SLACK_S = 10.0
HALF = b"GET /system_stats HTTP/1.1\r\nHost: a\r\n"


def test_what_sends_no_request_is_ended_and_what_has_sent_one_is_not(arena: Arena) -> None:
    assert arena.server.get("/api/stateless/ready").status == 200
    with ExitStack() as stack:
        silent, half, kept = (
            stack.enter_context(socket.create_connection(("127.0.0.1", arena.server.port)))
            for _ in range(3)
        )
        half.sendall(HALF)
        kept.sendall(HALF + b"\r\n")
        kept.settimeout(10)
        assert kept.recv(65536).startswith(b"HTTP/1.1 200")
        began = time.monotonic()
        for each in (silent, half):
            each.settimeout(FIRST_REQUEST_S * (1 + 1 / LOOKS) + SLACK_S)
            assert each.recv(1) == b""
        assert time.monotonic() - began > FIRST_REQUEST_S / 2
        kept.sendall(HALF + b"\r\n")
        assert kept.recv(65536).startswith(b"HTTP/1.1 200")
