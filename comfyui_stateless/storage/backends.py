"""All backends together. Adding one is its file and its line here."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple, Protocol

from ..config import HttpAccess, Settings
from ..errors import UnsupportedURL
from ..naming import redacted
from .azure import AzureBackend, AzureTarget
from .base import Backend
from .connections import Client
from .http import HttpBackend
from .huggingface import HuggingFaceBackend
from .policy import Policy
from .s3 import S3Backend

SHOWN = 100
"""Characters of a URL that nobody serves: it may be a file's content."""


class Target(Protocol):
    """A place for uploads, as a request names it, that gives each file a URL of its own.

    Attributes:
        is_async: Whether the request is answered before the upload.
    """

    @property
    def is_async(self) -> bool: ...

    def url_for(self, filename: str) -> str:
        """Return the URL that an output of this name gets."""


class Backends(NamedTuple):
    """Every kind of storage; the first that matches a URL serves it."""

    azure: AzureBackend
    others: tuple[Backend, ...]

    @property
    def all(self) -> tuple[Backend, ...]:
        """In the order in which they are asked: HTTP, which takes what is left, is the last."""
        return (self.azure, *self.others)

    def for_url(self, url: str) -> Backend:
        """Return the backend that serves ``url``.

        Raises:
            UnsupportedURL: None does.
        """
        for backend in self.all:
            if backend.matches(url):
                return backend
        shown = redacted(url)[:SHOWN]
        raise UnsupportedURL(
            f"{shown!r} is no address of a storage: http, https and s3 are served."
        )

    def url_for(self, target: Target | AzureTarget, filename: str) -> str:
        """Return the URL that an output gets; Azure's depends on the operator's account.

        Raises:
            UnsupportedURL: There is no such account.
        """
        if isinstance(target, AzureTarget):
            return self.azure.url_for(target, filename)
        return target.url_for(filename)

    def close(self) -> None:
        """Give up the connections of all."""
        for backend in self.all:
            backend.close()


def open_backends(settings: Settings, *, trusting: bool = False) -> Backends:
    """Return the backends of an operator's settings; nothing is connected to yet.

    Args:
        trusting: Whether any address may be reached, for URLs that the operator names.

    Raises:
        ConfigError: A setting of a storage is malformed.
    """
    access = settings.http
    if trusting:
        access = replace(access, trusted=frozenset({"*"}))
    client = Client(Policy(access), access.proxies)
    endpoint = settings.aws_endpoint_url
    to_s3 = client.trusting(endpoint) if endpoint else client
    return Backends(
        AzureBackend(settings.azure, client),
        (
            # What a request signs for is told nothing of the operator's.
            S3Backend(HttpBackend(to_s3, HttpAccess()), access.proxies, settings.aws_region),
            HuggingFaceBackend(settings.huggingface, client, access),
            HttpBackend(client, access),
        ),
    )
