"""Outputs on their way to real storages, through everything that a job uses."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub.constants
import pytest
from pydantic import SecretStr, ValidationError

from comfyui_stateless.config import AzureAccount, HttpAccess, HuggingFaceAccess
from comfyui_stateless.engine import OutputFile
from comfyui_stateless.errors import DeliveryFailed, RequestError, Superseded
from comfyui_stateless.requests import parse_prompt
from comfyui_stateless.storage.azure import AzureTarget
from comfyui_stateless.storage.base import Backend
from comfyui_stateless.storage.connections import Client
from comfyui_stateless.storage.http import HttpTarget
from comfyui_stateless.storage.huggingface import HfTarget, HuggingFaceBackend
from comfyui_stateless.storage.policy import Policy
from comfyui_stateless.storage.s3 import S3Target
from comfyui_stateless.uploads import Uploads
from tests.storage.azurite import CONTAINER, Azurite, key_of
from tests.storage.contract import digest
from tests.storage.hub import READER, WRITER, Hub, running
from tests.storage.s3_store import S3Store
from tests.storage.seaweed import BUCKET
from tests.uploads.uploading import (
    AWKWARD_NAMES,
    LARGE_BYTES,
    SECRET,
    backends,
    delivered,
    failure,
    output,
)

REPO = "someone/things"
HUB = "https://huggingface.co"


def uploads_to(*others: Backend, azure: AzureAccount | None = None) -> Uploads:
    return Uploads(backends(*others, azure=azure), retry_delays=(0.01, 0.02))


@pytest.fixture
def contents() -> dict[str, bytes]:
    """Give what is uploaded: in memory and in a file, small and in parts."""
    found = {f"job/id_{name}": name.encode() * 50 for name in AWKWARD_NAMES}
    found |= {"empty.png": b"", "large.mp4": os.urandom(LARGE_BYTES)}
    return found


def outputs_of(contents: dict[str, bytes], folder: Path) -> list[OutputFile]:
    """Return them as outputs, in the same order; the large one lies in a file."""
    (file := folder / "large").write_bytes(contents["large.mp4"])
    in_memory = [output(name, body) for name, body in contents.items() if name != "large.mp4"]
    return [*in_memory, output("large.mp4", file, "video/mp4")]


# Names


@pytest.mark.parametrize(
    ("prefix", "name", "url"),
    [
        ("http://h", "a.png", "http://h/a.png"),
        ("http://h/", "a.png", "http://h/a.png"),
        ("http://h/x", "a/b.png", "http://h/x/a/b.png"),
        ("http://h/x/", "a.png", "http://h/x/a.png"),
        ("http://h/x///", "/a.png", "http://h/x/a.png"),
        ("https://Host:8443/X", "a.png", "https://Host:8443/X/a.png"),
        ("http://h/x", "a b#1?c=d%e.png", "http://h/x/a%20b%231%3Fc%3Dd%25e.png"),
        ("http://h/x", "ü日.png", "http://h/x/%C3%BC%E6%97%A5.png"),
        ("http://h/a b/ü/%41", "c.png", "http://h/a%20b/%C3%BC/%41/c.png"),
        ("http://h/x?sig=a/b%2F", "c.png", "http://h/x/c.png?sig=a/b%2F"),
        ("http://h?sig=1", "c.png", "http://h/c.png?sig=1"),
        ("http://user:p%40@h/x", "c.png", "http://user:p%40@h/x/c.png"),
        ("http://[::1]:80/x", "c.png", "http://[::1]:80/x/c.png"),
    ],
)
def test_an_http_prefix_and_a_name_make_a_url(prefix: str, name: str, url: str) -> None:
    assert HttpTarget(url_prefix=prefix).url_for(name) == url


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "h/x",
        "/x",
        "ftp://h/x",
        "s3://bucket/x",
        "file:///etc",
        "http://",
        "http://h:99999/x",
        "http://h\\x",
        "http://[::1/x",
        "http://h/x#part",
        f"http://user:{SECRET}@/x",
        f"http://user:{SECRET}@h:x/x",
        f"http://user:{SECRET}@h\u2100/x",
    ],
)
def test_what_is_no_prefix_of_urls_is_refused_with_its_place_and_without_its_secrets(
    prefix: str,
) -> None:
    body = {
        "prompt": {"1": {"class_type": "A", "inputs": {}}},
        "http_upload": {"url_prefix": prefix},
    }
    with pytest.raises(RequestError) as caught:
        parse_prompt(json.dumps(body).encode())
    assert caught.value.location == "http_upload.url_prefix"
    assert SECRET not in str(caught.value.body())
    with pytest.raises(ValidationError) as direct:
        HttpTarget(url_prefix=prefix)
    assert SECRET not in str(direct.value)


def test_an_http_target_shows_no_password_and_is_asynchronous_unless_it_says_otherwise() -> None:
    target = HttpTarget(url_prefix=f"http://user:{SECRET}@h/x")
    assert SECRET not in repr(target)
    assert target.is_async
    wire = {"url_prefix": "http://h", "async": False, "unknown": 1}
    assert not HttpTarget.model_validate(wire).is_async


# S3


async def test_outputs_arrive_in_s3(
    by_environment: S3Store, contents: dict[str, bytes], tmp_path: Path
) -> None:
    uploads = uploads_to(by_environment.backend)
    outputs = outputs_of(contents, tmp_path)
    urls = await delivered(uploads, S3Target(bucket=BUCKET, prefix="a b/x-"), outputs)
    assert urls == tuple(f"s3://{BUCKET}/a b/x-{name}" for name in contents)
    for name, body in contents.items():
        assert digest(by_environment.read(f"a b/x-{name}")) == digest(body)
    large = by_environment.server.raw.head_object(Bucket=BUCKET, Key="a b/x-large.mp4")
    assert large["ContentType"] == "video/mp4"
    assert large["ETag"].endswith('-5"'), "it came in parts"
    uploads.close()


async def test_in_s3_the_later_upload_to_a_url_is_what_stays(by_environment: S3Store) -> None:
    uploads = uploads_to(by_environment.backend)
    place, raw = S3Target(bucket=BUCKET, prefix="later/"), by_environment.server.raw
    old = asyncio.ensure_future(delivered(uploads, place, [output("a.png", bytes(LARGE_BYTES))]))
    deadline = time.monotonic() + 20
    while not raw.list_multipart_uploads(Bucket=BUCKET, Prefix="later/").get("Uploads"):
        assert time.monotonic() < deadline
        await asyncio.sleep(0)
    assert await delivered(uploads, place, [output("a.png", b"new")]) == (
        f"s3://{BUCKET}/later/a.png",
    )
    assert isinstance(await failure(old), Superseded)
    assert by_environment.read("later/a.png") == b"new"
    uploads.close()


async def test_a_bucket_that_refuses_fails_the_job(by_environment: S3Store) -> None:
    for what, (backend, _) in by_environment.refused.items():
        uploads = uploads_to(backend)
        place = S3Target(bucket=BUCKET, prefix="refused/")
        error = await failure(delivered(uploads, place, [output("a?b.png")]))
        assert isinstance(error, DeliveryFailed), what
        assert error.details == {"reason": "access_denied", "uploaded": []}
        assert f"s3://{BUCKET}/refused/a?b.png" in error.message
        assert not [s for s in by_environment.secrets if s in str(error.body())]
        uploads.close()


# Azure


async def test_outputs_arrive_in_azure(
    azure_server: Azurite, contents: dict[str, bytes], tmp_path: Path
) -> None:
    uploads = uploads_to(azure=azure_server.account())
    outputs = outputs_of(contents, tmp_path)
    place = AzureTarget(container=CONTAINER, blob_prefix="a b/x-")
    await uploads.check(place)
    urls = await delivered(uploads, place, outputs)
    for name, url in zip(contents, urls, strict=True):
        blob = azure_server.raw.get_blob_client(f"a b/x-{name}")
        assert url == blob.url.replace("%7E", "~")
        assert digest(blob.download_blob().readall()) == digest(contents[name])
    properties = azure_server.raw.get_blob_client("a b/x-large.mp4").get_blob_properties()
    assert properties.content_settings.content_type == "video/mp4"
    uploads.close()


async def test_a_container_that_is_signed_for_takes_http_uploads(azure_server: Azurite) -> None:
    uploads = uploads_to(azure=azure_server.account(key=key_of("nobody")))
    sas = azure_server.container_sas()
    place = HttpTarget(url_prefix=f"{azure_server.endpoint()}/{CONTAINER}/signed/?{sas}")
    urls = await delivered(uploads, place, [output("a b.png", b"signed")])
    assert urls == (f"{azure_server.endpoint()}/{CONTAINER}/signed/a%20b.png",)
    assert azure_server.raw.download_blob("signed/a b.png").readall() == b"signed"
    uploads.close()


# The Hub


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    monkeypatch.setattr(huggingface_hub.constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)
    with running(Hub()) as hub:
        hub.repo(REPO)
        yield hub


def uploads_to_hub(hub: Hub, token: str = WRITER) -> Uploads:
    http = HttpAccess(trusted=frozenset({hub.cdn_url}))
    access = HuggingFaceAccess(hub.url, SecretStr(token))
    return uploads_to(HuggingFaceBackend(access, Client(Policy(http)), http))


async def test_outputs_arrive_on_the_hub_in_one_commit(
    hub: Hub, contents: dict[str, bytes], tmp_path: Path
) -> None:
    uploads = uploads_to_hub(hub)
    many = [output(f"many/{n}.png", b"%d" % n) for n in range(100)]
    outputs = many + outputs_of(contents, tmp_path)
    place = HfTarget(repo=REPO, directory="some where")
    async with uploads.job(place) as job:
        for each in outputs[::2]:
            job.begin(each)
        await asyncio.sleep(0.05)
        assert hub.calls == [], "a commit has all of the outputs"
        urls = await job.finish(outputs)
    assert urls == tuple(place.url_for(each.filename) for each in outputs)
    assert urls[-1] == f"{HUB}/{REPO}/resolve/main/some%20where/large.mp4"
    assert hub.counted("/commit/") == 1
    for name, body in contents.items():
        assert digest(hub.content(REPO, f"some where/{name}")) == digest(body)
    assert hub.content(REPO, "some where/many/77.png") == b"77"
    uploads.close()


async def test_jobs_that_commit_at_once_all_succeed(hub: Hub) -> None:
    uploads = uploads_to_hub(hub)
    hub.refusals = [412, 409]
    place = HfTarget(repo=REPO)
    await asyncio.gather(
        *(delivered(uploads, place, [output(f"{n}.png", b"%d" % n)]) for n in range(4))
    )
    assert hub.counted("/commit/") == 6
    assert [hub.content(REPO, f"{n}.png") for n in range(4)] == [b"0", b"1", b"2", b"3"]
    uploads.close()


async def test_a_commit_that_is_refused_fails_the_job_and_leaves_nothing(
    hub: Hub, caplog: pytest.LogCaptureFixture
) -> None:
    uploads = uploads_to_hub(hub, READER)
    outputs = [output("a.png"), output("b.png", bytes(2000))]
    with caplog.at_level(logging.DEBUG):
        error = await failure(delivered(uploads, HfTarget(repo=REPO), outputs))
    assert isinstance(error, DeliveryFailed)
    assert error.details == {"reason": "access_denied", "uploaded": []}
    assert f"2 outputs, among them {HUB}/{REPO}/resolve/main/a.png," in error.message
    assert hub.counted("/commit/") == 0
    assert READER not in str(error.body()) + caplog.text
    uploads.close()


async def test_a_repository_that_is_not_there_fails_the_job(hub: Hub) -> None:
    uploads = uploads_to_hub(hub)
    error = await failure(delivered(uploads, HfTarget(repo="no/such"), [output("a.png")]))
    assert isinstance(error, DeliveryFailed)
    assert error.details["reason"] == "object_not_found"
    uploads.close()
