"""The HTTP backend: the contract, what it sends, and what it makes of odd answers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from urllib.parse import quote

import pytest
from pydantic import SecretStr

from comfyui_stateless.config import HttpAccess
from comfyui_stateless.storage.auth import Auth, BearerAuth
from comfyui_stateless.storage.base import Backend
from comfyui_stateless.storage.connections import Client
from comfyui_stateless.storage.http import HttpBackend
from comfyui_stateless.storage.policy import Policy
from tests.storage.contract import BackendContract, Store
from tests.storage.file_server import File, FileServer, file_server

SECRET = "planted-secret-5b1f"
GOOD = BearerAuth(type="bearer", token=SecretStr(SECRET))


def backend(access: HttpAccess | None = None) -> HttpBackend:
    access = access or HttpAccess(trusted=frozenset({"*"}))
    return HttpBackend(Client(Policy(access), access.proxies), access)


@dataclass(frozen=True)
class HttpStore:
    server: FileServer
    origin: str
    backend: Backend
    auth: Auth | None = GOOD
    secrets: tuple[str, ...] = (SECRET, "query-secret", "wrong-secret")

    @property
    def refused(self) -> dict[str, tuple[Backend, Auth | None]]:
        wrong = BearerAuth(type="bearer", token=SecretStr("wrong-secret"))
        return {"a wrong token": (self.backend, wrong), "no token": (self.backend, None)}

    def url(self, name: str) -> str:
        return f"{self.origin}/{quote(name)}?sig=query-secret"

    def write(self, name: str, content: bytes, media_type: str = "") -> None:
        self.server.files[f"/{name}"] = File(content, media_type)

    def read(self, name: str) -> bytes:
        try:
            return self.server.files[f"/{name}"].content
        except KeyError:
            raise FileNotFoundError(name) from None

    def at(self, origin: str) -> Store:
        return replace(self, origin=origin)


@pytest.fixture
def server() -> Iterator[FileServer]:
    with file_server() as server:
        yield server


class TestHttp(BackendContract):
    foreign_urls = (*BackendContract.foreign_urls, "s3://bucket/a", "httpx://a/b", "//host/a")

    @pytest.fixture
    def store(self, server: FileServer) -> Store:
        server.authorization = f"Bearer {SECRET}"
        return HttpStore(server, server.origin, backend())
