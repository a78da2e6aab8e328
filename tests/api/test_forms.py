"""Forms with files: what comes is whole and bounded, and what is no form is refused."""

from __future__ import annotations

import asyncio
import gzip
import hashlib
import random
import tracemalloc
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from aiohttp import FormData, web

from comfyui_stateless.api.body import is_form
from comfyui_stateless.api.forms import BLOCK_BYTES, MAX_FILES, Form, read_form
from comfyui_stateless.errors import RequestError, StatelessError
from tests.api.conftest import Client, Start
from tests.fakes import eventually

MIB = 1024 * 1024

PNG = b"\x89PNG\r\n\x1a\n"

JSON = b'{"prompt": {}}'

MULTIPART = {"Content-Type": "multipart/form-data; boundary=edge"}


@dataclass
class Desk:
    """A server that reads forms, and what it has read."""

    client: Client
    folders: list[Path] = field(default_factory=list)
    forms: list[Form] = field(default_factory=list)
    errors: list[StatelessError] = field(default_factory=list)

    async def post(self, data: Any, **options: Any) -> Form:
        """Send a form that is taken."""
        async with self.client.post("/", data=data, **options) as response:
            assert response.status == 200, await response.text()
            number: int = await response.json()
        return self.forms[number]

    async def refused(self, data: Any, **options: Any) -> str:
        """Send a form that is not; return the reason."""
        async with self.client.post("/", data=data, **options) as response:
            assert response.status == self.errors[-1].status
        assert not self.forms
        assert isinstance(self.errors[-1], RequestError)
        return self.errors[-1].message


Open = Callable[..., Coroutine[Any, Any, Desk]]


@pytest.fixture
def desk(start: Start, tmp_path: Path) -> Open:
    async def open_desk(limit: int = 128 * MIB) -> Desk:
        async def take(request: web.Request) -> web.Response:
            assert is_form(request)
            folder = tmp_path / f"job-{len(opened.folders)}"
            opened.folders.append(folder)

            def make() -> Path:
                folder.mkdir(exist_ok=True)
                return folder

            try:
                opened.forms.append(await read_form(request, limit, make))
            except StatelessError as error:
                opened.errors.append(error)
                return web.json_response(error.body(), status=error.status)
            return web.json_response(len(opened.forms) - 1)

        app = web.Application()
        app.router.add_post("/", take)
        opened = Desk(await start(app))
        return opened

    return open_desk


def form(**files: bytes) -> FormData:
    data = FormData({"request": JSON.decode()})
    for name, content in files.items():
        data.add_field(name, BytesIO(content), filename=f"{name}.bin")
    return data


def raw(*parts: bytes, end: bytes = b"--edge--\r\n") -> bytes:
    return b"".join(b"--edge\r\n" + part + b"\r\n" for part in parts) + end


def part(name: str, content: bytes = b"content", headers: bytes = b"") -> bytes:
    disposition = f'Content-Disposition: form-data; name="{name}"\r\n'.encode()
    return disposition + headers + b"\r\n" + content


REQUEST = part("request", JSON)


async def test_files_come_whole_whatever_their_size(desk: Open) -> None:
    sizes = (0, 1, 2, 1000, MIB - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 5 * MIB + 3)
    contents = {f"file{size}": random.Random(size).randbytes(size) for size in sizes}
    found = await (await desk()).post(form(**contents))
    assert found.body == JSON
    assert list(found.files) == list(contents)
    for name, content in contents.items():
        file = found.files[name]
        assert file.path.read_bytes() == content
        assert file.digest == hashlib.sha256(content).hexdigest()


async def test_what_looks_like_a_boundary_is_content_until_it_is_one(desk: Open) -> None:
    content = b"\r\n--edg\r\n--\r\n-- edge\r\n\r\n--edg--\r\n" * 9000 + b"\r\n"
    found = await (await desk()).post(raw(part("a", content), REQUEST), headers=MULTIPART)
    assert found.files["a"].path.read_bytes() == content


@pytest.mark.parametrize("place", [0, 1, 2])
async def test_the_request_may_stand_anywhere(desk: Open, place: int) -> None:
    parts = [part("a"), part("b")]
    parts.insert(place, REQUEST)
    found = await (await desk()).post(raw(*parts), headers=MULTIPART)
    assert found.body == JSON
    assert set(found.files) == {"a", "b"}


@pytest.mark.parametrize("media_type", ["application/json", "text/plain", "application/x-other"])
async def test_the_request_may_be_a_file_of_any_type(desk: Open, media_type: str) -> None:
    data = FormData()
    data.add_field("request", JSON, filename="request.json", content_type=media_type)
    found = await (await desk()).post(data)
    assert (found.body, dict(found.files)) == (JSON, {})


