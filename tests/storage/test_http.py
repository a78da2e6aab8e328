"""The HTTP backend: the contract, what it sends, and what it makes of odd answers."""

from __future__ import annotations

import base64
import hashlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from email.utils import formatdate
from urllib.parse import quote

import pytest
from pydantic import SecretStr

from comfyui_stateless.errors import (
    AccessDenied,
    ObjectNotFound,
    StorageError,
    TransferFailed,
    WrongContent,
)
from comfyui_stateless.storage.auth import (
    Auth,
    BearerAuth,
)
from comfyui_stateless.storage.base import Backend, Cancel, Digest, Source, Span
from tests.storage.contract import BackendContract, Store
from tests.storage.file_server import File, FileServer, file_server
from tests.storage.requesting import SECRET, backend, content, head, opened

DATE = "Tue, 14 Nov 2023 22:13:20 GMT"
GOOD = BearerAuth(type="bearer", token=SecretStr(SECRET))


@dataclass(frozen=True)
class HttpStore:
    server: FileServer
    origin: str
    backend: Backend
    auth: Auth | None = GOOD
    secrets: tuple[str, ...] = (SECRET, "query-secret", "wrong-secret")

    @property
    def refused(self) -> dict[str, tuple[Backend, Auth | None]]:
        wrong = BearerAuth(type="bearer", token=SecretStr("wrong-secret"))
        return {"a wrong token": (self.backend, wrong), "no token": (self.backend, None)}

    def url(self, name: str) -> str:
        return f"{self.origin}/{quote(name)}?sig=query-secret"

    def write(self, name: str, content: bytes, media_type: str = "") -> None:
        self.server.files[f"/{name}"] = File(content, media_type)

    def read(self, name: str) -> bytes:
        try:
            return self.server.files[f"/{name}"].content
        except KeyError:
            raise FileNotFoundError(name) from None

    def at(self, origin: str) -> Store:
        return replace(self, origin=origin)


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as server:
        yield server


class TestHttp(BackendContract):
    foreign_urls = (*BackendContract.foreign_urls, "s3://bucket/a", "httpx://a/b", "//host/a")

    @pytest.fixture
    def store(self, server: FileServer) -> Store:
        server.authorization = f"Bearer {SECRET}"
        return HttpStore(server, server.origin, backend())


def methods(server: FileServer) -> list[str]:
    return [seen.method for seen in server.requests]


# Asking


@pytest.mark.parametrize("status", [400, 403, 405, 501])
def test_where_head_is_refused_a_get_of_one_byte_is_tried(server: FileServer, status: int) -> None:
    url = server.add("/a.webp", b"0123456789", media_type="image/webp", head_status=status)
    info = head(url)
    assert (info.size, info.has_ranges, info.media_type) == (10, True, "image/webp")
    assert methods(server) == ["HEAD", "GET"]
    assert server.requests[1].headers["range"] == "bytes=0-0"


def test_an_empty_object_is_asked_for_without_head_too(server: FileServer) -> None:
    assert head(server.add("/a", b"", head_status=405)).size == 0


def test_without_head_and_without_ranges_the_size_is_known_all_the_same(
    server: FileServer,
) -> None:
    info = head(server.add("/a", b"0" * 100_000, head_status=405, ranges="no"))
    assert (info.size, info.has_ranges) == (100_000, False)


@pytest.mark.parametrize(
    ("faults", "version"),
    [
        ({"version": "strong"}, '"{etag}"'),
        ({"version": "weak"}, None),
        ({"version": "none"}, None),
        ({"version": "date"}, "Tue, 14 Nov 2023 22:13:20 GMT"),
        ({"version": "date", "modified_s": time.time() + 3600}, None),
        ({"version": "date", "headers": {"Last-Modified": "yesterday"}}, None),
        ({"version": "date", "headers": {"Date": "never"}}, None),
        ({"version": "weak", "headers": {"Last-Modified": DATE}}, DATE),
    ],
    ids=[
        "strong", "weak", "none", "date", "date-to-come", "bad-date", "no-clock", "weak-and-date",
    ],
)  # fmt: skip
def test_a_version_is_what_can_stand_in_if_range(
    server: FileServer, faults: dict[str, object], version: str | None
) -> None:
    url = server.add("/a", b"0123", **faults)
    etag = server.files["/a"].etag
    assert head(url).version == (etag if version == '"{etag}"' else version)


