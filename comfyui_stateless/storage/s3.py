"""S3 and the storages that speak its language, through boto3.

The environment's credentials, region and endpoint are boto3's own business: variables, profiles,
roles. An endpoint that a request names is not trusted: URLs are signed for it, without a
connection, and then fetched like any other URL, under the same policy.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from email.message import Message
from io import BytesIO
from typing import Any, ClassVar, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from ..config import Proxies
from ..errors import TransferFailed, UnsupportedURL
from ..naming import redacted
from .auth import Auth, S3Auth
from .base import Cancel, Digest, Download, ObjectInfo, Source, Span
from .http import HttpBackend
from .representation import content_range, decoded_digest, etag_digest
from .s3_clients import S3Clients, code_of, sdk, translated
from .vendors import until_done

SCHEME = "s3://"
PRESIGNED_S = 3600
PART_BYTES = 5 * 1024 * 1024
"""The smallest part that S3 takes. Of an upload in parts, boto3 holds ten in memory."""
GONE_ON = {"412", "416", "InvalidRange", "PreconditionFailed"}
"""The object is another than the one whose part was asked for."""


STOP_S = 2.0
"""Seconds that a cancelled upload is waited for, so that nothing of it comes later."""


class S3Target(BaseModel):
    """Where outputs are uploaded to: ``prefix`` stands in front of each name as it is."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="ignore", populate_by_name=True, defer_build=True
    )

    bucket: str = Field(min_length=1, pattern=r"^[^/]+$")
    prefix: str = ""
    is_async: bool = Field(default=True, alias="async")

    def url_for(self, filename: str) -> str:
        """Return the URL that an output of this name gets."""
        return f"{SCHEME}{self.bucket}/{self.prefix}{filename}"


class _Object(NamedTuple):
    """A bucket and a key, as the URL has them: nothing in it is percent-encoded."""

    url: str
    bucket: str
    key: str

    @classmethod
    def of(cls, url: str) -> _Object:
        bucket, _, key = url[len(SCHEME) :].partition("/")
        if not bucket or not key:
            raise UnsupportedURL(f"{redacted(url)} is no address such as s3://bucket/key.")
        return cls(url, bucket, key)

    @property
    def parameters(self) -> dict[str, str]:
        return {"Bucket": self.bucket, "Key": self.key}


class S3Backend:
    """Reads and writes ``s3://bucket/key``.

    Args:
        http: For the endpoints that requests name; it must not send the operator's header.
        proxies: For all other connections.
        region: AWS_REGION.
    """

    name: ClassVar[str] = "s3"

    def __init__(self, http: HttpBackend, proxies: Proxies, region: str | None = None) -> None:
        self._http = http
        self._clients = S3Clients(proxies, region)

    def matches(self, url: str) -> bool:
        return url[: len(SCHEME)].lower() == SCHEME

    def head(self, url: str, auth: Auth | None, cancel: Cancel) -> ObjectInfo:
        place, keys = _Object.of(url), _keys(url, auth)
        if keys and keys.endpoint:
            return self._http.head(self._signed("head_object", place, keys), None, cancel)
        with translated(url, keys):
            answer = until_done(
                lambda: self._clients.of(keys).head_object(
                    **place.parameters, ChecksumMode="ENABLED"
                ),
                cancel,
            )
        return _info(answer)

    def open(self, url: str, auth: Auth | None, span: Span | None, cancel: Cancel) -> Download:
        place, keys = _Object.of(url), _keys(url, auth)
        if keys and keys.endpoint:
            return self._http.open(self._signed("get_object", place, keys), None, span, cancel)
        with translated(url, keys):
            answer = until_done(
                lambda: _get(self._clients.of(keys), place, span),
                cancel,
                lambda late: late["Body"].close(),
            )
        return _S3Download(answer, url, keys, cancel)

    def put(self, url: str, source: Source, auth: Auth | None, cancel: Cancel) -> None:
        place, keys = _Object.of(url), _keys(url, auth)
        if keys and keys.endpoint:
            self._http.put(self._signed("put_object", place, keys), source, None, cancel)
            return
        with translated(url, keys):
            until_done(
                lambda: _upload(self._clients.of(keys), place, source, cancel),
                cancel,
                stops_within_s=STOP_S,
            )

    def close(self) -> None:
        self._clients.close()

    def _signed(self, operation: str, place: _Object, keys: S3Auth) -> str:
        """Return a URL that lets its holder do one operation; no connection is made."""
        with translated(place.url, keys):
            signed: str = self._clients.of(keys).generate_presigned_url(
                operation, Params=place.parameters, ExpiresIn=PRESIGNED_S
            )
        return signed


