"""What the cache brings from afar: large files beside other programs, and shared ones."""

from __future__ import annotations

import asyncio
import filecmp
import os
import secrets
import shutil
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from comfyui_stateless.cache import Cache
from comfyui_stateless.config import Settings
from comfyui_stateless.storage.auth import Auth
from comfyui_stateless.storage.backends import open_backends

from .bench import Plan
from .file_server import file_server
from .rows import Row, compared
from .sides import WrongAnswer
from .spread import Spread

MIB = 2**20
LIMIT = 25_000_000
"""Bytes per second of each connection to the limited server."""

LIMITED_ROUNDS = 3
SHARED_MIB = 64
TOGETHER = 200
FILES = 8
REPEATS = 100

Fetch = Callable[[Path], Path]
"""Fetches the file into an empty folder, and returns where it is."""


def measure_download(plan: Plan) -> list[Row]:
    """Download from a server of this machine, beside curl: as fast as it goes, then limited."""
    curl = shutil.which("curl")
    if curl is None:
        raise SystemExit("curl is missing.")
    rows = []
    for name, mib, limit, rounds in (
        ("local", plan.download_mib, 0, plan.rounds),
        ("limited", plan.limited_mib, LIMIT, min(plan.rounds, LIMITED_ROUNDS)),
    ):
        with source(mib) as original, file_server(original.parent, limit) as server:
            url = f"{server.origin}/{original.name}"
            ours = by_cache(url)
            speed = f", {limit // 1_000_000} MB/s a connection" if limit else ""
            label, theirs = f"download, {mib} MiB{speed}", by_curl(curl, url)
            rows.append(side_by_side(f"download.{name}", label, original, ours, theirs, rounds))
    return rows


def measure_s3(plan: Plan) -> list[Row]:
    """Download from a real S3 server of this machine, beside boto3's own `download_file`."""
    from tests.storage.seaweed import ADMIN, BUCKET, seaweed

    with (
        TemporaryDirectory(prefix="stateless-s3-") as folder,
        source(plan.s3_mib) as original,
        seaweed(Path(folder)) as server,
    ):
        server.raw.upload_file(str(original), BUCKET, original.name)
        auth = ADMIN.model_copy(update={"endpoint": server.origin})
        ours = by_cache(f"s3://{BUCKET}/{original.name}", auth)
        theirs = by_boto3(server.raw, BUCKET, original.name)
        return [side_by_side("s3", f"S3, {plan.s3_mib} MiB", original, ours, theirs, plan.rounds)]


def measure_shared(plan: Plan) -> list[Row]:
    """Have one file fetched by many requests at once, and ask for files that are there."""
    with source(SHARED_MIB) as original, file_server(original.parent) as server:
        url = f"{server.origin}/{original.name}"
        seconds = Spread.of(asyncio.run(together(url, server.sent)) for _ in range(plan.rounds))
        rate = Spread.of(TOGETHER / value for value in seconds.values)
        label = f"{TOGETHER} requests at once for one URL of {SHARED_MIB} MiB"
        note = f"the file was sent once in each round; {seconds.median * 1000:.0f} ms for all"
        cached = Spread.of(asyncio.run(repeated(url)) * 1000 for _ in range(plan.rounds))
        return [
            Row("shared.rate", label, "/s", rate, note=note),
            Row("shared.cached", f"{FILES} files of one request, all cached", "ms", cached),
        ]


def side_by_side(
    key: str, label: str, original: Path, ours: Fetch, theirs: Fetch, rounds: int
) -> Row:
    """Return a row of megabytes per second, every file compared byte for byte.

    A round before the first does not count: memory that the system has not used before is slow.
    """
    rates: dict[str, list[float]] = {"ours": [], "plain": []}
    for _ in range(1 + rounds):
        for name, fetch in (("ours", ours), ("plain", theirs)):
            rates[name].append(original.stat().st_size / 1e6 / timed(fetch, original))
    one, other = Spread.of(rates["ours"][1:]), Spread.of(rates["plain"][1:])
    return compared(key, label, "MB/s", one, other)


