"""Credentials of a request: five kinds, chosen for each URL by the first pattern that fits it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr


class _Auth(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="ignore")


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
        description="A URL, with `*` for any characters but `/`, `**` for any characters, "
        "`?` for one character.",
    )
    auth: Auth


def auth_for(url: str, credentials: Sequence[Credential]) -> Auth | None:
    """Return the credentials of the first pattern that the whole ``url`` fits, None if none does."""
    return next((c.auth for c in credentials if _pattern(c.url_pattern).fullmatch(url)), None)


@lru_cache(maxsize=256)
def _pattern(glob: str) -> re.Pattern[str]:
    parts = re.split(r"(\*\*|\*|\?)", glob)
    wild = {"**": ".*", "*": "[^/]*", "?": "."}
    return re.compile("".join(wild.get(part, re.escape(part)) for part in parts), re.DOTALL)
