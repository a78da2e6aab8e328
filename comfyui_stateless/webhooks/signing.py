"""Signatures as https://www.standardwebhooks.com has them."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from ..journal import Content

_CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs messages; without a key it only names and dates them."""

    key: bytes | None = field(default=None, repr=False)

    def headers(
        self, message_id: str, timestamp: int, body: Content, *, is_signed: bool
    ) -> dict[str, str]:
        """Return the headers of an attempt; blocks while it reads the body.

        Args:
            timestamp: Of this attempt, in Unix seconds.

        Raises:
            OSError: The body cannot be read.
        """
        headers = {"webhook-id": message_id, "webhook-timestamp": str(timestamp)}
        if is_signed and self.key is not None:
            signature = _signature(self.key, f"{message_id}.{timestamp}.", _chunks(body))
            headers["webhook-signature"] = f"v1,{signature}"
        return headers


def _signature(key: bytes, prefix: str, chunks: Iterable[bytes]) -> str:
    digest = hmac.new(key, prefix.encode(), hashlib.sha256)
    for chunk in chunks:
        digest.update(chunk)
    return base64.b64encode(digest.digest()).decode("ascii")


def _chunks(body: Content) -> Iterator[bytes]:
    if body.path is None:
        yield body.read()
        return
    with body.path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk
