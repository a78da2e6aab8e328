from __future__ import annotations

import time
import traceback
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from comfyui_stateless.errors import (
    AccessDenied,
    StorageError,
    TransferFailed,
)
from comfyui_stateless.storage.base import Cancel, Cancelled, Source
from tests.storage.answering import answering
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


def test_an_upload_is_sent_without_asking_first() -> None:
    """botocore never comes back from an answer to that which breaks off."""
    with answering(503, {}, b"") as (origin, requests):
        backend = from_environment(ADMIN, origin)
        with pytest.raises(TransferFailed):
            backend.put(f"s3://{BUCKET}/a", Source(b"content", 7, OCTETS), None, Cancel())
    assert [request["Expect"] for request in requests] == [None]
