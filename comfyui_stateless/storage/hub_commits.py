"""Writes files to repositories of the Hub: several of them become one commit.

The Hub's library can do this too, but it waits for a silent peer for ever, sleeps between retries
of its own, writes signed URLs to the log, and cannot be stopped. A test sees that it and we say
the same to the Hub.
"""

from __future__ import annotations

import hashlib
import json
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

from ..errors import StorageError, TransferFailed, UnsupportedURL
from ..naming import leaves_folder
from ..wire import to_json
from .base import Cancel, Source
from .hub import HUB, HubApi, HubFile
from .xet import Stored, Xet

SAMPLE_BYTES = 512
READ_BYTES = 1024 * 1024

_JSON = "application/json"
_LFS_JSON = "application/vnd.git-lfs+json"
_LINES = "application/x-ndjson"

_NO_ANSWER = (AttributeError, LookupError, TypeError, ValueError)
"""What an answer raises that is not what it should be."""


@dataclass(frozen=True, slots=True, eq=False)
class _Upload:
    """A file on its way.

    Attributes:
        is_large: Whether its bytes go to a storage for large files, and its hash to the commit.
        present: The hash of what the revision holds at that path now, if anything.
    """

    path: str
    source: Source
    is_large: bool
    present: str | None


def commit(place: HubFile, sources: Mapping[str, Source], api: HubApi, xet: Xet) -> None:
    """Write files, by path, to the repository and revision of ``place`` in one commit.

    Raises:
        UnsupportedURL: A path leads out of the repository.
        ObjectNotFound: There is no such repository or revision.
        AccessDenied, TransferFailed: As it is.
        Cancelled: It was cancelled; without the commit, nothing that has arrived is seen.
    """
    if outside := [path for path in sources if leaves_folder(path)]:
        raise UnsupportedURL(f"{outside[0]} is no path inside a repository.")
    uploads = _asked(place, sources, api)
    large = {upload: _sha256(upload.source, api.cancel) for upload in uploads if upload.is_large}
    changed = {u: digest for u, digest in large.items() if u.present != digest}
    if changed and not _stored_in_xet(place, changed, api, xet):
        _stored_by_lfs(place, changed, api)
    entries = [
        *(_large_entry(upload, digest) for upload, digest in changed.items()),
        *(_small_entry(u) for u in uploads if not u.is_large and u.present != _git_hash(u.source)),
    ]
    if entries:
        lines = [{"key": "header", "value": {"summary": _message(entries), "description": ""}}]
        body = b"".join(to_json(line) + b"\n" for line in [*lines, *entries])
        api.post(place.api("commit"), _body(body, _LINES))


def _asked(place: HubFile, sources: Mapping[str, Source], api: HubApi) -> list[_Upload]:
    """Ask the Hub how it wants each file."""
    files = [
        {"path": path, "sample": _sample(source), "size": source.size}
        for path, source in sources.items()
    ]
    answer = api.post(place.api("preupload"), _body(json.dumps({"files": files}).encode()))
    try:
        told = {entry["path"]: entry for entry in answer["files"]}
        uploads = [_upload(path, source, told[path]) for path, source in sources.items()]
    except _NO_ANSWER:
        raise TransferFailed(f"{place.page} answers as no Hub does.") from None
    if ignored := [path for path in sources if told[path].get("shouldIgnore")]:
        raise StorageError(f"{place.page}: its .gitignore keeps {ignored[0]} out.")
    return uploads


def _upload(path: str, source: Source, told: Mapping[str, Any]) -> _Upload:
    # The storage for large files takes no empty one.
    is_large = told["uploadMode"] == "lfs" and source.size > 0
    return _Upload(path, source, is_large, told.get("oid"))


def _stored_in_xet(place: HubFile, uploads: Mapping[_Upload, str], api: HubApi, xet: Xet) -> bool:
    bodies = [Stored(upload.source.body, digest) for upload, digest in uploads.items()]
    return xet.is_usable() and xet.store(place, bodies, api.token, api.cancel)