class _S3Download:
    """The bytes of one answer of ``get_object``."""

    def __init__(
        self, answer: dict[str, Any], url: str, keys: S3Auth | None, cancel: Cancel
    ) -> None:
        self.info = _info(answer)
        self.offset = _range(answer)[0]
        self._body = answer["Body"]
        # As a context manager it gives what it reads from: urllib3's response.
        self._response = self._body.__enter__()
        self._url, self._keys, self._cancel = url, keys, cancel

    def readinto(self, buffer: memoryview) -> int:
        try:
            with self._cancel.calling(self._stop), translated(self._url, self._keys):
                count: int = self._body.readinto(buffer)
        except (TransferFailed, ValueError):
            self._cancel.check()
            raise
        self._cancel.check()
        return count

    def _stop(self) -> None:
        # It raises these where all has come and the connection is another's already.
        with suppress(RuntimeError, ValueError):
            self._response.shutdown()

    def __enter__(self) -> _S3Download:
        return self

    def __exit__(self, *_: object) -> None:
        self._body.close()


def _keys(url: str, auth: Auth | None) -> S3Auth | None:
    if auth is None or isinstance(auth, S3Auth):
        return auth
    raise UnsupportedURL(f"{redacted(url)} takes credentials of the type s3, not {auth.type}.")


def _get(client: Any, place: _Object, span: Span | None) -> dict[str, Any]:
    answer: dict[str, Any]
    if span is not None:
        try:
            answer = client.get_object(**place.parameters, **_part(span))
        except sdk().exceptions.ClientError as error:
            if code_of(error) not in GONE_ON:
                raise
        else:
            return answer
    answer = client.get_object(**place.parameters)
    return answer


def _part(span: Span) -> dict[str, str]:
    last = "" if span.end is None else span.end - 1
    condition = {} if span.version is None else {"IfMatch": span.version}
    return {"Range": f"bytes={span.start}-{last}", **condition}


def _upload(client: Any, place: _Object, source: Source, cancel: Cancel) -> None:
    with (
        BytesIO(source.body) if isinstance(source.body, bytes) else source.body.open("rb") as file,
        _required(),
    ):
        client.upload_fileobj(
            file,
            place.bucket,
            place.key,
            ExtraArgs={"ContentType": source.media_type},
            # What is raised here ends the upload, and the parts that have arrived are taken back.
            Callback=lambda _: cancel.check(),
            Config=sdk().TransferConfig(
                multipart_chunksize=PART_BYTES, preferred_transfer_client="classic"
            ),
        )


@contextmanager
def _required() -> Iterator[None]:
    """Raise what an upload misses in the storage's answers.

    Raises:
        TransferFailed: It misses something.
    """
    try:
        yield
    except KeyError as error:
        raise TransferFailed(f"The storage's answer to an upload has no {error}.") from None


def _info(answer: dict[str, Any]) -> ObjectInfo:
    _, size = _range(answer)
    disposition = Message()
    disposition["Content-Disposition"] = answer.get("ContentDisposition") or ""
    return ObjectInfo(
        size=size,
        version=answer.get("ETag"),
        has_ranges=True,
        filename=disposition.get_filename(),
        media_type=(answer.get("ContentType") or "").partition(";")[0].strip().lower() or None,
        digest=_digest(answer),
    )


def _range(answer: dict[str, Any]) -> tuple[int, int | None]:
    """Return where in the object an answer's first byte stands, and the size of the object.

    Raises:
        TransferFailed: It is a part, and does not say which.
    """
    headers = Message()
    headers["Content-Range"] = answer.get("ContentRange") or ""
    part = content_range(headers)
    if part is not None and part.end:
        return part.start, part.total
    if answer["ResponseMetadata"]["HTTPStatusCode"] == 206:
        raise TransferFailed("The storage gives a part of the object and does not say which.")
    return 0, answer.get("ContentLength")


def _digest(answer: dict[str, Any]) -> Digest | None:
    # That of an upload in parts is one of the parts' own, and ends in their number.
    return decoded_digest("sha256", answer.get("ChecksumSHA256") or "") or etag_digest(
        answer.get("ETag") or "",
        answer.get("ServerSideEncryption"),
        answer.get("SSECustomerAlgorithm"),
    )
