"""Who gets a file that was fetched with credentials, and where secrets end up: nowhere."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from comfyui_stateless.cache import Cache
from comfyui_stateless.config import HttpAccess
from comfyui_stateless.errors import AccessDenied, StorageError
from comfyui_stateless.storage.auth import BearerAuth, Credential, QueryAuth
from comfyui_stateless.storage.connections import Client
from comfyui_stateless.storage.http import HttpBackend
from comfyui_stateless.storage.policy import Policy
from tests.cache.conftest import NewCache
from tests.cache.content import noise
from tests.cache.origin import Origin
from tests.cache.watching import has_begun, names, until

BEARER = "Bearer planted-token"


def bearer(token: str) -> BearerAuth:
    return BearerAuth(type="bearer", token=SecretStr(token))


GOOD, BAD = bearer("planted-token"), bearer("wrong")


@pytest.fixture
def url(origin: Origin) -> str:
    return origin.put("/model.bin", noise(100_000), authorization=BEARER)


@pytest.fixture
async def with_environment(folder: Path) -> AsyncIterator[Cache]:
    """Give a cache whose environment has the right header."""
    header = ("Authorization", SecretStr(BEARER))
    access = HttpAccess(trusted=frozenset({"*"}), header=header)
    backend = HttpBackend(Client(Policy(access), access.proxies), access)
    cache = Cache(folder, lambda _: backend, retry_delays=(0.01,))
    await cache.start()
    yield cache
    await cache.close()


async def test_a_file_fetched_with_credentials_is_for_those_whose_own_the_origin_accepts(
    url: str, cache: Cache, origin: Origin
) -> None:
    assert not (await cache.fetch(url, auth=GOOD)).was_cached
    assert (await cache.fetch(url, auth=GOOD)).was_cached
    assert [seen.method for seen in origin.seen] == ["GET", "HEAD"]
    for auth in (None, BAD):
        with pytest.raises(AccessDenied):
            await cache.fetch(url, auth=auth)
        with pytest.raises(AccessDenied):
            await cache.inspect(url, auth=auth)


async def test_that_holds_over_a_restart_and_also_where_the_environment_would_do(
    url: str, cache: Cache, with_environment: Cache
) -> None:
    await cache.fetch(url, auth=GOOD)
    with pytest.raises(AccessDenied):
        await with_environment.fetch(url)
    assert (await with_environment.fetch(url, auth=GOOD)).was_cached


async def test_a_file_fetched_with_the_environments_credentials_is_for_all(
    url: str, cache: Cache, with_environment: Cache
) -> None:
    await with_environment.fetch(url)
    assert (await cache.fetch(url)).was_cached


async def test_auth_goes_before_credentials_and_the_first_that_fits_is_taken(
    url: str, cache: Cache
) -> None:
    other = Credential(url_pattern="http://elsewhere/**", auth=BAD)
    fits, later = (Credential(url_pattern="http://**", auth=auth) for auth in (GOOD, BAD))
    await cache.fetch(url, [other, fits, later])
    with pytest.raises(AccessDenied):
        await cache.fetch(url, [fits], auth=BAD)


async def test_credentials_in_the_url_are_the_requests_own(
    origin: Origin, cache: Cache, folder: Path
) -> None:
    basic = base64.b64encode(b"user:planted-word").decode()
    origin.put("/model.bin", noise(1000), authorization=f"Basic {basic}")
    url = origin.url("/model.bin", "user:planted-word")
    lease = await cache.fetch(url)
    assert json.loads((folder / f"{lease.path.name}.meta").read_bytes())["authRequired"] is True
    assert (await cache.fetch(url)).was_cached
    origin.files["/model.bin"].authorization = "other"
    with pytest.raises(AccessDenied):
        await cache.fetch(url)


async def test_nobody_without_credentials_profits_from_a_running_download(
    url: str, cache: Cache, origin: Origin
) -> None:
    gate = threading.Event()
    origin.files["/model.bin"].gate = gate
    owner = asyncio.create_task(cache.fetch(url, auth=GOOD))
    await until(cache.downloads)
    others = [asyncio.create_task(cache.fetch(url, auth=auth)) for auth in (None, BAD, GOOD)]
    await asyncio.sleep(0.05)
    gate.set()
    assert (await owner).size == 100_000
    outcomes = await asyncio.gather(*others, return_exceptions=True)
    assert [type(o).__name__ for o in outcomes] == ["AccessDenied", "AccessDenied", "Lease"]


async def test_who_waited_for_one_that_was_refused_tries_with_his_own(
    url: str, cache: Cache, origin: Origin
) -> None:
    gate = threading.Event()
    origin.files["/model.bin"].on_get = lambda: gate.wait(5)
    refused = asyncio.create_task(cache.fetch(url, auth=BAD))
    await until(lambda: origin.seen)
    accepted = asyncio.create_task(cache.fetch(url, auth=GOOD))
    await asyncio.sleep(0.02)
    gate.set()
    with pytest.raises(AccessDenied):
        await refused
    assert (await accepted).size == 100_000


async def test_a_part_that_is_there_whole_is_given_to_nobody_the_origin_refuses(
    url: str, new_cache: NewCache, folder: Path, origin: Origin
) -> None:
    gate = threading.Event()
    origin.files["/model.bin"].gate = gate
    first = await new_cache()
    owner = asyncio.create_task(first.fetch(url, auth=GOOD))
    await until(has_begun(first))
    owner.cancel()
    await asyncio.wait([owner])
    await first.close()
    gate.set()
    state = folder / names(folder, "*.state.part").pop()
    part = state.with_name(state.name.replace(".state", ""))
    part.write_bytes(origin.files["/model.bin"].content)
    state.write_text(json.dumps({**json.loads(state.read_text()), "gaps": []}))
    second = await new_cache()
    with pytest.raises(AccessDenied):
        await second.fetch(url)
    assert (await second.fetch(url, auth=GOOD)).size == 100_000
    assert [seen.method for seen in origin.seen][-1] == "HEAD"


async def test_errors_of_a_shared_download_are_each_callers_own(
    url: str, cache: Cache, origin: Origin
) -> None:
    gate = threading.Event()
    origin.files["/model.bin"].on_get = lambda: gate.wait(5)
    waiting = [asyncio.create_task(cache.fetch(url)) for _ in range(2)]
    await until(lambda: origin.seen)
    gate.set()
    one, other = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(one, StorageError)
    assert isinstance(other, StorageError)
    assert one is not other
    assert len(origin.seen) == 1


@pytest.mark.parametrize("required", [True, False])
async def test_what_the_original_wrote_down_counts(
    url: str, new_cache: NewCache, folder: Path, origin: Origin, required: bool
) -> None:
    lease = await (await new_cache()).fetch(url, auth=GOOD)
    theirs = {"authRequired": required, "url": url, "cachedAt": "2025-01-01T00:00:00.000Z"}
    (folder / f"{lease.path.name}.meta").write_text(json.dumps(theirs))
    origin.files["/model.bin"].authorization = None
    cache = await new_cache()
    if required:
        with pytest.raises(AccessDenied):
            await cache.fetch(url)
        assert (await cache.fetch(url, auth=GOOD)).was_cached
        with pytest.raises(AccessDenied):
            await cache.fetch(url)
    else:
        assert (await cache.fetch(url)).was_cached
    assert len(origin.gets()) == 1


async def test_no_secret_is_in_any_file_log_or_message(
    origin: Origin, cache: Cache, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    data = noise(300_000)
    origin.put("/model.bin", data, cut_every=100_000)
    origin.put("/broken.bin", data, cut_every=100_000, ranges=False)
    query = QueryAuth(type="query", query_param="sig", query_value=SecretStr("planted-c"))
    asked = [
        (origin.url("/model.bin", "planted-user:planted-word"), None),
        (origin.url("/model.bin?token=planted-a"), None),
        (origin.url("/model.bin?b"), bearer("planted-b")),
        (origin.url("/model.bin?c"), query),
    ]
    said = []
    for url, auth in asked:
        lease = await cache.fetch(url, auth=auth)
        await lease.digest()
        said.append(repr(lease) + repr(cache.downloads()))
        with pytest.raises(StorageError) as caught:
            await cache.fetch(url.replace("/model", "/broken"), auth=auth)
        said.append(f"{caught.value} {caught.value.details}")
    said += [record.getMessage() for record in caplog.records]
    await cache.close()  # the locks of the last fetches are being removed
    for name in names(folder):
        said += [name, (folder / name).read_bytes().decode("latin-1")]
    assert not [text for text in said if "planted" in text]
