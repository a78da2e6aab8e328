"""Fetches what a repository keeps in Git LFS: in the clone lie pointers in place of large files.

Not by git-lfs: it would connect wherever the repository's ``.lfsconfig`` and its server say.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import SecretStr

from ..errors import NoSpace, ObjectNotFound, TransferFailed, WrongContent
from ..storage.base import Cancel, Source
from ..storage.connections import Client, Request, Response
from .access import Place, raise_for

MAX_POINTER_BYTES = 1024
BATCH_SIZE = 100
BUFFER_BYTES = 256 * 1024
MAX_ANSWER_BYTES = 4 * 1024 * 1024
ATTEMPTS, PAUSE_S = 3, 0.5

_JSON = "application/vnd.git-lfs+json"
_POINTER = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n(?:ext-.+\n)*"
    rb"oid sha256:([0-9a-f]{64})\nsize (\d+)\n"
)


@dataclass(frozen=True, slots=True)
class Pointer:
    """A file in a clone that stands for a large one of so many bytes."""

    path: Path
    sha256: str
    size: int


class _Action(NamedTuple):
    """Where a file is, and the headers that it is given for."""

    url: str
    headers: Mapping[str, SecretStr]


def fetch_large_files(folder: Path, place: Place, client: Client, cancel: Cancel) -> None:
    """Replace the pointers in a clone by what they stand for.

    Raises:
        NoSpace: The disk is too full for all of them.
        WrongContent: A file is not what its pointer says.
        StorageError: The server does not give a file; a subclass says how.
        Cancelled: It was cancelled.
    """
    pointers = list(_pointers(folder))
    needed = sum(pointer.size for pointer in pointers)
    if needed > shutil.disk_usage(folder).free:
        raise NoSpace(f"{place.target.redacted} needs {needed} bytes for its large files.")
    for start in range(0, len(pointers), BATCH_SIZE):
        batch = pointers[start : start + BATCH_SIZE]
        actions = _actions(batch, place, client, cancel)
        for pointer in batch:
            _fetch(pointer, actions.get(pointer.sha256), place, client, cancel)


def _pointers(folder: Path) -> Iterator[Pointer]:
    for path in sorted(folder.rglob("*")):
        if ".git" in path.relative_to(folder).parts[:1] or path.is_symlink() or not path.is_file():
            continue
        if path.stat().st_size <= MAX_POINTER_BYTES:
            found = _POINTER.fullmatch(path.read_bytes())
            if found:
                yield Pointer(path, found[1].decode(), int(found[2]))


def _actions(
    pointers: Sequence[Pointer], place: Place, client: Client, cancel: Cancel
) -> dict[str, _Action | None]:
    """Ask the server where to get the files; return its answer for each SHA-256."""
    wanted = [{"oid": pointer.sha256, "size": pointer.size} for pointer in pointers]
    question = {"operation": "download", "transfers": ["basic"], "objects": wanted}
    body = json.dumps({**question, "hash_algo": "sha256"}).encode()
    request = Request(
        "POST",
        f"{place.target.url.removesuffix('.git')}.git/info/lfs/objects/batch",
        {"Accept": _JSON},
        place.headers,
        Source(body, len(body), _JSON),
    )
    with client.request(request, cancel) as response:
        raise_for(response.status, f"{place.target.redacted} (its LFS server)")
        answer = _read(response)
    try:
        return {entry["oid"]: _action(entry) for entry in json.loads(answer)["objects"]}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise TransferFailed(f"{place.target.redacted} has no LFS server.") from None


def _action(entry: Mapping[str, Any]) -> _Action | None:
    """Return how to get a file, None where it is not there.

    Raises:
        LookupError, TypeError, AttributeError: The entry is none.
    """
    download = (entry.get("actions") or {}).get("download")
    if not download:
        return None
    header = (download.get("header") or {}).items()
    return _Action(str(download["href"]), {str(k): SecretStr(str(v)) for k, v in header})


def _read(response: Response) -> bytes:
    buffer, answer = memoryview(bytearray(BUFFER_BYTES)), bytearray()
    while (count := response.readinto(buffer)) and len(answer) < MAX_ANSWER_BYTES:
        answer += buffer[:count]
    return bytes(answer)


def _fetch(
    pointer: Pointer, action: _Action | None, place: Place, client: Client, cancel: Cancel
) -> None:
    name = f"{place.target.redacted}: the large file {pointer.path.name}"
    if action is None:
        raise ObjectNotFound(f"{name} is not on the LFS server.")
    request = Request("GET", action.url, credentials=action.headers)
    for _ in range(ATTEMPTS - 1):
        with suppress(TransferFailed):
            return _write(pointer, request, name, client, cancel)
        cancel.wait(PAUSE_S)
    return _write(pointer, request, name, client, cancel)


def _write(pointer: Pointer, request: Request, name: str, client: Client, cancel: Cancel) -> None:
    partial = pointer.path.with_name(f"{pointer.path.name}.part")
    digest, buffer = hashlib.sha256(), memoryview(bytearray(BUFFER_BYTES))
    with client.request(request, cancel) as response, partial.open("wb") as file:
        raise_for(response.status, name)
        # What is longer is something else, and may have no end.
        while file.tell() <= pointer.size and (count := response.readinto(buffer)):
            digest.update(buffer[:count])
            file.write(buffer[:count])
    if digest.hexdigest() != pointer.sha256:
        raise WrongContent(f"{name} is not what the repository says: its SHA-256 differs.")
    partial.replace(pointer.path)
