"""What a repository's server wants to see, and where it is in the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from pydantic import SecretStr

from ..errors import AccessDenied, ObjectNotFound, StorageError, TransferFailed, UnsupportedURL
from ..storage.auth import Auth, BasicAuth, BearerAuth, HeaderAuth
from ..storage.base import Cancel
from ..storage.connections import Client, Request
from ..storage.policy import Target, parse
from ..storage.proxies import basic_authorization

_REFS = "/info/refs"
_SERVICE = f"{_REFS}?service=git-upload-pack"

_TOKEN_USERS = {
    "bitbucket.org": "x-token-auth",
    "github.com": "x-access-token",
    "gitlab.com": "oauth2",
    "hf.co": "user",
    "huggingface.co": "user",
}
"""Hosts where git's token is the password of such a user, not a bearer's."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a repository is to be cloned from.

    Attributes:
        target: Its URL in the end, behind any redirects.
        headers: What its server may see, and no other.
    """

    target: Target
    headers: Mapping[str, SecretStr] = field(repr=False)


def located(url: str, auth: Auth | None, client: Client, cancel: Cancel) -> Place:
    """Make git's first request for it: git itself follows no redirects, and checks no address.

    Raises:
        StorageError: The repository is not there, or not to be had; a subclass says how.
        Cancelled: It was cancelled.
    """
    asked, headers = parse(url), _headers(parse(url).host, auth)
    request = Request("GET", url + _SERVICE, {"Git-Protocol": "version=2"}, headers)
    with client.request(request, cancel) as response:
        raise_for(response.status, asked.redacted)
        found, media_type = response.target, response.headers.get_content_type()
    path, refs, _ = found.path.partition(_REFS)
    if not refs or media_type == "text/html":
        raise ObjectNotFound(f"{asked.redacted} is no git repository.")
    same = found.origin == asked.origin
    return Place(parse(f"{found.origin}{path}"), headers if same else {})


def raise_for(status: int, place: str) -> None:
    """Raise what a status of a git server means, if it is not a success."""
    if status in (401, 403):
        raise AccessDenied(
            f"There is no repository at {place}, or it is private and needs other credentials."
        )
    if status in (404, 410):
        raise ObjectNotFound(
            f"There is no repository at {place}, or it is private and needs credentials."
        )
    if status != 200:
        raise TransferFailed(f"{place} answers {status}.")


@contextmanager
def told_of(place: str) -> Iterator[None]:
    """Put ``place`` in front of what goes wrong inside."""
    try:
        yield
    except StorageError as error:
        raise type(error)(f"{place}: {error.message}") from error.__cause__


def _headers(host: str, auth: Auth | None) -> dict[str, SecretStr]:
    if auth is None:
        return {}
    if isinstance(auth, HeaderAuth):
        return {auth.header_name: auth.header_value}
    if isinstance(auth, BasicAuth):
        return {"Authorization": basic_authorization(auth.username, auth.password)}
    if not isinstance(auth, BearerAuth):
        raise UnsupportedURL(f"Repositories take no credentials of the type {auth.type}.")
    if host in _TOKEN_USERS:
        return {"Authorization": basic_authorization(_TOKEN_USERS[host], auth.token)}
    return {"Authorization": SecretStr(f"Bearer {auth.token.get_secret_value()}")}