def _stored_by_lfs(place: HubFile, uploads: Mapping[_Upload, str], api: HubApi) -> None:
    sources = {digest: upload.source for upload, digest in uploads.items()}
    question = {
        "operation": "upload",
        "transfers": ["basic", "multipart"],
        "objects": [{"oid": oid, "size": source.size} for oid, source in sources.items()],
        "hash_algo": "sha256",
        "ref": {"name": place.revision},
    }
    body = _body(json.dumps(question).encode(), _LFS_JSON)
    answer = api.post(f"{place.page}.git/info/lfs/objects/batch", body)
    try:
        told = {entry["oid"]: entry for entry in answer["objects"]}
        for oid, source in sources.items():
            entry = told[oid]
            # What is there already needs no action.
            if actions := entry.get("actions"):
                _store(oid, source, actions, api)
            elif "error" in entry:
                raise StorageError(f"{place.page}: its storage refuses a file.")
    except _NO_ANSWER:
        raise TransferFailed(f"{place.page} answers as no Hub does.") from None


def _store(oid: str, source: Source, actions: Mapping[str, Any], api: HubApi) -> None:
    upload, verify = actions["upload"], actions.get("verify")
    url, header = _at(api.endpoint, upload["href"]), upload.get("header") or {}
    if "chunk_size" in header:
        parts = _sent_in_parts(source, header, api)
        api.post(url, _body(json.dumps({"oid": oid, "parts": parts}).encode(), _LFS_JSON))
    else:
        api.send("PUT", url, source).close()
    if verify:
        question = json.dumps({"oid": oid, "size": source.size}).encode()
        api.post(_at(api.endpoint, verify["href"]), _body(question))


def _sent_in_parts(
    source: Source, header: Mapping[str, str], api: HubApi
) -> list[dict[str, object]]:
    """Send a file in parts, each to the URL under its number; return what proves that."""
    size, parts = int(header["chunk_size"]), []
    if size <= 0:
        raise ValueError(size)
    for number, piece in enumerate(_pieces(source, size), 1):
        with api.send("PUT", header[str(number)], _body(piece, source.media_type)) as response:
            parts.append({"partNumber": number, "etag": response.headers["ETag"]})
    return parts


def _at(endpoint: str, url: str) -> str:
    """Return a URL of the Hub's as one of the mirror that is used in its place."""
    return endpoint + url.removeprefix(HUB) if url.startswith(f"{HUB}/") else url


def _large_entry(upload: _Upload, digest: str) -> dict[str, Any]:
    size = upload.source.size
    value = {"path": upload.path, "algo": "sha256", "oid": digest, "size": size}
    return {"key": "lfsFile", "value": value}


def _small_entry(upload: _Upload) -> dict[str, Any]:
    content = b64encode(_content(upload.source)).decode()
    value = {"content": content, "path": upload.path, "encoding": "base64"}
    return {"key": "file", "value": value}


def _message(entries: Sequence[Mapping[str, Any]]) -> str:
    count, path = len(entries), entries[0]["value"]["path"]
    return f"Add {count} outputs" if count > 1 else f"Add {path}"


def _body(body: bytes, media_type: str = _JSON) -> Source:
    return Source(body, len(body), media_type)


def _sample(source: Source) -> str:
    with _opened(source) as file:
        return b64encode(file.read(SAMPLE_BYTES)).decode()


def _sha256(source: Source, cancel: Cancel) -> str:
    digest = hashlib.sha256()
    for piece in _pieces(source, READ_BYTES):
        cancel.check()
        digest.update(piece)
    return digest.hexdigest()


def _git_hash(source: Source) -> str:
    content = _content(source)
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def _content(source: Source) -> bytes:
    """Return a file that the Hub calls small, which is a few megabytes at the most."""
    return source.body if isinstance(source.body, bytes) else source.body.read_bytes()


def _pieces(source: Source, size: int) -> Iterator[bytes]:
    with _opened(source) as file:
        while piece := file.read(size):
            yield piece


def _opened(source: Source) -> BinaryIO:
    return source.body.open("rb") if isinstance(source.body, Path) else BytesIO(source.body)
