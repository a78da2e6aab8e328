"""Requests that aiohttp hands over, or answers in its own words, though they cannot be heeded."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from tests.api.conftest import Serve, Site
from tests.api.test_stalls import all_of, connection
from tests.fakes import graph

BODY = json.dumps({"prompt": graph()}).encode()


async def answered(site: Site, first: str, *headers: str) -> tuple[int, dict[str, Any]]:
    """Send a prompt under a first line; return the status and what the answer says."""
    lines = [first, "Host: a", "Connection: close", f"Content-Length: {len(BODY)}", *headers]
    async with connection(site, "\r\n".join([*lines, "", ""]).encode() + BODY) as client:
        head, _, body = (await all_of(client)).partition(b"\r\n\r\n")
    return int(head.split(b" ", 2)[1]), json.loads(body)


@pytest.mark.parametrize("first", ["POST /prompt HTTP/1.1", "GET /health HTTP/1.1"])
async def test_another_expectation_than_to_be_invited_is_a_417(serve: Serve, first: str) -> None:
    site = await serve()
    status, said = await answered(site, first, "Expect: the-moon")
    assert (status, said["code"]) == (417, "expectation_failed")
    assert "'the-moon'" in said["error"]
    assert site.engine.prompts == []


async def test_who_waits_to_be_invited_is(serve: Serve) -> None:
    site = await serve()
    head = f"POST /prompt HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: {len(BODY)}"
    async with connection(site, f"{head}\r\nExpect: 100-Continue\r\n\r\n".encode()) as client:
        loop = asyncio.get_running_loop()
        assert await loop.sock_recv(client, 65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        await loop.sock_sendall(client, BODY)
        assert (await all_of(client)).startswith(b"HTTP/1.1 200 ")


async def test_a_client_of_http_1_0_expects_nothing(serve: Serve) -> None:
    status, _ = await answered(await serve(), "POST /prompt HTTP/1.0", "Expect: the-moon")
    assert status == 200


async def test_another_version_of_http_is_a_505(serve: Serve) -> None:
    site = await serve()
    status, said = await answered(site, "POST /prompt HTTP/2.0")
    assert (status, said["code"]) == (505, "http_version_not_supported")
    assert site.engine.prompts == []


async def test_a_body_behind_an_upgrade_is_read_or_refused(serve: Serve) -> None:
    lines = ("POST /prompt HTTP/1.1", "Connection: Upgrade", "Upgrade: websocket")
    status, said = await answered(await serve(), *lines)
    assert status == 200 or (status, said["code"]) == (400, "invalid_request")
    assert "id" in said or "Upgrade" in said["error"]
