"""What the cache knows of a file, written beside it; no secret is in it.

The record of a file is ``<file>.meta``, a JSON object that holds the three fields of the original
product (``authRequired``, ``url``, ``cachedAt``), so that both can share a folder, and ours.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ..wire import own_json, to_json
from .locks import locked
from .own import open_own, read_own

_LOCK = "records.lock"

HALF = ".meta.part"
"""The ending of a record that is being written."""


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of a cached file.

    Attributes:
        auth_required: Whether it was fetched with credentials of a request.
        url: Without secrets.
        size: Bytes; None in a record that is not ours, which does not vouch for the file.
        version: Identifies the bytes at the origin.
        media_type: As the origin gave it.
        filename: As the origin gave it.
        is_html: Whether it is a web page.
        sha256: Of the content, once somebody has asked for it.
        links: Symbolic links that lead to the file.
    """

    auth_required: bool
    url: str
    size: int | None = None
    version: str | None = None
    media_type: str | None = None
    filename: str | None = None
    is_html: bool = False
    sha256: str | None = None
    links: tuple[str, ...] = ()


def record_path(path: Path) -> Path:
    """Return where a file's record is."""
    return path.with_name(f"{path.name}.meta")


def read(path: Path) -> Record | None:
    """Return the record of a cached file, None where it has none that can be read."""
    try:
        fields = own_json(read_own(record_path(path)))
        return Record(
            auth_required=bool(fields["authRequired"]),
            url=str(fields.get("url", "")),
            size=_optional(fields, "size", int),
            version=_optional(fields, "version", str),
            media_type=_optional(fields, "mediaType", str),
            filename=_optional(fields, "filename", str),
            is_html=fields.get("isHtml") is True,
            sha256=_optional(fields, "sha256", str),
            links=tuple(str(link) for link in fields.get("links", ())),
        )
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return None


def nobody_writes(folder: Path) -> AbstractContextManager[None]:
    """Keep every process from writing records while the block lasts; it must be short."""
    return locked(folder / _LOCK)


def write(path: Path, record: Record) -> None:
    """Write the record of a cached file, in one step."""
    with nobody_writes(path.parent):
        _write(path, record)


def update(path: Path, *, sha256: str | None = None, link: str | None = None) -> None:
    """Add to the record of a cached file what was found out, or done, since.

    Raises:
        OSError: There is news, and it cannot be written.
    """
    with nobody_writes(path.parent):
        record = read(path)
        if record is None:
            return
        known = record
        if link is not None and link not in record.links:
            record = replace(record, links=(*record.links, link))
        record = replace(record, sha256=sha256 or record.sha256)
        if record != known:
            _write(path, record)


def _write(path: Path, record: Record) -> None:
    fields = {
        "authRequired": record.auth_required,
        "url": record.url,
        "cachedAt": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
        "size": record.size,
        "version": record.version,
        "mediaType": record.media_type,
        "filename": record.filename,
        "isHtml": record.is_html,
        "sha256": record.sha256,
        "links": record.links,
    }
    replace_file(record_path(path), fields)


def replace_file(path: Path, fields: dict[str, Any]) -> None:
    """Write a JSON file so that it is there whole or as it was before."""
    partial = path.with_name(f"{path.name}.part")
    try:
        with os.fdopen(open_own(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "wb") as file:
            file.write(to_json(fields))
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise


def _optional(fields: dict[str, Any], name: str, kind: type[Any]) -> Any:
    value = fields.get(name)
    return value if isinstance(value, kind) and not isinstance(value, bool) else None
