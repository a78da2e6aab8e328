"""From a URL to a whole, checked file that does not count yet."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from ..errors import NoSpace, StorageError, TransferFailed, UnsupportedURL, WrongContent
from ..media import is_html, is_recognised
from ..naming import redacted
from ..storage.base import Cancel, Cancelled, Digest, FetchesWhole, ObjectInfo
from .names import SNIFF_BYTES, extension_for
from .part import Part, sync, telling_plainly
from .patience import Patience
from .progress import Meter
from .transfer import Means, Origin, Transfer

log = logging.getLogger("comfyui_stateless.cache")

CHUNK_BYTES = 1024 * 1024


class Wanted(NamedTuple):
    """What is asked of a file's content.

    Attributes:
        sha256: What it has to hash to, in lower-case hex.
        refuse_html: Whether a web page is refused.
        media: Whether anything but an image, a video, a sound or the like is refused.
    """

    sha256: str | None = None
    refuse_html: bool = False
    media: bool = False


class Brought(NamedTuple):
    """A file that is whole and checked.

    Attributes:
        path: Where it is, under a name that does not count.
        head: Its first bytes.
    """

    path: Path
    size: int
    info: ObjectInfo
    head: bytes
    sha256: str | None


class Bringing:
    """Brings one object into a folder; ``run`` blocks and belongs on a thread.

    Args:
        make_room: Called with the bytes to come before the first of them, and with 0 now and then
            while they come; raises ``NoSpace``.
    """

    def __init__(
        self,
        origin: Origin,
        folder: Path,
        key: str,
        means: Means,
        wanted: Wanted,
        make_room: Callable[[int], None],
    ) -> None:
        self.meter = Meter()
        self._origin = origin
        self._folder = folder
        self._key = key
        self._means = means
        self._wanted = wanted
        self._make_room = make_room
        self._reported: tuple[int, int | None] = (0, None)
        self._part: Part | None = None
        self._first: _Changed | None = None

    @property
    def progress(self) -> tuple[int, int | None]:
        """Bytes that are there, and of the whole."""
        part = self._part
        if part is None:
            return self._reported
        info = part.info
        return part.done, info.size if info is not None else None

    def run(self, cancel: Cancel) -> Brought:
        """Fetch the object, resuming what an earlier try left.

        Raises:
            StorageError: It cannot be had, or is not what is wanted.
            Cancelled: It was cancelled; what can be resumed is kept.
        """
        with telling_plainly():
            try:
                return self._whole(cancel) or self._parted(cancel)
            except _Changed as changed:
                log.warning("%s It is fetched once more.", ascii(changed.error.message))
                self._first = changed
            try:
                return self._parted(cancel)
            except _Changed as changed:
                raise changed.error from None

    def _whole(self, cancel: Cancel) -> Brought | None:
        """Let the backend bring the object in its own way, where it has one for it."""
        backend, path = self._origin.backend, self._folder / f"{self._key}.whole.part"
        if not isinstance(backend, FetchesWhole):
            return None
        patience, brought = Patience(self._means.delays), None
        try:
            while isinstance(found := self._ask_for_whole(backend, path, cancel), TransferFailed):
                cancel.wait(patience.after(found, self._reported[0]))
            brought = None if found is None else self._checked(path, found)
        finally:
            if brought is None:
                path.unlink(missing_ok=True)
        return brought

    def _ask_for_whole(
        self, backend: FetchesWhole, path: Path, cancel: Cancel
    ) -> ObjectInfo | TransferFailed | None:
        origin = self._origin
        try:
            return backend.fetch(origin.url, origin.auth, path, self._report, cancel)
        except TransferFailed as error:
            return error

    def _report(self, done: int, total: int | None) -> None:
        before, known = self._reported
        if total is not None and known is None:
            self._make_room(total - done)
        self.meter.add(max(0, done - before))
        self._reported = (done, total)

    def _parted(self, cancel: Cancel) -> Brought:
        self._part = part = Part(self._folder, self._key)
        keeps = False
        transfer = Transfer(self._origin, part, self._means, self.meter, self._make_room)
        try:
            with telling_plainly():
                brought = self._checked(part.path, transfer.run(cancel))
            keeps = True
        except BaseException as error:
            may_go_on = isinstance(error, (StorageError, Cancelled))
            is_useless = isinstance(error, (NoSpace, WrongContent, UnsupportedURL))
            keeps = may_go_on and not is_useless and part.can_resume and part.is_noted
            raise
        finally:
            part.close()
            if not keeps:
                part.discard()
        return brought

    def _checked(self, path: Path, info: ObjectInfo) -> Brought:
        size = sync(path)
        with path.open("rb") as file:
            head = file.read(SNIFF_BYTES)
        if info.size is not None and size != info.size:
            raise TransferFailed(
                f"{redacted(self._origin.url)} gave {size} bytes and announced {info.size}."
            )
        self._require_kind(info, head)
        self._require_own_length(path, head, size)
        return Brought(path, size, info, head, self._require_digests(path, info.digest))

    def _require_kind(self, info: ObjectInfo, head: bytes) -> None:
        url, wanted = self._origin.url, self._wanted
        if wanted.refuse_html and is_html(head, info.media_type):
            raise WrongContent(
                f"{redacted(url)} gives a web page, perhaps one to log in, not a file."
            )
        if wanted.media and not is_recognised(extension_for(url, info, head), head):
            raise WrongContent(
                f"{redacted(url)} gives no image, video, sound or 3D model of a known type."
            )

    def _require_own_length(self, path: Path, head: bytes, size: int) -> None:
        said = safetensors_size(path, head)
        if said is not None and said != size:
            raise WrongContent(
                f"{redacted(self._origin.url)} gave {size} bytes of a safetensors file that says "
                f"it has {said}."
            )

    def _require_digests(self, path: Path, digest: Digest | None) -> str | None:
        """Return the SHA-256 where it had to be computed."""
        if digest is None and self._first is not None:
            digest = self._first.said
        wanted = [Digest("sha256", self._wanted.sha256)] if self._wanted.sha256 else []
        said = [digest] if digest and digest.algorithm in hashlib.algorithms_available else []
        found = {a: file_digest(path, a) for a in {d.algorithm for d in (*said, *wanted)}}
        for each in said:
            self._require_unchanged(each, found[each.algorithm])
        for each in wanted:
            if each.hex != found[each.algorithm]:
                raise self._differs(each, found[each.algorithm])
        return found.get("sha256")

    def _require_unchanged(self, said: Digest, found: str) -> None:
        """See that what came hashes to what the origin says.

        Raises:
            _Changed: It does not. What is only assumed to be a hash is none where the same came twice.
        """
        came_before = self._first is not None and found == self._first.found
        if found != said.hex.lower() and not (said.is_assumed and came_before):
            raise _Changed(self._differs(said, found), said, found)

    def _differs(self, wanted: Digest, found: str) -> WrongContent:
        url = redacted(self._origin.url)
        return WrongContent(
            f"The {wanted.algorithm} of {url} is {found}, not {wanted.hex.lower()}."
        )


class _Changed(Exception):
    """What came is not what the origin says that it gave; it may have been changed on its way.

    Args:
        error: What it is if it comes so again.
        said: What it should hash to.
        found: What it hashes to.
    """

    def __init__(self, error: WrongContent, said: Digest, found: str) -> None:
        super().__init__(error.message)
        self.error = error
        self.said = said
        self.found = found


def file_digest(path: Path, algorithm: str) -> str:
    """Return what a file's bytes hash to, in lower-case hex."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    buffer = memoryview(bytearray(CHUNK_BYTES))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
    return digest.hexdigest()


MAX_HEADER_BYTES = 8 * 1024 * 1024
"""Of a safetensors file; a longer header is not read, since JSON takes twenty times its size."""

_NO_HEADER = (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError)
"""What a header raises that is not what it should be."""


def safetensors_size(path: Path, head: bytes) -> int | None:
    """Return how many bytes a safetensors file says it has, None for any other file.

    The format leaves no byte over: https://github.com/huggingface/safetensors#format.
    """
    length = int.from_bytes(head[:8], "little")
    if head[8:9] != b"{" or not 0 < length <= MAX_HEADER_BYTES:
        return None
    with path.open("rb") as file:
        file.seek(8)
        header = file.read(length)
    with suppress(*_NO_HEADER):
        tensors = [v for k, v in json.loads(header).items() if k != "__metadata__"]
        ends = [int(tensor["data_offsets"][1]) for tensor in tensors]
        return 8 + length + max(ends, default=0)
    return None
