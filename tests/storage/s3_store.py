"""Backends of a real S3 server, and a way to it past them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
from pydantic import SecretStr

from comfyui_stateless.config import HttpAccess, Proxies
from comfyui_stateless.storage.auth import Auth, S3Auth
from comfyui_stateless.storage.base import Backend
from comfyui_stateless.storage.connections import Client
from comfyui_stateless.storage.http import HttpBackend
from comfyui_stateless.storage.policy import Policy
from comfyui_stateless.storage.s3 import S3Backend
from tests.storage.contract import (
    OCTETS,
)
from tests.storage.seaweed import ADMIN, BUCKET, STRANGER, Seaweed

WRONG_SECRET = ADMIN.model_copy(update={"secret_access_key": SecretStr("not-the-secret")})


def s3_backend(*trusted: str) -> S3Backend:
    access = HttpAccess(trusted=frozenset(trusted))
    return S3Backend(HttpBackend(Client(Policy(access)), access), Proxies())


def from_environment(auth: S3Auth | None, endpoint: str) -> S3Backend:
    """Return a backend that has taken these credentials from the environment."""
    backend = s3_backend()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", endpoint)
        if auth is not None:
            environment.setenv("AWS_ACCESS_KEY_ID", auth.access_key_id)
            environment.setenv("AWS_SECRET_ACCESS_KEY", auth.secret_access_key.get_secret_value())
        backend._clients.of(None)
    return backend


@dataclass
class S3Store:
    """A folder of the server's bucket."""

    server: Seaweed
    origin: str
    backend: Backend
    auth: Auth | None = None
    refused: dict[str, tuple[Backend, Auth | None]] = field(default_factory=dict)
    folder: str = ""
    secrets: tuple[str, ...] = (
        ADMIN.secret_access_key.get_secret_value(),
        ADMIN.access_key_id,
        STRANGER.access_key_id,
        "not-the-secret",
        "Signature=",
    )

    def url(self, name: str) -> str:
        return f"s3://{BUCKET}/{self._key(name)}"

    def _key(self, name: str) -> str:
        return f"{self.folder}/{name}" if self.folder else name

    def write(self, name: str, content: bytes, media_type: str = OCTETS) -> None:
        self.server.raw.put_object(
            Bucket=BUCKET, Key=self._key(name), Body=content, ContentType=media_type
        )

    def read(self, name: str) -> bytes:
        from botocore.exceptions import ClientError

        try:
            answer = self.server.raw.get_object(Bucket=BUCKET, Key=self._key(name))
        except ClientError as error:
            raise FileNotFoundError(name) from error
        content: bytes = answer["Body"].read()
        return content

    def at(self, origin: str) -> S3Store:
        if self.auth is None:
            return replace(self, backend=from_environment(ADMIN, origin))
        return replace(self, backend=s3_backend(origin), auth=at_endpoint(ADMIN, origin))


def at_endpoint(auth: S3Auth, endpoint: str) -> S3Auth:
    return auth.model_copy(update={"endpoint": endpoint})
