"""ZIP archives whose length is known before their first byte is sent.

Entries are stored, not deflated: outputs are compressed already. Sizes and checksums stand in
front of the data, so that every reader takes the archive, those that stream included. The format
is that of PKWARE's APPNOTE.TXT: 4.3, and 4.5.3 for what 32 bits cannot say.
"""

from __future__ import annotations

import asyncio
import re
import struct
import time
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ..bodies import CHUNK_BYTES, Body, Part, Raw, Text
from ..engine import OutputFile
from ..naming import UniqueNames, safe_id

DOCUMENT_NAME = "response.json"

MAX_32 = 0xFFFFFFFF
MAX_16 = 0xFFFF

_NAMES_ARE_UTF8 = 0x0800
_STORED = 0
_REGULAR_FILE = 0o100644 << 16
_MADE_ON_UNIX = 3 << 8
_ZIP64 = 45
_RESERVED_ON_WINDOWS = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)


def entry_names(filenames: Iterable[str]) -> list[str]:
    """Return names that every system can extract, unequal also where case does not count."""
    given = UniqueNames({DOCUMENT_NAME})
    names = []
    for filename in filenames:
        parts = [_portable(part) for part in re.split(r"[/\\]", filename) if part]
        name = "/".join(parts) or "_"
        folded = given.give(name.casefold())
        names.append(name if folded == name.casefold() else folded)
    return names


async def archive(
    document: bytes, outputs: Sequence[tuple[str, OutputFile]], *, max_32: int = MAX_32
) -> Body:
    """Return an archive of ``document``, as ``DOCUMENT_NAME``, and ``outputs`` under their names.

    Args:
        max_32: From where on sizes and offsets are written with 64 bits.

    Raises:
        OSError: An output's file cannot be read.
    """
    layout = _Layout(max_32)
    parts: list[Part] = [
        Text(layout.add(DOCUMENT_NAME, len(document), zlib.crc32(document)) + document)
    ]
    for name, output in outputs:
        checksum = await asyncio.to_thread(_checksum, output)
        parts += [Text(layout.add(name, output.size, checksum)), Raw(output)]
    return [*parts, Text(layout.directory())]


@dataclass(frozen=True, slots=True)
class _Entry:
    name: bytes
    size: int
    checksum: int
    offset: int
    zip64: bool
    stamp: tuple[int, int]

    def local_header(self) -> bytes:
        extra = struct.pack("<HHQQ", 1, 16, self.size, self.size) if self.zip64 else b""
        return struct.pack("<I", 0x04034B50) + self._common(len(extra)) + self.name + extra

    def central_header(self) -> bytes:
        sizes = (self.size, self.size, self.offset)
        extra = struct.pack("<HHQQQ", 1, 24, *sizes) if self.zip64 else b""
        offset = MAX_32 if self.zip64 else self.offset
        start = struct.pack("<IH", 0x02014B50, _MADE_ON_UNIX | _ZIP64)
        end = struct.pack("<HHHII", 0, 0, 0, _REGULAR_FILE, offset)
        return start + self._common(len(extra)) + end + self.name + extra

    def _common(self, extra_size: int) -> bytes:
        """What both headers hold in the same order."""
        size = MAX_32 if self.zip64 else self.size
        return struct.pack(
            "<HHHHHIIIHH",
            _ZIP64 if self.zip64 else 20,
            _NAMES_ARE_UTF8,
            _STORED,
            *self.stamp,
            self.checksum,
            size,
            size,
            len(self.name),
            extra_size,
        )


class _Layout:
    """Where the entries of one archive lie."""

    def __init__(self, max_32: int) -> None:
        self._max_32 = max_32
        self._entries: list[_Entry] = []
        self._offset = 0
        self._stamp = _dos_time()

    def add(self, name: str, size: int, checksum: int) -> bytes:
        """Place the next entry; return what stands in front of its data."""
        zip64 = max(size, self._offset) >= self._max_32
        encoded = name.encode("utf-8", "replace")
        entry = _Entry(encoded, size, checksum, self._offset, zip64, self._stamp)
        self._entries.append(entry)
        header = entry.local_header()
        self._offset += len(header) + size
        return header

    def directory(self) -> bytes:
        """Return what stands at the end of the archive."""
        headers = b"".join(entry.central_header() for entry in self._entries)
        count, size, offset = len(self._entries), len(headers), self._offset
        zip64 = b""
        if count >= MAX_16 or offset + size >= self._max_32:
            zip64 = struct.pack(
                "<IQHHIIQQQQ", 0x06064B50, 44, _ZIP64, _ZIP64, 0, 0, count, count, size, offset
            ) + struct.pack("<IIQI", 0x07064B50, 0, offset + size, 1)
            count, size, offset = MAX_16, MAX_32, MAX_32
        end = struct.pack("<IHHHHIIH", 0x06054B50, 0, 0, count, count, size, offset, 0)
        return headers + zip64 + end


def _checksum(output: OutputFile) -> int:
    if isinstance(output.body, bytes):
        return zlib.crc32(output.body)
    checksum, left = 0, output.size
    with output.body.open("rb") as file:
        while chunk := file.read(min(CHUNK_BYTES, left)):
            checksum = zlib.crc32(chunk, checksum)
            left -= len(chunk)
    return checksum


def _portable(part: str) -> str:
    stem, dot, extension = part.rpartition(".") if "." in part[1:] else (part, "", "")
    safe = f"{safe_id(stem)}{dot}{safe_id(extension)}".rstrip(". ") or "_"
    return f"_{safe}" if _RESERVED_ON_WINDOWS.match(safe) else safe


def _dos_time() -> tuple[int, int]:
    """The local time and date in the archive's form, which counts two seconds and from 1980."""
    now = time.localtime()
    clock = now.tm_hour << 11 | now.tm_min << 5 | now.tm_sec // 2
    return clock, (max(now.tm_year, 1980) - 1980) << 9 | now.tm_mon << 5 | now.tm_mday
