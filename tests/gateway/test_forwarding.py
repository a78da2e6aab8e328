from __future__ import annotations

import asyncio
import gzip
import json

import pytest
from aiohttp import web

from tests.fakes import eventually
from tests.gateway.conftest import Serve

LARGE = bytes(range(256)) * 3600


async def chunked(request: web.BaseRequest) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    async for chunk in request.content.iter_any():
        await response.write(chunk)
    return response


@pytest.mark.parametrize("size", [0, 1, 65536, 65537, len(LARGE)])
@pytest.mark.parametrize("is_chunked", [False, True], ids=["length", "chunked"])
async def test_bodies_go_both_ways(serve: Serve, size: int, is_chunked: bool) -> None:
    site = await serve()
    body = LARGE[:size]

    async def pieces() -> object:
        for start in range(0, size, 50_000):
            yield body[start : start + 50_000]

    async with site.http.post("/prompt", data=pieces() if is_chunked else body) as answer:
        assert await answer.read() == body
        assert answer.headers["Content-Length"] == str(size)
    expected = ([], ["chunked"]) if is_chunked else ([str(size)], [])
    seen = site.comfy.last
    if size:
        assert (seen.all("Content-Length"), seen.all("Transfer-Encoding")) == expected


async def test_a_chunked_answer_is_passed_on_as_one(serve: Serve) -> None:
    site = await serve(chunked)
    async with site.http.post("/prompt", data=LARGE) as answer:
        assert await answer.read() == LARGE
        assert answer.headers["Transfer-Encoding"] == "chunked"
        assert "Content-Length" not in answer.headers


async def test_an_old_client_gets_a_chunked_answer_up_to_the_end(serve: Serve) -> None:
    site = await serve(chunked)
    answer = await site.raw(b"POST /prompt HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert body == b"abc"


async def test_nothing_is_held_back_in_either_direction(serve: Serve) -> None:
    """Each event is let out only when the one before it has arrived."""
    site = await serve(chunked)
    reader, writer = await asyncio.open_connection("127.0.0.1", site.gateway.port)
    writer.write(b"POST /prompt HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    for number in range(5):
        event = b"data: %d\n\n" % number
        writer.write(b"%x\r\n%b\r\n" % (len(event), event))
        assert event in await asyncio.wait_for(reader.readuntil(event + b"\r\n"), 10)
    writer.write(b"0\r\n\r\n")
    assert (await asyncio.wait_for(reader.read(), 10)).endswith(b"0\r\n\r\n")
    writer.close()
    await writer.wait_closed()


async def test_headers_come_before_any_event(serve: Serve) -> None:
    let_go = asyncio.Event()

    async def events(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await let_go.wait()
        return response

    site = await serve(events)
    async with site.http.get("/prompt/a/events") as answer:
        assert answer.headers["Content-Type"] == "text/event-stream"
        let_go.set()
        assert await answer.read() == b""


async def test_compressed_bodies_are_not_touched(serve: Serve) -> None:
    packed = gzip.compress(b"{}" * 100)

    async def answer_packed(request: web.BaseRequest) -> web.Response:
        assert await request.read() == packed
        return web.Response(body=packed, headers={"Content-Encoding": "gzip"})

    site = await serve(answer_packed)
    async with site.http.post(
        "/prompt", data=packed, headers={"Content-Encoding": "gzip"}
    ) as answer:
        assert answer.headers["Content-Encoding"] == "gzip"
        assert await answer.read() == packed
    assert site.comfy.last.all("Content-Encoding") == ["gzip"]


@pytest.mark.parametrize("coding", ["br", "zstd", "compress", "gzip, br"])
async def test_a_body_in_a_coding_that_is_not_read_is_a_415(serve: Serve, coding: str) -> None:
    site = await serve()
    packed = site.http.post("/prompt", data=b"{}", headers={"Content-Encoding": coding})
    async with packed as answer:
        assert (answer.status, answer.headers["Accept-Encoding"]) == (415, "gzip, deflate")
        assert (await answer.json())["code"] == "unsupported_media_type"
    assert site.comfy.seen == []


async def test_headers_of_requests_are_kept_but_those_of_the_connection(serve: Serve) -> None:
    site = await serve()
    await site.raw(
        b"POST /prompt?secret=1 HTTP/1.1\r\nHost: api.example.com:3000\r\n"
        b"Connection: close, X-Between\r\nX-Between: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\n"
        b"Proxy-Authorization: Basic eDp5\r\nUpgrade: h2c\r\nOrigin: http://other.example\r\n"
        b"Accept: image/png\r\nX-Two: a\r\nx-two: b\r\nCookie: a=b; c=d\r\n"
        b"Authorization: Bearer key\r\nX-Utf: \xc3\xbc\r\nRange: bytes=0-1\r\n"
        b"Content-Type: text/odd\r\nContent-Length: 1\r\n\r\n1"
    )
    seen = site.comfy.last
    for name in (
        "Connection", "X-Between", "Keep-Alive", "TE", "Proxy-Authorization", "Upgrade", "Origin",
        "User-Agent", "Accept-Encoding", "Transfer-Encoding",
    ):  # fmt: skip
        assert seen.all(name) == [], name
    assert seen.all("Accept") == ["image/png"]
    assert seen.all("X-Two") == ["a", "b"]
    assert seen.all("Cookie") == ["a=b; c=d"]
    assert seen.all("Authorization") == ["Bearer key"]
    assert seen.all("X-Utf") == ["\xc3\xbc"]
    assert seen.all("Range") == ["bytes=0-1"]
    assert seen.all("Content-Type") == ["text/odd"]
    assert seen.all("Content-Length") == ["1"]
    assert seen.all("Host") == [site.comfy.origin.removeprefix("http://")]
    assert seen.all("X-Forwarded-For") == ["127.0.0.1"]
    assert seen.all("X-Forwarded-Proto") == ["http"]
    assert seen.all("X-Forwarded-Host") == ["api.example.com:3000"]
    assert seen.all("X-Forwarded-Uri") == ["/prompt"]


async def test_what_a_proxy_in_front_says_of_the_client_stays(serve: Serve) -> None:
    site = await serve()
    headers = {
        "X-Forwarded-For": "203.0.113.7",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "api.example.com",
        "X-Forwarded-Uri": "/comfy/models",
    }
    async with site.http.get("/models", headers=headers):
        pass
    assert site.comfy.last.all("X-Forwarded-For") == ["203.0.113.7, 127.0.0.1"]
    assert site.comfy.last.all("X-Forwarded-Proto") == ["https"]
    assert site.comfy.last.all("X-Forwarded-Host") == ["api.example.com"]
    assert site.comfy.last.all("X-Forwarded-Uri") == ["/comfy/models"]


async def test_headers_of_answers_are_kept_but_those_of_the_connection(serve: Serve) -> None:
    async def answer_headers(request: web.BaseRequest) -> web.StreamResponse:
        response = web.Response(status=418, reason="Teapot it is", body=b"1")
        response.headers.update({"Connection": "X-Between", "X-Between": "1", "Keep-Alive": "5"})
        response.headers.add("Set-Cookie", "a=b; Path=/")
        response.headers.add("Set-Cookie", "c=d")
        response.headers["Server"] = "theirs"
        response.headers["X-Utf"] = "\u00fc"
        return response

    site = await serve(answer_headers)
    async with site.http.get("/prompt/a") as answer:
        assert (answer.status, answer.reason) == (418, "Teapot it is")
        assert answer.headers.getall("Set-Cookie") == ["a=b; Path=/", "c=d"]
        assert answer.headers["Server"] == "theirs"
        assert answer.headers["X-Utf"] == "\u00fc"
        assert not {"X-Between", "Keep-Alive"} & set(answer.headers)
        assert len(answer.headers.getall("Date")) == 1


@pytest.mark.parametrize("status", [201, 204, 301, 302, 304, 307, 401, 404, 500, 503])
async def test_every_status_is_passed_on(serve: Serve, status: int) -> None:
    async def answer_status(request: web.BaseRequest) -> web.Response:
        headers = {"Location": "/elsewhere", "Retry-After": "7", "ETag": '"x"'}
        return web.Response(status=status, headers=headers)

    site = await serve(answer_status)
    async with site.http.get("/models", allow_redirects=False) as answer:
        assert answer.status == status
        assert answer.headers["Location"] == "/elsewhere"
        assert answer.headers["Retry-After"] == "7"
        assert await answer.read() == b""
    async with site.http.get("/models", allow_redirects=False) as again:
        assert again.status == status
    assert len(site.comfy.seen) == 2


@pytest.mark.parametrize("size", [10, len(LARGE)])
async def test_head_gives_the_length_and_no_body(serve: Serve, size: int) -> None:
    async def answer_large(request: web.BaseRequest) -> web.Response:
        return web.Response(body=LARGE[:size])

    site = await serve(answer_large)
    for _ in range(2):
        async with site.http.head("/models") as answer:
            assert answer.headers["Content-Length"] == str(size)
            assert await answer.read() == b""


async def test_a_part_of_a_file_is_passed_on(serve: Serve) -> None:
    async def part(request: web.BaseRequest) -> web.Response:
        assert request.headers["Range"] == "bytes=2-4"
        return web.Response(status=206, body=b"cde", headers={"Content-Range": "bytes 2-4/9"})

    site = await serve(part)
    async with site.http.get("/docs/a.js", headers={"Range": "bytes=2-4"}) as answer:
        assert (answer.status, await answer.read()) == (206, b"cde")
        assert answer.headers["Content-Range"] == "bytes 2-4/9"


async def test_a_client_that_waits_to_be_asked_is_asked(serve: Serve) -> None:
    site = await serve()
    reader, writer = await asyncio.open_connection("127.0.0.1", site.gateway.port)
    for size in (5, 100_000):
        writer.write(
            b"POST /prompt HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n"
            b"Expect: 100-continue\r\n\r\n" % size
        )
        asked = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        assert asked == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"x" * size)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        assert head.startswith(b"HTTP/1.1 200 ")
        assert await reader.readexactly(size) == b"x" * size
        assert site.comfy.last.all("Expect") == []
    writer.close()
    await writer.wait_closed()


async def test_connections_to_comfyui_are_used_again(serve: Serve) -> None:
    peers = set()

    async def note(request: web.BaseRequest) -> web.Response:
        assert request.transport is not None
        peers.add(request.transport.get_extra_info("peername"))
        return web.Response(body=await request.read())

    site = await serve(note)
    for number in range(10):
        async with site.http.post("/prompt", data=b"%d" % number) as answer:
            assert await answer.read() == b"%d" % number
    assert len(peers) == 1


async def test_two_hundred_requests_wait_at_once_and_none_is_mixed_up(serve: Serve) -> None:
    let_go = asyncio.Event()

    async def wait(request: web.BaseRequest) -> web.Response:
        body = await request.read()
        await let_go.wait()
        return web.Response(body=body)

    site = await serve(wait)

    async def one(number: int) -> bool:
        async with site.http.post("/prompt", json={"number": number}) as answer:
            return bool(json.loads(await answer.read()) == {"number": number})

    site.http.connector._limit = 0  # type: ignore[union-attr]
    asked = [asyncio.ensure_future(one(number)) for number in range(200)]
    await eventually(lambda: site.comfy.connections == 200)
    let_go.set()
    assert all(await asyncio.gather(*asked))


async def test_requests_sent_behind_each_other_are_answered_in_order(serve: Serve) -> None:
    site = await serve()
    one = b"POST /prompt HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n%d"
    last = b"POST /prompt HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 1\r\n\r\n3"
    answer = await site.raw(one % 1 + one % 2 + last)
    assert [part.partition(b"\r\n\r\n")[2] for part in answer.split(b"HTTP/1.1 200")[1:]] == [
        b"1",
        b"2",
        b"3",
    ]


async def test_comfyui_may_have_an_ipv6_address(serve: Serve) -> None:
    first = await serve()
    try:
        await first.comfy.stop()
        await first.comfy.start("::1")
    except OSError:
        pytest.skip("this machine has no IPv6")
    site = await serve(behind=first.comfy.origin)
    async with site.http.post("/prompt", data=b"x") as answer:
        assert await answer.read() == b"x"


@pytest.mark.parametrize("is_answer", [False, True], ids=["request", "answer"])
async def test_a_header_that_is_no_utf_8_does_no_harm(serve: Serve, is_answer: bool) -> None:
    async def latin(request: web.BaseRequest) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.write(b"HTTP/1.1 200 OK\r\nX-Name: M\xfcll\r\nContent-Length: 1\r\n\r\n1")
        request.transport.close()
        return web.Response()

    site = await serve(latin) if is_answer else await serve()
    answer = await site.raw(
        b"POST /prompt HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Name: M\xfcll\r\n"
        b"Content-Length: 1\r\n\r\n1"
    )
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert answer.endswith(b"\r\n\r\n1")
    if is_answer:
        assert b"X-Name: Mll\r\n" in answer
    else:
        assert site.comfy.last.all("X-Name") == ["Mll"]
