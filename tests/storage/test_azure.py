from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from urllib.parse import quote

import pytest
from pydantic import SecretStr

from comfyui_stateless.config import AzureAccount, HttpAccess
from comfyui_stateless.storage.auth import Auth, QueryAuth
from comfyui_stateless.storage.azure import AzureBackend
from comfyui_stateless.storage.base import Backend
from comfyui_stateless.storage.connections import Client
from comfyui_stateless.storage.policy import Policy
from tests.storage.azurite import ACCOUNT, CONTAINER, Azurite, key_of
from tests.storage.contract import OCTETS, BackendContract

WRONG_KEY = key_of("nobody")


@pytest.fixture(scope="module", autouse=True)
def _no_azure() -> Iterator[None]:
    """Keep the settings of the machine that runs the tests out of them."""
    with pytest.MonkeyPatch.context() as environment:
        for name in [name for name in os.environ if name.startswith("AZURE_")]:
            environment.delenv(name)
        yield


def azure_backend(account: AzureAccount, *trusted: str) -> AzureBackend:
    return AzureBackend(account, Client(Policy(HttpAccess(trusted=frozenset(trusted)))))


@dataclass
class AzureStore:
    """A folder of the emulator's container, with the account's credentials."""

    server: Azurite
    origin: str
    backend: Backend
    auth: Auth | None = None
    refused: dict[str, tuple[Backend, Auth | None]] = field(default_factory=dict)
    folder: str = ""
    secrets: tuple[str, ...] = (key_of(ACCOUNT), WRONG_KEY, "sig=")

    def url(self, name: str) -> str:
        return f"{self.origin}/{ACCOUNT}/{CONTAINER}/{quote(f'{self.folder}/{name}')}"

    def write(self, name: str, content: bytes, media_type: str = OCTETS) -> None:
        from azure.storage.blob import ContentSettings

        self.server.raw.upload_blob(
            f"{self.folder}/{name}",
            content,
            overwrite=True,
            content_settings=ContentSettings(content_type=media_type),
        )

    def read(self, name: str) -> bytes:
        from azure.core.exceptions import ResourceNotFoundError

        try:
            content: bytes = self.server.raw.download_blob(f"{self.folder}/{name}").readall()
        except ResourceNotFoundError as error:
            raise FileNotFoundError(name) from error
        return content

    def at(self, origin: str) -> AzureStore:
        return replace(
            self, origin=origin, backend=azure_backend(self.server.account(origin=origin))
        )


@pytest.fixture(scope="module")
def by_key(azure_server: Azurite) -> AzureStore:
    backend = azure_backend(azure_server.account())
    wrong = azure_backend(azure_server.account(key=WRONG_KEY))
    bad_query = QueryAuth(type="query", query_param="sig", query_value=SecretStr("forged"))
    return AzureStore(
        azure_server,
        azure_server.origin,
        backend,
        refused={"a wrong key": (wrong, None), "a forged signature": (backend, bad_query)},
    )


class TestAccountKey(BackendContract):
    """With the operator's connection string."""

    @pytest.fixture
    def store(self, by_key: AzureStore) -> AzureStore:
        return replace(by_key, folder=uuid.uuid4().hex)