def timed(fetch: Fetch, original: Path) -> float:
    """Return how many seconds a fetch takes, with nothing left to write from before.

    Raises:
        WrongAnswer: What came is not the original.
    """
    with TemporaryDirectory(prefix="stateless-download-") as folder:
        os.sync()
        began = time.perf_counter()
        path = fetch(Path(folder))
        seconds = time.perf_counter() - began
        if not filecmp.cmp(path, original, shallow=False):
            raise WrongAnswer(f"{path.name} is not the file that was fetched.")
    return seconds


def by_cache(url: str, auth: Auth | None = None) -> Fetch:
    """Return a fetch by our cache, from opening it to closing it."""

    async def fetch(folder: Path) -> Path:
        async with opened(folder) as cache:
            return (await cache.fetch(url, auth=auth)).path

    return lambda folder: asyncio.run(fetch(folder))


def by_curl(curl: str, url: str) -> Fetch:
    """Return a fetch by curl, from its start to its end."""

    def fetch(folder: Path) -> Path:
        path = folder / "file"
        subprocess.run([curl, "-q", "-sSf", "--noproxy", "*", "-o", path, url], check=True)
        return path

    return fetch


def by_boto3(client: Any, bucket: str, key: str) -> Fetch:
    """Return a fetch by boto3 with its own settings: ten threads, parts of 8 MiB."""

    def fetch(folder: Path) -> Path:
        client.download_file(bucket, key, str(folder / "file"))
        return folder / "file"

    return fetch


async def together(url: str, sent: Callable[[], int]) -> float:
    """Return the seconds until all of many simultaneous requests have a file.

    Raises:
        WrongAnswer: It was sent more than once, or is not whole.
    """
    before = sent()
    with TemporaryDirectory(prefix="stateless-download-") as folder:
        async with opened(Path(folder)) as cache:
            began = time.perf_counter()
            leases = await asyncio.gather(*(cache.fetch(url) for _ in range(TOGETHER)))
            seconds = time.perf_counter() - began
            sizes = {lease.path.stat().st_size for lease in leases}
    if sizes != {sent() - before} or sizes != {SHARED_MIB * MIB}:
        raise WrongAnswer(f"{sent() - before} bytes were sent for files of {sizes} bytes.")
    return seconds


async def repeated(url: str) -> float:
    """Return the seconds, at the median, until a request has its files, all of them cached."""
    urls, seconds = [f"{url}?{number}" for number in range(FILES)], []
    with TemporaryDirectory(prefix="stateless-download-") as folder:
        async with opened(Path(folder)) as cache:
            await asyncio.gather(*(cache.fetch(each) for each in urls))
            for _ in range(REPEATS):
                began = time.perf_counter()
                leases = await asyncio.gather(*(cache.fetch(each) for each in urls))
                seconds.append(time.perf_counter() - began)
                if not all(lease.was_cached for lease in leases):
                    raise WrongAnswer("A file was fetched again.")
                for lease in leases:
                    lease.release()
    return median(seconds)


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Cache]:
    """Open a cache as the extension does; any address may be reached."""
    backends = open_backends(Settings(http_trusted_origins="*"))
    cache = Cache(folder, backends.for_url)
    await cache.start()
    try:
        yield cache
    finally:
        await cache.close()
        backends.close()


@contextmanager
def source(mib: int) -> Iterator[Path]:
    """Make a file of so many MiB, no two of them alike, and delete it at the end."""
    noise = secrets.token_bytes(MIB - 8)
    with TemporaryDirectory(prefix="stateless-source-") as folder:
        path = Path(folder) / "file.bin"
        with path.open("wb") as file:
            for number in range(mib):
                file.write(number.to_bytes(8, "big"))
                file.write(noise)
        yield path