def test_a_file_of_this_very_second_has_no_version(server: FileServer) -> None:
    now = formatdate(usegmt=True)
    url = server.add("/a", b"1", version="none", headers={"Last-Modified": now, "Date": now})
    assert head(url).version is None


@pytest.mark.parametrize(
    ("disposition", "filename"),
    [
        ("attachment; filename=a.png", "a.png"),
        ('attachment; filename="a b.png"', "a b.png"),
        ('attachment;filename="a;b.png";x=y', "a;b.png"),
        ('attachment; filename="a\\"b.png"', 'a"b.png'),
        ("attachment; filename*=UTF-8''%e6%97%a5%20b.png", "日 b.png"),
        ("attachment; filename=\"a.png\"; filename*=UTF-8''b.png", "b.png"),
        ("attachment; filename*=utf-8'en'b.png; filename=\"a.png\"", "b.png"),
        ("attachment; filename*=ISO-8859-1''%fc.png", "ü.png"),
        ("attachment; filename=a.png; filename*=nonsense''%ff", "a.png"),
        ("attachment; filename=a.png; filename*=UTF-8''%ff", "a.png"),
        ("inline; FileName=A.PNG", "A.PNG"),
        ("attachment; filename=ü.png", "ü.png"),
        ("attachment; filename=日本.png", "日本.png"),
        ('attachment; filename="../../etc/passwd"', "passwd"),
        ('attachment; filename="C:\\\\dir\\\\a.png"', "a.png"),
        ("attachment; filename*=UTF-8''..%2f..%2fa.png", "a.png"),
        ("attachment; filename*=UTF-8''a%00%0d%0ab.png", "ab.png"),
        ('attachment; x="; filename=no.png"', None),
        ('attachment; filename=".."', None),
        ('attachment; filename=""', None),
        ("attachment", None),
        ("", None),
    ],
)
def test_a_file_name_is_bare(server: FileServer, disposition: str, filename: str | None) -> None:
    raw = disposition.encode().decode("latin-1")
    assert head(server.add("/a", headers={"Content-Disposition": raw})).filename == filename


@pytest.mark.parametrize(
    ("said", "media_type"),
    [
        ("image/PNG", "image/png"),
        ("text/html; charset=utf-8", "text/html"),
        ("nonsense", None),
        ("", None),
    ],
)
def test_a_media_type_is_without_parameters(
    server: FileServer, said: str, media_type: str | None
) -> None:
    assert head(server.add("/a", media_type=said)).media_type == media_type


SHA256 = hashlib.sha256(b"0123").digest()
IN_BASE64 = base64.b64encode(SHA256).decode()


@pytest.mark.parametrize(
    ("headers", "is_known"),
    [
        ({"Repr-Digest": f"sha-256=:{IN_BASE64}:"}, True),
        ({"Repr-Digest": f"md5=:AAAA:, sha-256=:{IN_BASE64}:"}, True),
        ({"Digest": f"SHA-256={IN_BASE64}"}, True),
        ({"Digest": f"md5=AAAA,sha-256={IN_BASE64}"}, True),
        ({"Content-Digest": f"sha-256=:{IN_BASE64}:"}, False),
        ({"Repr-Digest": "sha-256=:AAAA:"}, False),
        ({"Repr-Digest": f"xsha-256=:{IN_BASE64}:"}, False),
        ({"Repr-Digest": f"sha-512=:{IN_BASE64}:"}, False),
    ],
)
def test_a_digest_of_the_whole_object_is_told(
    server: FileServer, headers: dict[str, str], is_known: bool
) -> None:
    info = head(server.add("/a", b"0123", headers=headers))
    assert info.digest == (Digest("sha256", SHA256.hex()) if is_known else None)


MD5 = hashlib.md5(b"0123").digest()
MD5_BASE64 = base64.b64encode(MD5).decode()
AMAZONS = {"x-amz-request-id": "4442587FB7D0A2F9", "ETag": f'"{MD5.hex()}"'}


@pytest.mark.parametrize(
    ("headers", "is_known"),
    [
        ({"Content-MD5": MD5_BASE64}, True),
        ({"Content-MD5": f" {MD5_BASE64} "}, True),
        ({"x-ms-blob-content-md5": MD5_BASE64, "Content-MD5": "AAAA"}, True),
        ({"Content-MD5": "AAAA"}, False),
        ({"Content-MD5": "no base64"}, False),
        ({"Content-MD5": MD5.hex()}, False),
        ({"ETag": f'"{MD5.hex()}"'}, False),
        (AMAZONS, True),
        ({**AMAZONS, "x-amz-server-side-encryption": "AES256"}, True),
        ({**AMAZONS, "x-amz-server-side-encryption": "aws:kms"}, False),
        ({**AMAZONS, "x-amz-server-side-encryption-customer-algorithm": "AES256"}, False),
        ({**AMAZONS, "ETag": f'"{MD5.hex()}-2"'}, False),
        ({**AMAZONS, "ETag": f'W/"{MD5.hex()}"'}, False),
    ],
)
def test_an_md5_of_the_whole_object_is_told(
    server: FileServer, headers: dict[str, str], is_known: bool
) -> None:
    url = server.add("/a", b"0123", version="none", headers=headers)
    said = head(url).digest
    is_assumed = "x-amz-request-id" in headers
    assert said == (Digest("md5", MD5.hex(), is_assumed) if is_known else None)


def test_the_md5_of_a_part_is_not_that_of_the_whole(server: FileServer) -> None:
    url = server.add("/a", b"0123", headers={"Content-MD5": MD5_BASE64})
    blob = server.add("/b", b"0123", headers={"x-ms-blob-content-md5": MD5_BASE64})
    whole = Digest("md5", MD5.hex())
    for place, span, said in ((url, None, whole), (url, Span(2), None), (blob, Span(2), whole)):
        with opened(place, span) as download:
            assert download.info.digest == said


# Reading


def test_a_span_is_asked_for_on_condition_of_its_version(server: FileServer) -> None:
    url = server.add("/a", b"0123456789")
    assert content(opened(url, Span(2, 5, server.files["/a"].etag))) == b"234"
    assert server.requests[0].headers["range"] == "bytes=2-4"
    assert server.requests[0].headers["if-range"] == server.files["/a"].etag


def test_a_server_without_ranges_gives_all(server: FileServer) -> None:
    download = opened(server.add("/a", b"0123456789", ranges="no"), Span(4, None, '"x"'))
    assert (download.offset, download.info.has_ranges) == (0, False)
    assert content(download) == b"0123456789"


def test_a_server_that_ignores_if_range_is_asked_for_all(server: FileServer) -> None:
    download = opened(
        server.add("/a", b"the new one", ranges="unconditional"), Span(4, None, '"o"')
    )
    assert download.offset == 0
    assert content(download) == b"the new one"
    assert "range" not in server.requests[1].headers


@pytest.mark.parametrize(("version", "offset"), [(DATE, 4), ('"etag"', 0)], ids=["date", "etag"])
def test_a_part_may_leave_out_the_date_of_its_version_but_not_the_etag(
    server: FileServer, version: str, offset: int
) -> None:
    url = server.add("/a", b"0123456789", version="none", ranges="unconditional")
    download = opened(url, Span(4, None, version))
    assert (download.offset, download.info.version) == (offset, version if offset else None)
    assert content(download) == b"0123456789"[offset:]


@pytest.mark.parametrize("start", [10, 11, 1000])
def test_a_span_behind_the_end_gives_all(server: FileServer, start: int) -> None:
    download = opened(server.add("/a", b"0123456789"), Span(start, None, None))
    assert download.offset == 0
    assert content(download) == b"0123456789"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Range": "bytes 3-6/10"},
        {"Content-Range": "bytes 0-9/10"},
        {"Content-Range": "bytes 2-4/10"},
        {"Content-Range": "bytes 2-6/10"},
        {"Content-Range": "bytes 2-5/5"},
        {"Content-Range": "items 2-5/10"},
        {"Content-Range": "bytes 2-5"},
        {"Content-Range": "bytes */10"},
        {"Content-Range": "nonsense"},
        {"Content-Type": "multipart/byteranges; boundary=x"},
    ],
)
def test_another_part_than_was_asked_for_is_a_failed_transfer(
    server: FileServer, headers: dict[str, str]
) -> None:
    url = server.add("/a", b"2345", status=206, ranges="no", headers=headers)
    with pytest.raises(TransferFailed, match="another part"):
        opened(url, Span(2, 6))


def test_a_part_that_begins_later_is_a_failed_transfer(server: FileServer) -> None:
    headers = {"Content-Range": "bytes 3-5/10"}
    url = server.add("/a", b"345", status=206, ranges="no", headers=headers)
    with pytest.raises(TransferFailed, match="another part"):
        opened(url, Span(2, 6))


def test_a_part_whose_length_contradicts_its_range_is_a_failed_transfer(
    server: FileServer,
) -> None:
    url = server.add("/a", b"0123456789", missing=1)
    with pytest.raises(TransferFailed, match="another part"):
        opened(url, Span(2, 6))


def test_a_part_of_an_object_of_unknown_size_is_taken(server: FileServer) -> None:
    headers = {"Content-Range": "bytes 2-5/*"}
    url = server.add("/a", b"2345", status=206, ranges="no", headers=headers)
    download = opened(url, Span(2, 6))
    assert (download.offset, download.info.size) == (2, None)
    assert content(download) == b"2345"


def test_a_part_that_nobody_asked_for_is_a_failed_transfer(server: FileServer) -> None:
    headers = {"Content-Range": "bytes 0-3/10"}
    url = server.add("/a", b"0123", status=206, ranges="no", headers=headers)
    with pytest.raises(TransferFailed, match="a part where all was asked for"):
        opened(url)


@pytest.mark.parametrize("encoding", ["gzip", "br", "identity, deflate"])
def test_a_compressed_answer_is_refused(server: FileServer, encoding: str) -> None:
    url = server.add("/a", b"0123", headers={"Content-Encoding": encoding})
    with pytest.raises(WrongContent, match="compressed"):
        opened(url)
    with pytest.raises(WrongContent):
        head(url)


@pytest.mark.parametrize("encoding", ["identity", "", "aws-chunked"])
def test_an_encoding_that_changes_nothing_is_taken(server: FileServer, encoding: str) -> None:
    url = server.add("/a", b"0123", headers={"Content-Encoding": encoding})
    assert content(opened(url)) == b"0123"


def test_a_body_of_unknown_size_is_read_to_its_end(server: FileServer) -> None:
    download = opened(server.add("/a", b"0123" * 50_000, framing="chunked"))
    assert download.info.size is None
    assert len(content(download)) == 200_000


# Statuses


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (204, StorageError), (302, StorageError), (304, StorageError), (400, StorageError),
        (401, AccessDenied), (403, AccessDenied), (404, ObjectNotFound), (407, AccessDenied),
        (408, TransferFailed), (409, StorageError), (410, ObjectNotFound), (416, StorageError),
        (418, StorageError), (429, TransferFailed), (451, StorageError), (500, TransferFailed),
        (502, TransferFailed), (503, TransferFailed), (504, TransferFailed), (599, TransferFailed),
    ],
)  # fmt: skip
def test_a_status_has_its_error(server: FileServer, status: int, kind: type[StorageError]) -> None:
    url = server.add("/a", status=status)
    source = Source(b"1", 1, "image/png")
    attempts: list[Callable[[], object]] = [
        lambda: head(url),
        lambda: opened(url),
        lambda: backend().put(url, source, None, Cancel()),
    ]
    for attempt in attempts[: 2 if status == 204 else 3]:
        with pytest.raises(StorageError, match=str(status)) as caught:
            attempt()
        assert type(caught.value) is kind
        assert f"{server.origin}/a" in caught.value.message


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "7"}, 7.0),
        ({"Retry-After": " 120 "}, 120.0),
        ({"Retry-After": "Tue, 14 Nov 2023 22:13:30 GMT", "Date": DATE}, 10.0),
        ({"Retry-After": "Tue, 14 Nov 2023 22:13:10 GMT", "Date": DATE}, 0.0),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-1"}, None),
        ({}, None),
    ],
)
def test_a_failing_server_says_when_to_come_again(
    server: FileServer, headers: dict[str, str], seconds: float | None
) -> None:
    with pytest.raises(TransferFailed) as caught:
        opened(server.add("/a", status=503, headers=headers))
    assert caught.value.retry_after_s == seconds


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_an_upload_is_done_with_any_success(server: FileServer, status: int) -> None:
    backend().put(server.add("/a", status=status), Source(b"1", 1, "image/png"), None, Cancel())
