"""Requests that mean harm, to a server whose every part but the nodes is real."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
import zlib
from io import BytesIO
from typing import Any

import pytest
from aiohttp import web
from aiohttp.typedefs import Handler

from tests.api.conftest import Serve, Site
from tests.api.test_stalls import all_of, connection
from tests.fakes import eventually, graph
from tests.fetching import loading_all, loading_engine

MIB = 1024 * 1024
JSON = {"Content-Type": "application/json"}


async def refused(site: Site, body: bytes, status: int = 400, **headers: str) -> str:
    """Send the body of a prompt that is refused; return why."""
    named = {**JSON, **{name.replace("_", "-"): value for name, value in headers.items()}}
    async with site.client.post("/prompt", data=BytesIO(body), headers=named) as response:
        assert response.status == status
        answer: dict[str, Any] = await response.json()
    assert site.engine.prompts == []
    return str(answer["error"])


def inflating(size: int, wbits: int) -> bytes:
    """Return zeros, compressed to a thousandth."""
    packer, block = zlib.compressobj(9, wbits=wbits), bytes(MIB)
    return b"".join([packer.compress(block) for _ in range(size // MIB)]) + packer.flush()


@pytest.mark.parametrize(("coding", "wbits"), [("gzip", 31), ("deflate", 15), ("deflate", -15)])
@pytest.mark.parametrize("kind", ["application/json", "multipart/form-data; boundary=x"])
async def test_a_body_that_inflates_without_end_is_refused_at_the_limit(
    serve: Serve, coding: str, wbits: int, kind: str
) -> None:
    site = await serve(max_body_size_mb=1)
    body = inflating(64 * MIB, wbits)
    head = f"POST /prompt HTTP/1.1\r\nHost: a\r\nContent-Encoding: {coding}\r\nContent-Type: {kind}"
    sent = f"{head}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body
    async with connection(site, sent) as client:
        assert (await all_of(client)).startswith((b"HTTP/1.1 413 ", b"HTTP/1.1 400 "))
    assert site.engine.prompts == []


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("POST", "/prompt", 401), ("GET", "/health", 200), ("POST", "/nothing", 401)],
)
async def test_what_nobody_reads_is_not_unpacked(
    serve: Serve, method: str, path: str, status: int
) -> None:
    seen: list[web.Request] = []

    @web.middleware
    async def note(request: web.Request, handler: Handler) -> web.StreamResponse:
        seen.append(request)
        return await handler(request)

    site = await serve(api_keys="key", change=lambda app: app.middlewares.insert(0, note))
    body = inflating(256 * MIB, 31)
    head = f"{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip"
    sent = f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    async with connection(site, sent) as client:
        assert (await all_of(client)).startswith(f"HTTP/1.1 {status} ".encode())
    assert seen[0].content.total_bytes < 16 * MIB


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"no gzip" * 4_000_000, "not compressed as"),
        # It is up to aiohttp how many members it reads: before 3.14.1 these are but spaces.
        (gzip.compress(b" ") * 1_000_000, "not compressed as|not JSON"),
    ],
    ids=["wrong", "members"],
)
async def test_who_sends_all_of_a_broken_body_before_he_reads_gets_the_answer(
    serve: Serve, body: bytes, reason: str
) -> None:
    site = await serve()
    head = "POST /prompt HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Encoding: gzip"
    sent = f"{head}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    async with connection(site, sent) as client:
        answer = await all_of(client)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert re.search(reason, json.loads(answer.partition(b"\r\n\r\n")[2])["error"])


@pytest.mark.parametrize(
    "coding", ["compress", "x-gzip", "gzip, gzip", "identity, gzip", "x" * 999]
)
async def test_a_body_in_a_coding_that_is_not_read_is_a_415(serve: Serve, coding: str) -> None:
    site, body = await serve(), gzip.compress(json.dumps({"prompt": graph()}).encode())
    async with site.client.post(
        "/prompt", data=body, headers={"Content-Encoding": coding}
    ) as answer:
        assert (answer.status, answer.headers["Accept-Encoding"]) == (415, "gzip, deflate")
        assert (await answer.json())["code"] == "unsupported_media_type"
    assert site.engine.prompts == []


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 10**6,
        b'{"prompt":' + b'{"a":' * 10**5 + b"1" + b"}" * (10**5 + 1),
        b'{"prompt":{' + b",".join(b'"%d":{"class_type":"A","inputs":{}}' % i for i in range(20000)) + b"}}",
        b'{"prompt":{},"priority":' + b"9" * 10**6 + b"}",
        b'{"prompt":{},"timeout_s":1' + b"0" * 10**6 + b"}",
        b'{"prompt":{},"timeout_s":1e99999}',
        b'{"prompt":{},' + b",".join(b'"f%d":1' % i for i in range(10**5)) + b"}",
    ],
    ids=["arrays", "objects", "nodes", "integer", "zeros", "exponent", "fields"],
)  # fmt: skip
async def test_what_is_deep_or_wide_or_long_is_refused(serve: Serve, body: bytes) -> None:
    assert len(await refused(await serve(), body)) < 10_000


async def test_no_more_credentials_are_taken_than_can_be_compared(serve: Serve) -> None:
    one = {"url_pattern": "**", "auth": {"type": "bearer", "token": "hush"}}
    body = json.dumps({"prompt": graph(), "credentials": [one] * 257}).encode()
    assert "256" in await refused(await serve(), body)


@pytest.mark.parametrize(
    "head",
    [
        b"X: " + b"a" * 100_000,
        b"\r\n".join(b"X-%d: 1" % number for number in range(5000)),
        b"a" * 100_000 + b": 1",
        b"X: a\0b",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5",
        b"Content-Length: 5\r\nContent-Length: 6",
        b"Content-Length: -1",
        b"Content-Length: +5",
        b"Transfer-Encoding: xchunked",
        b"Host: b",
    ],
    ids=[
        "long", "many", "long name", "null", "two framings", "two lengths", "below zero", "plus",
        "coding", "two hosts",
    ],
)  # fmt: skip
async def test_headers_that_are_too_much_or_unclear_are_a_400(serve: Serve, head: bytes) -> None:
    site = await serve()
    async with connection(
        site, b"POST /prompt HTTP/1.1\r\nHost: a\r\n" + head + b"\r\n\r\n"
    ) as client:
        try:
            answer = await all_of(client)
        except ConnectionError:  # it is not waited for all that was sent
            answer = b""
    assert not answer or answer.startswith((b"HTTP/1.0 400 ", b"HTTP/1.1 400 "))
    assert site.engine.prompts == []


HERE = [
    "http://127.0.0.1:{port}/x.png", "http://0x7f000001:{port}/", "http://0177.0.0.1:{port}/",
    "http://2130706433:{port}/", "http://127.1:{port}/", "http://0:{port}/",
    "http://[::ffff:127.0.0.1]:{port}/", "http://[::]:{port}/", "http://[::1]:{port}/",
    "http://localhost.:{port}/", "http://\u2460\u2461\u2466.0.0.1:{port}/",
    "http://example.com@127.0.0.1:{port}/", "http://127.0.0.1:{port}#@example.com/",
    "http://127\u30020\u30020\u30021:{port}/", "http://[64:ff9b::7f00:1]:{port}/",
    "http://[2002:7f00:1::]:{port}/", "http://169.254.169.254/latest/meta-data/",
    "http://[fd00:ec2::254]/", "http://100.100.100.200/", "http://168.63.129.16/",
    "http://127.0.0.1:{port}\\@example.com/", "http://[::1%25lo]:{port}/", "file:///etc/passwd",
    "gopher://127.0.0.1:{port}/", "ftp://127.0.0.1/", "dict://127.0.0.1:{port}/",
]  # fmt: skip


@pytest.mark.parametrize("address", HERE)
async def test_no_field_of_a_request_leads_to_this_machine(serve: Serve, address: str) -> None:
    reached = 0

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal reached
        reached += 1
        writer.close()

    site = await serve(loading_engine(), http_trusted_origins="")
    listener = await asyncio.start_server(note, "127.0.0.1", 0)
    url = address.format(port=listener.sockets[0].getsockname()[1])
    auth = {"type": "s3", "access_key_id": "a", "secret_access_key": "b", "endpoint": url}
    bucket = loading_all(("LoadImage", "s3://bucket/x.png"))
    requests: list[tuple[str, dict[str, Any]]] = [
        ("/prompt", {"prompt": loading_all(("LoadImage", url))}),
        ("/prompt", {"prompt": bucket, "credentials": [{"url_pattern": "**", "auth": auth}]}),
        ("/prompt", {"prompt": graph(), "webhook_v2": url}),
        ("/prompt", {"prompt": graph(), "webhook": url}),
        ("/prompt", {"prompt": graph(), "http_upload": {"url_prefix": url}}),
        ("/download", {"url": url, "model_type": "loras", "filename": "a.safetensors", "wait": True}),
    ]  # fmt: skip
    for route, body in requests:
        async with site.client.post(route, json=body) as response:
            assert response.status == 400, (route, body, await response.text())
    async with listener:
        assert reached == 0


@pytest.mark.parametrize(
    "path",
    ["..%2fevil", "a%2f..%2f..%2fevil", "%2fetc%2fevil", "a%00b", ".hidden", "a%5c..%5cb", "a%0d%0ab",
     "a" * 300, "a%2f%2fb", "con%3a"],
)  # fmt: skip
async def test_no_path_of_a_workflow_leaves_its_folder(
    serve: Serve, tmp_path: Any, path: str
) -> None:
    folder = tmp_path / "deep" / "workflows"
    (tmp_path / "deep").mkdir()
    folder.mkdir()
    site = await serve(allow_publish=True, workflow_dir=folder)
    before = {found for found in tmp_path.rglob("*") if folder not in found.parents}
    url = site.client.make_url("/").with_path(f"/workflow/{path}", encoded=True)
    body = {"graph": graph(), "inputs": {}}
    async with site.client.session.put(url, json=body) as response:
        assert response.status in (200, 201, 400, 404), await response.text()
    after = {found for found in tmp_path.rglob("*") if folder not in found.parents}
    assert not {found for found in after - before if "evil" in found.name or found.suffix}
    assert all(
        found.suffix in ("", ".json", ".yaml") and not found.name.startswith(".")
        for found in folder.rglob("*")
    )


async def test_a_linked_folder_among_workflows_is_not_written_through(
    serve: Serve, tmp_path: Any
) -> None:
    folder, outside = tmp_path / "workflows", tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()
    (folder / "link").symlink_to(outside)
    site = await serve(allow_publish=True, workflow_dir=folder)
    async with site.client.put(
        "/workflow/link/evil", json={"graph": graph(), "inputs": {}}
    ) as response:
        status = response.status
    assert (status >= 400, list(outside.iterdir())) == (True, [])


LONG = "a" * 900_000
LONG_BODIES: dict[str, tuple[str, dict[str, Any]]] = {
    "scheme": ("/prompt", {"prompt": loading_all(("LoadImage", f"{LONG}://x"))}),
    "bucket": ("/prompt", {"prompt": loading_all(("LoadImage", f"s3://{LONG}/x"))}),
    "upload": ("/prompt", {"prompt": graph(), "s3": {"bucket": LONG, "async": False}}),
    "field": ("/prompt", {"prompt": graph(), LONG: 1}),
    "fields": ("/prompt", {"prompt": graph(), **{f"{number:07}": 1 for number in range(9999)}}),
    "folder": ("/download", {"url": "http://127.0.0.1:1/", "model_type": LONG, "wait": True}),
    "download": ("/download", {"url": f"http://127.0.0.1:1/{LONG}", "model_type": "loras"}),
}


@pytest.mark.parametrize("where", LONG_BODIES)
async def test_what_is_long_is_not_logged_whole(
    serve: Serve, caplog: pytest.LogCaptureFixture, where: str
) -> None:
    site = await serve(loading_engine(), http_trusted_origins="")
    path, body = LONG_BODIES[where]
    async with site.client.post(path, json=body) as response:
        assert response.status < 500 or where == "upload"
        answer = await response.json()
    if response.status >= 400:
        assert len(answer["error"]) < 20_000
    if where != "folder":
        await eventually(lambda: bool(caplog.messages))
    assert all(len(message) < 100_000 for message in caplog.messages)
