"""As whom a request asks for a URL."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ..storage.auth import Auth, Credential, auth_for
from .names import has_userinfo


@dataclass(frozen=True, slots=True)
class Access:
    """Who asks for a file.

    Attributes:
        auth: The request's own credentials, None for those of the URL, or else the environment's.
        is_own: Whether the request brings credentials, so that the file is not for everybody.
    """

    auth: Auth | None = field(repr=False)
    is_own: bool


def access_for(url: str, credentials: Sequence[Credential], auth: Auth | None) -> Access:
    """Return as whom a URL is asked for: ``auth``, else the first of ``credentials`` that fits."""
    chosen = auth if auth is not None else auth_for(url, credentials)
    return Access(chosen, chosen is not None or has_userinfo(url))
