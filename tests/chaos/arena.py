"""A ComfyUI with everything around it that can go wrong: disks, clock, networks, receivers."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from urllib.parse import unquote

from standardwebhooks import Webhook

from tests.cache.origin import Origin, serving
from tests.chaos.clocks import Clock
from tests.chaos.disks import small_disk
from tests.chaos.weather import Weather, weather
from tests.comfyui.receiver import Message, Receiver
from tests.comfyui.server import ComfyServer, Install
from tests.comfyui.test_secrets import Vault

DISKS_MIB = {"input": 96, "output": 96, "temp": 96, "cache": 192, "state": 96}
RESULT_BYTES = 16 * 2**20
NO_SETTINGS: Mapping[str, str] = {}


@dataclass
class Tolerant(Receiver):
    """Takes what is signed well, whatever the clock of its sender says.

    Attributes:
        refused_with: Gives the status for an upload that is not taken, None for one that is.
    """

    refused_with: Callable[[], int | None] = lambda: None

    def put(self, path: str, content: bytes) -> int:
        return self.refused_with() or super().put(path, content)

    def take(self, headers: dict[str, str], content: bytes) -> int:
        try:
            at = datetime.fromtimestamp(int(headers["webhook-timestamp"]), tz=timezone.utc)
            signed = Webhook(self.secret).sign(headers["webhook-id"], at, content.decode())
        except (KeyError, ValueError):
            return 400
        if signed != headers.get("webhook-signature"):
            return 400
        if self.refuses():
            return 503
        message = Message(headers["webhook-id"], json.loads(content), time.monotonic())
        self.messages.append(message)
        return 200

    def uploaded(self, url: str) -> bytes | None:
        """Return what was put to the path of a URL."""
        return self.uploads.get("/" + unquote(url.split("/", 3)[3]))


@dataclass
class Arena:
    """The server and its surroundings.

    Attributes:
        files_net: Between the server and what it fetches from.
        hooks_net: Between it and what takes its messages.
        uploads_net: Between it and the storage of its outputs.
    """

    server: ComfyServer
    vault: Vault
    clock: Clock
    origin: Origin
    receiver: Tolerant
    files_net: Weather
    hooks_net: Weather
    uploads_net: Weather
    seed: int

    def up(self) -> None:
        """Have a server that is ready."""
        if self.server.process is None or self.server.process.poll() is not None:
            self.server.stop()
            self.server.start()
        self.server.wait_until_ready(60)

    def folder(self, name: str) -> Path:
        return self.server.base / name


@contextmanager
def arena(
    install: Install, base: Path, seed: int, more: Mapping[str, str] = NO_SETTINGS
) -> Iterator[Arena]:
    """Give an arena whose server has not been started.

    Args:
        more: Settings of its server.
    """
    vault, clock = Vault(), Clock(base / "clock")
    with ExitStack() as stack:
        for name, mib in DISKS_MIB.items():
            stack.enter_context(small_disk(base / "comfyui" / name, mib))
        origin = stack.enter_context(serving())
        receiver = Tolerant(secret=vault.webhook_secret())
        receiver.start()
        stack.callback(receiver.stop)
        targets = (origin.url(""), receiver.origin, receiver.origin)
        nets = [stack.enter_context(weather(target, seed)) for target in targets]
        settings = {**_settings(receiver, nets, clock), **more}
        server = ComfyServer(install, base / "comfyui", settings)
        stack.callback(server.stop)
        yield Arena(server, vault, clock, origin, receiver, nets[0], nets[1], nets[2], seed)


def _settings(receiver: Receiver, nets: list[Weather], clock: Clock) -> dict[str, str]:
    return {
        **clock.environment,
        "HTTP_TRUSTED_ORIGINS": ",".join(net.origin for net in nets),
        "LOG_LEVEL": "trace",
        "LRU_CACHE_SIZE_GB": "0.04",
        "MAX_ATTEMPTS": "3",
        "PROMPT_WEBHOOK_RETRIES": "6",
        "RESULT_MAX_BYTES": str(RESULT_BYTES),
        "WEBHOOK_SECRET": receiver.secret,
    }
