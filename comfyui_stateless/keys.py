"""Whether a request shows one of the operator's API keys."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping, Sequence


def encoded(keys: Iterable[str]) -> list[bytes]:
    """Return keys as they are compared."""
    return [key.encode() for key in keys]


def shown(headers: Mapping[str, str]) -> list[str]:
    """Return what a request shows as ``Authorization: Bearer`` and ``X-API-Key``."""
    scheme, _, token = headers.get("Authorization", "").partition(" ")
    bearer = [token.strip()] if scheme.lower() == "bearer" else []
    return [*bearer, headers.get("X-API-Key", "").strip()]


def accepts(accepted: Sequence[bytes], texts: Iterable[str]) -> bool:
    """Say whether one of ``texts`` is one of the keys that are ``accepted``."""
    # Every pair is compared, so that the time says nothing about which key was near.
    pairs = [(text.encode("utf-8", "surrogateescape"), key) for text in texts for key in accepted]
    return sum(hmac.compare_digest(text, key) for text, key in pairs) > 0
