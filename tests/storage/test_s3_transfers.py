from __future__ import annotations

import itertools
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from comfyui_stateless.errors import (
    AccessDenied,
    StorageError,
    TransferFailed,
)
from comfyui_stateless.storage import s3_answers
from comfyui_stateless.storage.base import Cancel, Cancelled, Source, Span
from tests.storage.answering import answering
from tests.storage.answers import Answer, Call
from tests.storage.answers import answering as answering_each
from tests.storage.contract import (
    BOUND_S,
    LARGE_BYTES,
    OCTETS,
    failure,
    whole,
)
from tests.storage.relay import relay
from tests.storage.s3_store import (
    S3Store,
    from_environment,
)
from tests.storage.seaweed import ADMIN, BUCKET, Seaweed
from tests.storage.test_answers import saying

MIB = 1024 * 1024
SLOW = b"HTTP/1.1 500 Failed\r\n\r\n"

pytestmark = pytest.mark.usefixtures("no_aws")


# What an upload in parts leaves


def test_a_cancelled_upload_takes_back_its_parts(s3_server: Seaweed, tmp_path: Path) -> None:
    backend, key, cancel = from_environment(ADMIN, s3_server.origin), uuid.uuid4().hex, Cancel()
    (file := tmp_path / "large.bin").write_bytes(bytes(96 * 1024 * 1024))
    source = Source(file, file.stat().st_size, OCTETS)
    with ThreadPoolExecutor(1) as threads:
        put = threads.submit(backend.put, f"s3://{BUCKET}/{key}", source, None, cancel)
        eventually(lambda: key in uploads(s3_server))
        cancel.cancel()
        with pytest.raises(Cancelled):
            put.result()
    eventually(lambda: key not in uploads(s3_server))
    with pytest.raises(FileNotFoundError):
        S3Store(s3_server, s3_server.origin, backend).read(key)


def test_a_failed_upload_takes_back_its_parts(s3_server: Seaweed, tmp_path: Path) -> None:
    key = uuid.uuid4().hex
    (file := tmp_path / "large.bin").write_bytes(bytes(LARGE_BYTES))
    with relay(s3_server.origin, up=4 * 1024 * 1024, then="cut") as between:
        backend = from_environment(ADMIN, between.origin)
        with pytest.raises(TransferFailed):
            backend.put(f"s3://{BUCKET}/{key}", Source(file, LARGE_BYTES, OCTETS), None, Cancel())
    assert between.at_limit.is_set()
    assert key not in uploads(s3_server)


def uploads(server: Seaweed) -> list[str]:
    """Return the keys of the uploads in parts that are under way."""
    answer = server.raw.list_multipart_uploads(Bucket=BUCKET)
    return [upload["Key"] for upload in answer.get("Uploads", [])]


def eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + BOUND_S
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


# A storage that answers oddly


@pytest.mark.parametrize(
    ("status", "headers", "body", "error"),
    [
        (503, {"Retry-After": "7"}, "<Error><Code>SlowDown</Code></Error>", TransferFailed),
        (500, {}, "", TransferFailed),
        (400, {}, "<Error><Code>ExpiredToken</Code></Error>", AccessDenied),
        (400, {}, "<Error><Code>RequestTimeout</Code></Error>", TransferFailed),
        (400, {}, "<Error><Code>IncompleteBody</Code></Error>", TransferFailed),
        (404, {}, "<Error><Code>NoSuchUpload</Code></Error>", TransferFailed),
        (403, {}, "<Error><Code>a hush b</Code><Message>hush</Message></Error>", AccessDenied),
        (400, {}, "<Error><Code>hush=1</Code><Message>hush</Message></Error>", StorageError),
        (200, {"x-amz-checksum-crc32": "AAAAAA=="}, "not that", TransferFailed),
        (200, {"Content-Length": "99"}, "too short", TransferFailed),
    ],
)
def test_an_odd_answer_becomes_an_error_that_repeats_nothing_of_it(
    status: int, headers: dict[str, str], body: str, error: type[StorageError]
) -> None:
    with answering(status, headers, body.encode()) as (origin, requests):
        caught = failure(lambda: whole(from_environment(ADMIN, origin), "s3://bucket/key"))
    assert type(caught) is error
    assert "hush" not in "".join(traceback.format_exception(caught))
    assert len(requests) == 1
    if "Retry-After" in headers:
        assert isinstance(caught, TransferFailed)
        assert caught.retry_after_s == 7


BEGUN = b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"
PAGE = b"<html><body>Log in</body></html>"
MADE = {"begun": Answer(200, BEGUN), "part": Answer(200, b"", {"ETag": '"p"'}), "whole": Answer()}


@pytest.mark.parametrize(
    "said",
    [
        {"begun": Answer(200, PAGE)},
        {"begun": Answer()},
        {"part": Answer()},
        {"whole": Answer()},
        {"whole": Answer(200, PAGE)},
        {"whole": Answer(200, b"<?xml version='1.0'?><Error><Code>InternalError</Code></Error>")},
        {"whole": Answer(400, b"<Error><Code>InvalidPart</Code></Error>")},
        {"whole": Answer(404, b"<Error><Code>NoSuchUpload</Code></Error>")},
    ],
    ids=[
        "a page in place of an id", "no id", "no tag of a part", "nothing of the whole",
        "a page in place of the whole", "an error", "a part was lost", "all parts were lost",
    ],
)  # fmt: skip
def test_an_upload_in_parts_that_the_storage_does_not_vouch_for_has_failed(
    said: dict[str, Answer],
) -> None:
    answers = {**MADE, **said}

    def answer(call: Call) -> Answer:
        kind = {"PUT": "part", "POST": "begun" if "uploads" in call.query else "whole"}
        return answers[kind[call.method]]

    source = Source(bytes(9 * MIB), 9 * MIB, OCTETS)
    with answering_each(answer, []) as origin:
        backend = from_environment(ADMIN, origin)
        with pytest.raises(TransferFailed):
            backend.put(f"s3://{BUCKET}/a", source, None, Cancel())


@pytest.mark.parametrize(
    "said", [None, "", "bytes 2-5", "bytes */10", "bytes x-y/10", "items 2-5/10"]
)
def test_a_part_that_does_not_say_which_is_not_taken_for_all(said: str | None) -> None:
    headers = {"ETag": '"a"'} if said is None else {"ETag": '"a"', "Content-Range": said}
    with answering(206, headers, b"2345") as (origin, _):
        backend = from_environment(ADMIN, origin)
        with pytest.raises(TransferFailed):
            backend.open(f"s3://{BUCKET}/a", None, Span(2, 6), Cancel())


def test_a_part_says_where_it_stands() -> None:
    with answering(206, {"ETag": '"a"', "Content-Range": "bytes 2-5/10"}, b"2345") as (origin, _):
        backend = from_environment(ADMIN, origin)
        with backend.open(f"s3://{BUCKET}/a", None, Span(2, 6), Cancel()) as download:
            assert (download.offset, download.info.size) == (2, 10)


def test_an_object_whose_length_is_not_announced_comes_whole() -> None:
    said = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    with saying(lambda: [said]) as origin:
        assert whole(from_environment(ADMIN, origin), f"s3://{BUCKET}/a") == b"abc"


def test_an_upload_is_sent_without_asking_first() -> None:
    """botocore never comes back from an answer to that which breaks off."""
    with answering(503, {}, b"") as (origin, requests):
        backend = from_environment(ADMIN, origin)
        with pytest.raises(TransferFailed):
            backend.put(f"s3://{BUCKET}/a", Source(b"content", 7, OCTETS), None, Cancel())
    assert [request["Expect"] for request in requests] == [None]


@contextmanager
def failing_without_end(status: int) -> Iterator[tuple[str, list[int]]]:
    """Answer everything with an error whose text does not end; give the origin and what was sent."""
    sent = [0]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            with suppress(OSError):
                while sent[0] < 512 * MIB:
                    sent[0] += self.wfile.write(b"<Error><Code>".ljust(MIB))

        do_PUT = do_POST = do_GET  # noqa: N815 - the server's names

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", sent
        server.shutdown()


@pytest.mark.parametrize(
    ("status", "error"), [(500, TransferFailed), (403, AccessDenied), (400, StorageError)]
)
@pytest.mark.parametrize("what", ["get", "put", "put in parts"])
def test_the_text_of_an_error_is_read_no_further_than_a_limit(
    status: int, error: type[StorageError], what: str
) -> None:
    size = LARGE_BYTES if what == "put in parts" else 7
    with failing_without_end(status) as (origin, sent):
        backend = from_environment(ADMIN, origin)
        source = Source(bytes(size), size, OCTETS)
        url = "s3://bucket/key"
        if what == "get":
            caught = failure(lambda: whole(backend, url))
        else:
            caught = failure(lambda: backend.put(url, source, None, Cancel()))
    assert type(caught) is error
    assert sent[0] < 32 * MIB


def test_the_text_of_an_error_that_comes_byte_by_byte_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(s3_answers, "MAX_S", 0.05)
    with saying(lambda: itertools.chain([SLOW], itertools.repeat(b"<")), 0.02) as url:
        backend = from_environment(ADMIN, url.removesuffix("/a"))
        with pytest.raises(TransferFailed):
            whole(backend, "s3://bucket/key")
