"""The HTTP backend: objects behind any http or https URL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import ClassVar
from urllib.parse import quote, unquote_plus, urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator

from ..config import HttpAccess
from ..errors import (
    AccessDenied,
    ObjectNotFound,
    StorageError,
    TransferFailed,
    UnsupportedURL,
    WrongContent,
)
from .auth import Auth, BasicAuth, BearerAuth, HeaderAuth, QueryAuth, S3Auth
from .base import Cancel, ObjectInfo, Source, Span
from .connections import Client, Request, Response
from .policy import PRINTABLE, Target, origins_of, parse
from .proxies import basic_authorization
from .representation import content_range, is_encoded, object_info, retry_after_s

_WHOLE = frozenset({200, 203})
_FIRST_BYTE = {"Range": "bytes=0-0"}
_HEAD_NOT_TAKEN = frozenset({400, 403, 405, 501})
"""A signed URL may be signed for GET alone, and some servers know no HEAD."""
_PART_NOT_TAKEN = _HEAD_NOT_TAKEN | {412, 416, 431}
"""The object may be shorter than the part, or the headers that ask for one may be disliked."""


class HttpTarget(BaseModel):
    """Where outputs are uploaded to: each is PUT to a URL of its own below ``url_prefix``."""

    model_config = ConfigDict(
        frozen=True,
        strict=True,
        extra="ignore",
        populate_by_name=True,
        hide_input_in_errors=True,
        defer_build=True,
    )

    url_prefix: str = Field(
        min_length=1, repr=False, json_schema_extra={"pattern": "^[Hh][Tt][Tt][Pp][Ss]?://[^#]+$"}
    )
    is_async: bool = Field(default=True, alias="async")

    @field_validator("url_prefix")
    @classmethod
    def _is_a_prefix_of_urls(cls, value: str) -> str:
        try:
            parse(_below(value, "name"))
        except UnsupportedURL as error:
            raise ValueError(error.message.rstrip(".")) from None
        except ValueError:
            # Its text may repeat user and password.
            raise ValueError("The URL is malformed") from None
        if "#" in value:
            raise ValueError("The URL holds a #, behind which nothing is sent")
        return value

    def url_for(self, filename: str) -> str:
        """Return the URL that an output of this name gets; a query stays behind the name."""
        return _below(self.url_prefix, filename)


class HttpDownload:
    """A body as it comes; see ``base.Download``.

    Args:
        size: Bytes of a part whose own length was not announced.
    """

    def __init__(
        self, response: Response, info: ObjectInfo, offset: int, size: int | None = None
    ) -> None:
        self.info = info
        self.offset = offset
        self._response = response
        self._left = size or 0
        self.readinto = response.readinto if size is None else self._read_part

    def _read_part(self, buffer: memoryview) -> int:
        """Read on; the last bytes count only if nothing follows them."""
        count = self._response.readinto(buffer)
        self._left -= count
        if self._left < 0 or (not self._left and self._response.readinto(_one_byte())):
            raise TransferFailed(f"{self._response.target.redacted} gives more than the part is.")
        return count

    def __enter__(self) -> HttpDownload:
        return self

    def __exit__(self, *_: object) -> None:
        self._response.close()


class HttpBackend:
    """Objects at http and https URLs; see ``base.Backend``.

    Args:
        access: The header that the operator wants sent, and to whom.
        headers: More headers for every request, which are no secret.
    """

    name: ClassVar[str] = "http"

    def __init__(
        self, client: Client, access: HttpAccess, headers: Mapping[str, str] | None = None
    ) -> None:
        self._client = client
        self._header = access.header
        self._header_origins = origins_of(
            {"*"} if access.header_origins is None else access.header_origins
        )
        self._headers = dict(headers or {})

    def matches(self, url: str) -> bool:
        return url[:8].lower().startswith(("http://", "https://"))

    def head(self, url: str, auth: Auth | None, cancel: Cancel) -> ObjectInfo:
        with self._send("HEAD", url, auth, cancel) as response:
            if response.status not in _HEAD_NOT_TAKEN:
                return self._completed(_info(response), response)
        with self._send("GET", url, auth, cancel, headers=_FIRST_BYTE) as response:
            return self._completed(_info(response), response)

    def open(self, url: str, auth: Auth | None, span: Span | None, cancel: Cancel) -> HttpDownload:
        headers = _range_headers(span) if span else {}
        response = self._send("GET", url, auth, cancel, headers=headers)
        try:
            if span is None or response.status in _WHOLE:
                return HttpDownload(response, self._completed(_whole(response), response), 0)
            info = None if response.status in _PART_NOT_TAKEN else _part(response, span)
            if info:
                return _part_of(response, self._completed(info, response), span)
        except BaseException:
            response.close()
            raise
        # No part can be had, or it is of another object in spite of If-Range: all of it, then.
        response.close()
        return self.open(url, auth, None, cancel)

    def put(self, url: str, source: Source, auth: Auth | None, cancel: Cancel) -> None:
        with self._send("PUT", url, auth, cancel, source=source) as response:
            if not 200 <= response.status < 300:
                raise _error(response)

    def close(self) -> None:
        """Nothing stays open: each exchange has a connection of its own."""

    def _completed(self, info: ObjectInfo, response: Response) -> ObjectInfo:
        """Return ``info`` with what an origin says of its objects in a way of its own."""
        return info

    def _send(
        self,
        method: str,
        url: str,
        auth: Auth | None,
        cancel: Cancel,
        *,
        headers: Mapping[str, str] | None = None,
        source: Source | None = None,
    ) -> Response:
        target = self._client.policy.check_url(url)
        if isinstance(auth, QueryAuth):
            url = _with_parameter(target, auth.query_param, auth.query_value)
        request = Request(
            method,
            url,
            headers={**self._headers, **(headers or {})},
            credentials=self._credentials(target, auth),
            source=source,
        )
        return self._client.request(request, cancel)

    def _credentials(self, target: Target, auth: Auth | None) -> dict[str, SecretStr]:
        """Return headers: the request's own or the URL's, and the operator's if it is another."""
        own = _headers_of(auth) if auth else _headers_in(target)
        if self._header is None or not {"*", target.origin} & self._header_origins:
            return own
        name, value = self._header
        return own if name.lower() in {n.lower() for n in own} else {**own, name: value}