ODD_NAMES = {
    "emoji": ("\U0001f600", "\U0001f600"),
    "other letters": ("名前", "名前"),
    "a space": ("a b", "a b"),
    "spaces around": (" a ", " a "),
    "a way up": ("a/../../b", "a/../../b"),
    "dots": ("..", ".."),
    "a backslash": ("a\\b", "a\\b"),
    "a quoted quote": ('a\\"b', 'a"b'),
    "a semicolon": ("a;b=c", "a;b=c"),
    "a percent sign": ("per%cent", "per%cent"),
    "long": ("x" * 5000, "x" * 5000),
    "a path": ("/etc/passwd", "/etc/passwd"),
    "almost the request's": ("Request", "Request"),
    "that of a default charset": ("_charset_", "_charset_"),
    "a control character": ("a\0b", "a\0b"),
}


@pytest.mark.parametrize(("sent", "name"), ODD_NAMES.values(), ids=ODD_NAMES)
async def test_no_name_of_the_clients_names_a_file(desk: Open, sent: str, name: str) -> None:
    opened = await desk()
    found = await opened.post(raw(part(sent, headers=b"X-A: b\r\n"), REQUEST), headers=MULTIPART)
    assert list(found.files) == [name]
    assert found.files[name].path.read_bytes() == b"content"
    assert [path.name for path in opened.folders[0].iterdir()] == ["upload-0"]


@pytest.mark.parametrize(
    "disposition",
    [
        b"form-data; name=a",
        b'form-data;name="a"',
        b'form-data; filename="b; name=c"; name="a"',
        b'FORM-DATA ; NAME="a" ; x=y',
        b"form-data; name*=utf-8''%61",
        b'attachment; name="a"',
    ],
)
async def test_a_name_comes_in_many_forms(desk: Open, disposition: bytes) -> None:
    odd = b"content-disposition: " + disposition + b"\r\n\r\ncontent"
    found = await (await desk()).post(raw(odd, REQUEST), headers=MULTIPART)
    assert list(found.files) == ["a"]


async def test_names_that_are_not_ascii_come_from_this_client_too(desk: Open) -> None:
    found = await (await desk()).post(form(**{'é"名': b"content"}))
    assert list(found.files) == ['é"名']


@pytest.mark.parametrize(
    "end", [b"--edge--", b"--edge--\r\n", b"--edge-- \r\nepilogue " + b"\0" * 99]
)
async def test_a_form_may_have_something_around_it(desk: Open, end: bytes) -> None:
    body = b"preamble\r\n--edg\r\n" + raw(part("a"), REQUEST, end=end)
    found = await (await desk()).post(body, headers=MULTIPART)
    assert (found.body, list(found.files)) == (JSON, ["a"])


async def test_boundaries_may_have_spaces_behind_them_and_be_quoted(desk: Open) -> None:
    body = raw(part("a"), REQUEST).replace(b"--edge", b"--ed ge").replace(b"ge\r\n", b"ge \t\r\n")
    headers = {"Content-Type": 'multipart/form-data; boundary="ed ge"'}
    found = await (await desk()).post(body, headers=headers)
    assert (found.body, list(found.files)) == (JSON, ["a"])


@pytest.mark.parametrize(
    ("content", "filename", "declared", "expected"),
    [
        (PNG, "a.jpg", "image/webp", ".png"),
        (b"anything", "a.JPEG", "image/webp", ".jpg"),
        (b"anything", "C:\\fakepath\\a.Abc123", "image/webp", ".abc123"),
        (b"anything", "a.b.c/d", "image/webp", ".webp"),
        (b"anything", "a.p\U0001f600ng", "image/webp", ".webp"),
        (b"anything", "noextension", "Image/X-TGA; q=1", ".tga"),
        (b"anything", "noextension", "application/octet-stream", ".bin"),
        (b"\x3c\0\0\0\0\0\0\0{}", "a.latent", "application/octet-stream", ".latent"),
        (b"", "a.png", "image/png", ".png"),
    ],
)
async def test_the_extension_is_of_the_bytes_then_the_name_then_the_type(
    desk: Open, content: bytes, filename: str, declared: str, expected: str
) -> None:
    data = form()
    data.add_field("a", content, filename=filename, content_type=declared)
    found = await (await desk()).post(data)
    assert found.files["a"].extension == expected


