"""A real emulator of Azure's blobs, Azurite, for the tests."""

from __future__ import annotations

import base64
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr

from comfyui_stateless.config import AzureAccount
from tests.ports import free_port

ACCOUNT, OTHER = "outputs", "another"
CONTAINER = "images"
START_S = 60
INSTALLED = Path(__file__).parents[2] / ".comfyui" / "azurite"
PROGRAM = INSTALLED / "node_modules" / "azurite" / "dist" / "src" / "blob" / "main.js"


def key_of(account: str) -> str:
    """Return the key of one of the accounts."""
    return base64.b64encode(f"the-secret-key-of-{account}".encode()).decode()


@dataclass(frozen=True)
class Azurite:
    """A running emulator: two accounts, each with one private container."""

    origin: str
    log: Path

    def endpoint(self, account: str = ACCOUNT) -> str:
        """Return what the URLs of an account begin with."""
        return f"{self.origin}/{account}"

    def account(
        self, *, name: str = ACCOUNT, key: str | None = None, origin: str = ""
    ) -> AzureAccount:
        """Return settings with a connection string; the key is the right one if none is given."""
        return AzureAccount(
            connection_string=SecretStr(
                f"DefaultEndpointsProtocol=http;AccountName={name};"
                f"AccountKey={key or key_of(name)};BlobEndpoint={origin or self.origin}/{name};"
            )
        )

    @cached_property
    def raw(self) -> Any:
        """The SDK's client of the container, which may do everything."""
        return self.container(ACCOUNT)

    def container(self, account: str) -> Any:
        """Return the SDK's client of an account's container."""
        from azure.storage.blob import ContainerClient

        return ContainerClient(self.endpoint(account), CONTAINER, credential=key_of(account))

    def sas(self, blob: str, permission: str = "r", lasts_s: float = 3600) -> str:
        """Return a shared access signature for one blob."""
        from azure.storage.blob import BlobSasPermissions, generate_blob_sas

        signature: str = generate_blob_sas(
            ACCOUNT,
            CONTAINER,
            blob,
            account_key=key_of(ACCOUNT),
            permission=BlobSasPermissions.from_string(permission),
            expiry=datetime.now(timezone.utc) + timedelta(seconds=lasts_s),
        )
        return signature

    def container_sas(self) -> str:
        """Return a shared access signature for all blobs of the container."""
        from azure.storage.blob import ContainerSasPermissions, generate_container_sas

        signature: str = generate_container_sas(
            ACCOUNT,
            CONTAINER,
            account_key=key_of(ACCOUNT),
            permission=ContainerSasPermissions(read=True, create=True, write=True),
            expiry=datetime.now(timezone.utc) + timedelta(hours=1),
        )
        return signature


@contextmanager
def azurite(folder: Path) -> Iterator[Azurite]:
    """Run an emulator with its data in an empty folder."""
    node = shutil.which("node")
    assert node, "the tests of Azure need Node.js: install node and npm"
    assert PROGRAM.is_file(), "Azurite is missing: `make test` installs it, with npm"
    port = free_port()
    server = Azurite(f"http://127.0.0.1:{port}", folder / "log.txt")
    accounts = ";".join(f"{name}:{key_of(name)}" for name in (ACCOUNT, OTHER))
    flags = ["--silent", "--disableTelemetry", "--skipApiVersionCheck", "--location", str(folder)]
    with server.log.open("wb") as log:
        process = subprocess.Popen(
            [node, str(PROGRAM), "--blobHost", "127.0.0.1", "--blobPort", str(port), *flags],
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, "AZURITE_ACCOUNTS": accounts},
        )
        try:
            _wait_for(server, process)
            yield server
        finally:
            process.kill()
            process.wait()


def _wait_for(server: Azurite, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_S
    while not _listens(server):
        assert process.poll() is None, server.log.read_text()
        assert time.monotonic() < deadline, server.log.read_text()
        time.sleep(0.1)
    for account in (ACCOUNT, OTHER):
        server.container(account).create_container()


def _listens(server: Azurite) -> bool:
    parts = urlsplit(server.origin)
    try:
        socket.create_connection((parts.hostname or "", parts.port or 0)).close()
    except OSError:
        return False
    return True
