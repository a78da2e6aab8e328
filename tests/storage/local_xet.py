"""A Xet storage in a folder: its own client takes ``local://`` for a server."""

from __future__ import annotations

import importlib
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory


def stored(content: bytes, cas_url: str) -> str:
    """Store bytes; return the Xet hash that they have."""
    until = int(time.time()) + 3600
    session = importlib.import_module("hf_xet").XetSession()
    commit = session.new_upload_commit(endpoint=cas_url, token="t", token_expiry_unix_secs=until)
    with commit as upload:
        handle = upload.start_upload_bytes(content)
    return str(handle.result().xet_info.hash)


def content_of(xet_hash: str, size: int, cas_url: str) -> bytes:
    """Return the bytes with a Xet hash."""
    hf_xet = importlib.import_module("hf_xet")
    until = int(time.time()) + 3600
    with TemporaryDirectory() as folder:
        group = hf_xet.XetSession().new_file_download_group(
            endpoint=cas_url, token="t", token_expiry_unix_secs=until
        )
        with group:
            group.start_download_file(hf_xet.XetFileInfo(xet_hash, size), f"{folder}/file")
        return Path(folder, "file").read_bytes()


def hash_of(folder: Path, sha256: str) -> str | None:
    """Return the Xet hash of an uploaded file, from the shard that says what it is made of."""
    for shard in folder.glob("xet/xorbs/shards/*.mdb"):
        for file_hash, digest in _files_of(shard.read_bytes()):
            if digest == sha256:
                return file_hash
    return None


def _files_of(shard: bytes) -> Iterator[tuple[str, str]]:
    """Yield Xet hash and SHA-256 of each file in a shard: rows of 48 bytes behind a header."""
    at, row = 48, 48
    while shard[at : at + 32] != b"\xff" * 32:
        flags, count = struct.unpack_from("<II", shard, at + 32)
        end = at + row * (1 + count * (2 if flags & 0x80000000 else 1))
        if flags & 0x40000000:
            yield _hex(shard[at : at + 32]), _hex(shard[end : end + 32])
            end += row
        at = end


def _hex(digest: bytes) -> str:
    return "".join(f"{word:016x}" for word in struct.unpack("<4Q", digest))
