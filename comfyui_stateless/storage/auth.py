"""Credentials of a request: five kinds, chosen for each URL by the first pattern that fits it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

MAX_PATTERN_CHARACTERS = 2048

MAX_URL_CHARACTERS = 16 * 1024
"""What servers take is half of that; a longer one would keep its caller waiting."""

MAX_STEPS = 5_000_000
"""Characters of URLs that are held against patterns for one request: a second or two."""

_PART = re.compile(r"\*\*|.", re.DOTALL)


class _Auth(BaseModel):
    model_config = ConfigDict(
        frozen=True, strict=True, extra="ignore", hide_input_in_errors=True, defer_build=True
    )


class BearerAuth(_Auth):
    """A token in the Authorization header."""

    type: Literal["bearer"]
    token: SecretStr


class BasicAuth(_Auth):
    """A user name and a password in the Authorization header."""

    type: Literal["basic"]
    username: str
    password: SecretStr


class HeaderAuth(_Auth):
    """A header of any name."""

    type: Literal["header"]
    header_name: str = Field(pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")
    header_value: SecretStr


class QueryAuth(_Auth):
    """A query parameter, such as the signature of an Azure SAS."""

    type: Literal["query"]
    query_param: str = Field(min_length=1)
    query_value: SecretStr


class S3Auth(_Auth):
    """Keys for an S3-compatible storage."""

    type: Literal["s3"]
    access_key_id: str
    secret_access_key: SecretStr
    session_token: SecretStr | None = None
    region: str | None = None
    endpoint: str | None = None


Auth = Annotated[
    BearerAuth | BasicAuth | HeaderAuth | QueryAuth | S3Auth, Field(discriminator="type")
]


class Credential(_Auth):
    """Credentials, and the URLs that they are for."""

    url_pattern: str = Field(
        min_length=1,
        max_length=MAX_PATTERN_CHARACTERS,
        description="A URL, with `*` for any characters but `/`, `**` for any characters, "
        "`?` for one character.",
    )
    auth: Auth


def auth_for(url: str, credentials: Sequence[Credential]) -> Auth | None:
    """Return the credentials of the first pattern that the whole ``url`` fits, None if none does.

    A URL of more than ``MAX_URL_CHARACTERS`` fits none.
    """
    if len(url) > MAX_URL_CHARACTERS:
        return None
    return next((c.auth for c in credentials if _glob(c.url_pattern).fits(url)), None)


def is_too_much(urls: Iterable[str], credentials: Sequence[Credential]) -> bool:
    """Say whether choosing credentials for all ``urls`` would keep other callers waiting."""
    lengths = (len(url) for url in urls if len(url) <= MAX_URL_CHARACTERS)
    return sum(lengths) * len(credentials) > MAX_STEPS


class _Glob:
    """A pattern as a machine whose states are the bits of a number.

    Bit n says that the first n single characters and ``?`` of the pattern are found. Each character
    of a URL moves all the bits at once, so that no pattern makes its search long: there is no way
    back. A star is a state that may stay where it is.
    """

    def __init__(self, pattern: str) -> None:
        self._literal: dict[str, int] = {}
        self._any = self._stays = self._stays_within = 0
        state = 1
        for part in _PART.findall(pattern):
            if part == "**":
                self._stays |= state
                continue
            if part == "*":
                self._stays_within |= state
                continue
            if part == "?":
                self._any |= state
            else:
                self._literal[part] = self._literal.get(part, 0) | state
            state <<= 1
        self._found = state

    def fits(self, text: str) -> bool:
        """Say whether the pattern describes the whole of ``text``."""
        states = 1
        for character in text:
            stays = self._stays if character == "/" else self._stays | self._stays_within
            moves = self._any | self._literal.get(character, 0)
            states = (states & moves) << 1 | (states & stays)
            if not states:
                return False
        return states & self._found != 0


@lru_cache(maxsize=256)
def _glob(pattern: str) -> _Glob:
    return _Glob(pattern)