async def test_hundreds_of_parts_come_in_order(desk: Open) -> None:
    contents = {f"part {number}": b"%d" % number for number in range(500)}
    found = await (await desk()).post(form(**contents))
    assert {name: file.path.read_bytes() for name, file in found.files.items()} == contents


async def test_a_form_may_be_compressed_as_a_whole(desk: Open) -> None:
    body = gzip.compress(raw(part("a", bytes(MIB)), REQUEST))
    headers = MULTIPART | {"Content-Encoding": "gzip"}
    found = await (await desk()).post(body, headers=headers)
    assert found.files["a"].path.read_bytes() == bytes(MIB)


async def in_pieces(body: bytes, size: int, pause: float = 0) -> AsyncIterator[bytes]:
    for at in range(0, len(body), size):
        yield body[at : at + size]
        await asyncio.sleep(pause)


@pytest.mark.parametrize("size", [1, 7, 64])
async def test_a_form_may_come_in_small_pieces(desk: Open, size: int) -> None:
    body = raw(part("a", b"\r\n--edg" * 20), REQUEST, part("b", PNG))
    found = await (await desk()).post(in_pieces(body, size), headers=MULTIPART)
    assert found.files["a"].path.read_bytes() == b"\r\n--edg" * 20
    assert found.files["b"].extension == ".png"


async def test_a_slow_client_delays_nobody_else(desk: Open) -> None:
    opened = await desk()
    body = raw(part("a", bytes(400)), REQUEST)
    slow = asyncio.ensure_future(opened.post(in_pieces(body, 20, 0.02), headers=MULTIPART))
    for _ in range(3):
        await opened.post(form(b=PNG))
    assert not slow.done()
    assert (await slow).files["a"].path.stat().st_size == 400


@pytest.mark.parametrize("chunked", [False, True])
async def test_the_limit_holds_for_all_parts_together(desk: Open, chunked: bool) -> None:
    opened = await desk(limit=3 * MIB)
    body = raw(*(part(f"{number}", bytes(MIB)) for number in range(3)), REQUEST)
    data = in_pieces(body, 100_000) if chunked else BytesIO(body)
    reason = await opened.refused(data, headers=MULTIPART)
    assert opened.errors[-1].status == 413
    assert "MAX_BODY_SIZE_MB" in reason


async def test_the_limit_holds_for_the_request_too(desk: Open) -> None:
    opened = await desk(limit=MIB)
    body = raw(part("request", bytes(2 * MIB)))
    await opened.refused(in_pieces(body, 100_000), headers=MULTIPART)
    assert opened.errors[-1].status == 413


async def test_the_limit_holds_for_what_comes_out_of_a_compressed_form(desk: Open) -> None:
    opened = await desk(limit=MIB)
    body = gzip.compress(raw(part("a", bytes(50 * MIB)), REQUEST))
    assert len(body) < MIB
    await opened.refused(body, headers=MULTIPART | {"Content-Encoding": "gzip"})
    # aiohttp 3.13 breaks off by itself where 32 MiB come out at once: that is a 400.
    assert opened.errors[-1].status == 413 or "breaks off" in opened.errors[-1].message
    # An aiohttp that decompresses all at once is refused before there is a folder.
    assert sum(file.stat().st_size for file in opened.folders[0].glob("*")) <= MIB


MIXED = b"Content-Type: multipart/mixed; boundary=inner\r\n"

REFUSED = {
    "no request": (raw(part("a")), "no part 'request'"),
    "no part": (b"--edge--\r\n", "no part 'request'"),
    "twice the same": (raw(part("a"), REQUEST, part("a")), "more than one part"),
    "two requests": (raw(REQUEST, REQUEST), "more than one part"),
    "an empty request twice": (raw(part("request", b""), REQUEST), "more than one part"),
    "a part without a name": (raw(REQUEST, b"Content-Disposition: form-data\r\n\r\nx"), "a name"),
    "an empty name": (raw(REQUEST, part("")), "without a name"),
    "no disposition": (raw(REQUEST, b"X-A: b\r\n\r\nx"), "without a name"),
    "no headers": (raw(REQUEST, b"\r\nx"), "without a name"),
    "a part of parts": (
        raw(REQUEST, part("a", b"--inner\r\n\r\nx\r\n--inner--\r\n", MIXED)),
        "is made of parts",
    ),
    "base64": (raw(part("a", b"QQ==", b"Content-Transfer-Encoding: base64\r\n")), "send it as"),
    "too many parts": (raw(*(part(f"{n}") for n in range(MAX_FILES + 1))), "more than 1000"),
    "nothing": (b"", "breaks off"),
    "no boundary": (b"something else", "breaks off"),
    "another boundary": (raw(REQUEST).replace(b"edge", b"other"), "breaks off"),
    "cut in the content": (raw(REQUEST, part("a", b"con"), end=b"")[:-2], "breaks off"),
    "cut behind a part": (raw(REQUEST, part("a"), end=b""), "breaks off"),
    "cut in the boundary": (raw(REQUEST, part("a"), end=b"--ed"), "breaks off"),
    "cut behind the boundary": (raw(REQUEST, part("a"), end=b"--edge"), "breaks off"),
    "cut in the last boundary": (raw(REQUEST, part("a"), end=b"--edge-"), "breaks off"),
    "cut in the headers": (raw(REQUEST, end=b"--edge\r\nContent-Dispo"), "breaks off"),
    "cut behind the headers": (raw(REQUEST, end=b"--edge\r\n" + part("a", b"")), "breaks off"),
    "a boundary that goes on": (raw(REQUEST, part("a"), end=b"--edge-and-more\r\n"), "goes on"),
    "no header lines": (raw(REQUEST, b"what is this?\r\n\r\nx"), "without a name"),
    "a long header": (raw(REQUEST, b"X-A: " + b"b" * 100_000 + b"\r\n\r\nx"), "have more than"),
    "a header without end": (raw(REQUEST, b"X-A: " + b"b" * 100_000), "have more than"),
    "many headers": (raw(REQUEST, b"X-A: b\r\n" * 10_000 + b"\r\nx"), "have more than"),
}


@pytest.mark.parametrize(
    ("body", "reason"),
    REFUSED.values(),
    ids=REFUSED,
)
async def test_what_is_no_form_is_refused(desk: Open, body: bytes, reason: str) -> None:
    assert reason in await (await desk()).refused(body, headers=MULTIPART)


@pytest.mark.parametrize("disposition", [b"form-data", b"form-data; name", b"; name=", b'""'])
async def test_a_part_whose_name_cannot_be_read_is_refused(desk: Open, disposition: bytes) -> None:
    odd = b"Content-Disposition: " + disposition + b"\r\n\r\nx"
    assert "without a name" in await (await desk()).refused(raw(odd, REQUEST), headers=MULTIPART)


@pytest.mark.parametrize("parameter", ["", "; boundary=", "; boundary=" + "x" * 71])
async def test_a_form_has_a_boundary(desk: Open, parameter: str) -> None:
    headers = {"Content-Type": f"multipart/form-data{parameter}"}
    assert "boundary" in await (await desk()).refused(raw(REQUEST), headers=headers)


@pytest.mark.parametrize("framing", ["Content-Length: 100000", "Transfer-Encoding: chunked"])
async def test_a_client_that_hangs_up_ends_the_reading(desk: Open, framing: str) -> None:
    opened = await desk()
    _, writer = await asyncio.open_connection("127.0.0.1", opened.client.port)
    body = raw(REQUEST, part("a", bytes(500)), end=b"")
    head = f"POST / HTTP/1.1\r\nHost: a\r\nContent-Type: {MULTIPART['Content-Type']}\r\n{framing}"
    chunk = f"{len(body):x}\r\n".encode() + body if "chunked" in framing else body
    writer.write(head.encode() + b"\r\n\r\n" + chunk)
    await writer.drain()
    await eventually(lambda: bool(opened.folders) and opened.folders[0].exists())
    writer.close()
    await writer.wait_closed()
    await eventually(lambda: bool(opened.errors))
    assert "breaks off" in opened.errors[0].message
    assert not opened.forms


async def test_a_large_file_takes_little_memory(desk: Open) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"--edge\r\n" + part("a", b"")
        for _ in range(1024):
            yield block
        yield b"\r\n" + raw(REQUEST)

    block = random.Random(2).randbytes(64 * 1024)
    opened = await desk()
    tracemalloc.start()
    try:
        found = await opened.post(body(), headers=MULTIPART)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found.files["a"].digest == hashlib.sha256(block * 1024).hexdigest()
    assert peak < 8 * MIB


async def test_other_bodies_are_no_forms(start: Start) -> None:
    async def say(request: web.Request) -> web.Response:
        return web.json_response(is_form(request))

    app = web.Application()
    app.router.add_post("/", say)
    client = await start(app)
    for content_type, expected in {
        "multipart/form-data; boundary=a": True,
        "Multipart/Form-Data": True,
        "multipart/mixed; boundary=a": False,
        "application/json": False,
        "application/x-www-form-urlencoded": False,
    }.items():
        headers = {"Content-Type": content_type}
        async with client.post("/", data=b"x", headers=headers) as response:
            assert await response.json() is expected
