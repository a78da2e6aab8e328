"""A process that fetches: what the tests about several processes start, and kill."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from pathlib import Path

from comfyui_stateless.cache import Cache
from comfyui_stateless.config import HttpAccess
from comfyui_stateless.storage.connections import Client
from comfyui_stateless.storage.http import HttpBackend
from comfyui_stateless.storage.policy import Policy


def backend() -> HttpBackend:
    """Return the HTTP backend, allowed to reach this machine."""
    access = HttpAccess(trusted=frozenset({"*"}))
    return HttpBackend(Client(Policy(access), access.proxies), access)


async def fetch(folder: Path, limit_bytes: int, urls: list[str]) -> None:
    """Fetch ``urls`` at once; print what each hashes to, a JSON object."""
    serves = backend()
    cache = Cache(folder, lambda _: serves, limit_bytes=limit_bytes, retry_delays=(0.05, 0.1))
    await cache.start()

    async def one(url: str) -> tuple[str, str]:
        lease = await cache.fetch(url)
        try:
            return url, hashlib.sha256(await asyncio.to_thread(lease.path.read_bytes)).hexdigest()
        finally:
            lease.release()

    found = dict(await asyncio.gather(*map(one, urls)))
    await cache.close()
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    asyncio.run(fetch(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