def _below(prefix: str, name: str) -> str:
    parts = urlsplit(prefix)
    folder = quote(parts.path, safe=PRINTABLE).rstrip("/")
    return parts._replace(path=f"{folder}/{quote(name.lstrip('/'))}").geturl()


def _headers_of(auth: Auth) -> dict[str, SecretStr]:
    if isinstance(auth, BearerAuth):
        return {"Authorization": SecretStr(f"Bearer {auth.token.get_secret_value()}")}
    if isinstance(auth, BasicAuth):
        return {"Authorization": basic_authorization(auth.username, auth.password)}
    if isinstance(auth, HeaderAuth):
        return {auth.header_name: auth.header_value}
    if isinstance(auth, S3Auth):
        raise UnsupportedURL(
            "Credentials of the type s3 are for s3:// URLs, not for http or https."
        )
    return {}


def _headers_in(target: Target) -> dict[str, SecretStr]:
    return {"Authorization": basic_authorization(*target.userinfo)} if target.userinfo else {}


def _with_parameter(target: Target, name: str, value: SecretStr) -> str:
    """Return the URL of ``target`` with a query parameter in place of any of its name."""
    path, _, query = target.path.partition("?")
    others = [p for p in query.split("&") if p and unquote_plus(p.partition("=")[0]) != name]
    ours = f"{quote(name, safe='')}={quote(value.get_secret_value(), safe='')}"
    return f"{target.origin}{path}?{'&'.join([*others, ours])}"


def _range_headers(span: Span) -> dict[str, str]:
    last = "" if span.end is None else span.end - 1
    headers = {"Range": f"bytes={span.start}-{last}"}
    return {**headers, "If-Range": span.version} if span.version else headers


def _info(response: Response) -> ObjectInfo:
    """Return what an answer says of its object.

    Raises:
        StorageError: It is no answer with an object; a subclass says why.
    """
    info = object_info(response.status, response.headers)
    if response.status == 416 and info.size == 0:
        return info
    if response.status not in _WHOLE | {206}:
        raise _error(response)
    if is_encoded(response.headers):
        raise WrongContent(
            f"{response.target.redacted} comes compressed, though we asked it not to."
        )
    return info


def _whole(response: Response) -> ObjectInfo:
    info = _info(response)
    if response.status not in _WHOLE:
        raise TransferFailed(f"{response.target.redacted} gives a part where all was asked for.")
    return info


def _part(response: Response, span: Span) -> ObjectInfo | None:
    """Return what an answer with a part says of the object, None if it is another version.

    Raises:
        StorageError: It has no object, or another part of it than was asked for.
    """
    info = _info(response)
    if not _is_asked_for(response, span):
        raise TransferFailed(f"{response.target.redacted} gives another part than was asked for.")
    if span.version is None or info.version == span.version:
        return info
    # An answer to If-Range may leave a date out, but no ETag.
    is_left_out = info.version is None and not span.version.startswith('"')
    return replace(info, version=span.version) if is_left_out else None


def _part_of(response: Response, info: ObjectInfo, span: Span) -> HttpDownload:
    part = content_range(response.headers) if response.length is None else None
    return HttpDownload(response, info, span.start, part and part.end - part.start)


def _one_byte() -> memoryview:
    return memoryview(bytearray(1))


def _is_asked_for(response: Response, span: Span) -> bool:
    part = content_range(response.headers)
    if part is None or part.start != span.start:
        return False
    if response.length not in (None, part.end - part.start):
        return False
    if span.end is None or part.total is None:
        return part.end in (span.end, part.total)
    return part.end == min(span.end, part.total)


def _error(response: Response) -> StorageError:
    """Return the error that a status means."""
    status, place = response.status, response.target.redacted
    if status in (404, 410):
        return ObjectNotFound(f"{place} does not exist ({status}).")
    if status in (401, 403, 407):
        return AccessDenied(f"{place} refuses the credentials, or wants some ({status}).")
    if status in (408, 429) or status >= 500:
        error = TransferFailed(f"{place} cannot be had now ({status}).")
        error.retry_after_s = retry_after_s(response.headers)
        return error
    return StorageError(f"{place} answered with the status {status}.")
