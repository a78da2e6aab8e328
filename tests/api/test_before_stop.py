"""What the Kubernetes example does before it stops a container, run against a server."""

from __future__ import annotations

import asyncio
import os
import shutil

import pytest

from tests.api.conftest import Serve, Site
from tests.fakes import FakeEngine, Gate, eventually
from tests.package.manifests import before_stop


@pytest.fixture(autouse=True)
def _programs() -> None:
    missing = [name for name in ("curl", "awk", "seq") if shutil.which(name) is None]
    assert not missing, f"the image has {missing}, and this machine has not"


async def begin(site: Site, api_keys: str = "") -> asyncio.subprocess.Process:
    port = str(site.client.port)
    environment = {
        "PATH": os.environ["PATH"],
        "PORT": port,
        "STOP_AFTER_S": "0",
        "API_KEYS": api_keys,
        "NO_PROXY": "*",
    }
    return await asyncio.create_subprocess_exec("/bin/sh", "-c", before_stop(), env=environment)


async def test_a_server_with_nothing_to_do_may_stop_at_once(serve: Serve) -> None:
    process = await begin(await serve())
    assert await asyncio.wait_for(process.wait(), 20) == 0


async def test_it_has_a_key_where_one_is_needed(serve: Serve) -> None:
    process = await begin(await serve(api_keys="one,two"), "one,two")
    assert await asyncio.wait_for(process.wait(), 20) == 0


async def test_it_waits_for_what_is_in_the_queue(serve: Serve) -> None:
    gate = Gate()
    site = await serve(FakeEngine(gate))
    prompt = asyncio.create_task(answered(site))
    await eventually(lambda: bool(site.engine.ran))
    process = await begin(site)
    await eventually(lambda: scrapes(site) >= 2, within_s=20)
    assert process.returncode is None
    gate.is_open.set()
    assert await prompt == 200
    assert await asyncio.wait_for(process.wait(), 20) == 0


async def answered(site: Site) -> int:
    async with site.prompt() as response:
        await response.read()
        return int(response.status)


def scrapes(site: Site) -> float:
    counts = site.metrics.tallies.requests.read()
    return sum(count for labels, count in counts.items() if "/metrics" in labels)
