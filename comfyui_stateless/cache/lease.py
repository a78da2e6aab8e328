"""What a caller gets of the cache: a file that stays until it is released."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple


@dataclass(slots=True)
class Lease:
    """A cached file, which nobody deletes before ``release``.

    Attributes:
        url: Without secrets.
        name: A base name for people, with the extension.
        key: The first 32 characters of the file's name.
        size: Bytes.
        media_type: As the origin gave it, None where it gave none.
        was_cached: Whether it was there already.
        seconds: Until the caller had it.
    """

    path: Path
    url: str
    name: str
    key: str
    size: int
    media_type: str | None
    was_cached: bool
    seconds: float
    _drop: Callable[[], None] | None = field(repr=False)
    _digest: Callable[[], Awaitable[str]] = field(repr=False)
    _add_link: Callable[[Path], Awaitable[None]] = field(repr=False)

    async def digest(self) -> str:
        """Return the SHA-256 of the content in lower-case hex; computed once for each file.

        Raises:
            StorageError: The file cannot be read.
        """
        return await self._digest()

    async def add_link(self, path: Path) -> None:
        """Remember a symbolic link that leads to the file, so that it is deleted with the file.

        Raises:
            StorageError: That cannot be written down.
        """
        await self._add_link(path)

    def release(self) -> None:
        """Let the file be deleted when room is needed. Doing it again changes nothing."""
        if self._drop is not None:
            drop, self._drop = self._drop, None
            drop()


class Inspection(NamedTuple):
    """What is known of a URL without fetching it.

    Attributes:
        is_cached: Whether it is there.
        size: Bytes, None where the origin does not say.
        media_type: As the origin gave it.
    """

    is_cached: bool
    size: int | None
    media_type: str | None
