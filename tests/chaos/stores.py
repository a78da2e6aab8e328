"""Object storage that inputs come from and outputs go to, behind a network that may be bad."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote

from tests.chaos.traffic import UPLOADED, Sent, Traffic, png
from tests.chaos.weather import Weather, weather
from tests.storage.azurite import ACCOUNT, CONTAINER, Azurite, azurite, key_of
from tests.storage.seaweed import ADMIN, BUCKET, Seaweed, seaweed


class Store(Protocol):
    """A storage, seen from both sides of the network.

    Attributes:
        net: Between the server and the storage.
        base: What all its URLs begin with.
    """

    net: Weather

    @property
    def base(self) -> str: ...

    @property
    def settings(self) -> dict[str, str]:
        """Return the settings of a server that uses it."""

    def target(self, prefix: str) -> tuple[str, dict[str, Any]]:
        """Return the field of a request that uploads there, but for its ``async``."""

    def put(self, name: str, content: bytes) -> None:
        """Put an object there, past the network."""

    def get(self, name: str) -> bytes:
        """Return an object, past the network."""


@dataclass
class S3:
    """A real S3 server."""

    server: Seaweed
    net: Weather
    base: str = f"s3://{BUCKET}/"

    @property
    def settings(self) -> dict[str, str]:
        return {
            "AWS_ACCESS_KEY_ID": ADMIN.access_key_id,
            "AWS_SECRET_ACCESS_KEY": ADMIN.secret_access_key.get_secret_value(),
            "AWS_ENDPOINT_URL": self.net.origin,
            "AWS_REGION": "us-east-1",
        }

    def target(self, prefix: str) -> tuple[str, dict[str, Any]]:
        return "s3", {"bucket": BUCKET, "prefix": prefix}

    def put(self, name: str, content: bytes) -> None:
        self.server.raw.put_object(Bucket=BUCKET, Key=name, Body=content)

    def get(self, name: str) -> bytes:
        return bytes(self.server.raw.get_object(Bucket=BUCKET, Key=name)["Body"].read())


@dataclass
class Azure:
    """A real emulator of Azure's blobs."""

    server: Azurite
    net: Weather

    @property
    def base(self) -> str:
        return f"{self.net.origin}/{ACCOUNT}/{CONTAINER}/"

    @property
    def settings(self) -> dict[str, str]:
        parts = {
            "DefaultEndpointsProtocol": "http",
            "AccountName": ACCOUNT,
            "AccountKey": key_of(ACCOUNT),
            "BlobEndpoint": f"{self.net.origin}/{ACCOUNT}",
        }
        text = ";".join(f"{name}={value}" for name, value in parts.items())
        return {"AZURE_STORAGE_CONNECTION_STRING": text}

    def target(self, prefix: str) -> tuple[str, dict[str, Any]]:
        return "azure_blob_upload", {"container": CONTAINER, "blob_prefix": prefix}

    def put(self, name: str, content: bytes) -> None:
        self.server.raw.upload_blob(name, content, overwrite=True)

    def get(self, name: str) -> bytes:
        return bytes(self.server.raw.download_blob(name).readall())


@contextmanager
def s3(folder: Path, seed: int) -> Iterator[S3]:
    """Run an S3 server in an empty folder."""
    with seaweed(folder) as server, weather(server.origin, seed) as net, closing(server.raw):
        yield S3(server, net)


@contextmanager
def azure(folder: Path, seed: int) -> Iterator[Azure]:
    """Run an emulator of Azure's blobs in an empty folder."""
    with azurite(folder) as server, weather(server.origin, seed) as net, closing(server.raw):
        yield Azure(server, net)


@dataclass
class Stored(Traffic):
    """Jobs whose pictures lie in a storage, and whose outputs go there."""

    store: Store = field(kw_only=True)

    def place(self, job: Sent) -> str:
        return f"{self.store.base}out/{job.number}/"

    def uploaded(self, url: str) -> bytes | None:
        return self.store.get(unquote(url.removeprefix(self.store.base)))

    def _address(self, job: Sent) -> str:
        return f"{self.store.base}in/{job.number}.png"

    def _serve_picture(self, job: Sent) -> None:
        content = png(job.number)
        self.store.put(f"in/{job.number}.png", content)
        # The checker asks the origin what whole files there are.
        self.arena.origin.put(f"/stored/{job.number}.png", content)

    def _target(self, job: Sent) -> dict[str, Any]:
        name, where = self.store.target(f"out/{job.number}/")
        return {name: {**where, "async": job.way == UPLOADED}}
