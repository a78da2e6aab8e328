from __future__ import annotations

import hashlib
import socket
import sys
import uuid
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pydantic import SecretStr

from comfyui_stateless.config import HttpAccess, Proxies
from comfyui_stateless.errors import (
    AccessDenied,
    HostRefused,
    MissingDependency,
    ObjectNotFound,
    UnsupportedURL,
)
from comfyui_stateless.storage.auth import Auth, BearerAuth, QueryAuth
from comfyui_stateless.storage.base import Cancel, Digest, Source, Span
from comfyui_stateless.storage.connections import Client
from comfyui_stateless.storage.http import HttpBackend
from comfyui_stateless.storage.policy import Policy
from comfyui_stateless.storage.s3 import S3Backend, _Object
from tests.storage.contract import (
    OCTETS,
    BackendContract,
    attempts,
    read_all,
    whole,
)
from tests.storage.s3_store import (
    WRONG_SECRET,
    S3Store,
    at_endpoint,
    from_environment,
    s3_backend,
)
from tests.storage.seaweed import ADMIN, BUCKET, READER, STRANGER, Seaweed
from tests.storage.tiny_proxy import proxy_to

pytestmark = pytest.mark.usefixtures("no_aws")


@pytest.fixture(scope="module")
def by_request(s3_server: Seaweed) -> S3Store:
    origin = s3_server.origin
    backend = s3_backend(origin)
    refused = {
        "a stranger": at_endpoint(STRANGER, origin),
        "a wrong secret": at_endpoint(WRONG_SECRET, origin),
    }
    return S3Store(
        s3_server,
        origin,
        backend,
        at_endpoint(ADMIN, origin),
        refused={what: (backend, auth) for what, auth in refused.items()},
    )


class TestEnvironment(BackendContract):
    """With the operator's credentials and endpoint, through boto3."""

    @pytest.fixture
    def store(self, by_environment: S3Store) -> S3Store:
        return replace(by_environment, folder=uuid.uuid4().hex)


class TestRequestEndpoint(BackendContract):
    """With credentials and an endpoint that the request names, through signed URLs."""

    @pytest.fixture
    def store(self, by_request: S3Store) -> S3Store:
        return replace(by_request, folder=uuid.uuid4().hex)


# Who is asked, and as whom


@pytest.fixture
def url(by_environment: S3Store) -> str:
    """Return the URL of an object that is there."""
    store = replace(by_environment, folder=uuid.uuid4().hex)
    store.write("there.bin", b"found")
    return store.url("there.bin")


def test_the_requests_keys_outrank_the_environments(s3_server: Seaweed, url: str) -> None:
    as_admin = from_environment(ADMIN, s3_server.origin)
    as_stranger = from_environment(STRANGER, s3_server.origin)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", s3_server.origin)
        assert whole(as_stranger, url, ADMIN) == b"found"
        with pytest.raises(AccessDenied, match="request's own credentials"):
            whole(as_admin, url, STRANGER)


@pytest.mark.parametrize("by_endpoint", [True, False])
def test_who_may_only_read_cannot_write(s3_server: Seaweed, url: str, by_endpoint: bool) -> None:
    if by_endpoint:
        backend, auth = s3_backend(s3_server.origin), at_endpoint(READER, s3_server.origin)
    else:
        backend, auth = from_environment(READER, s3_server.origin), None
    assert whole(backend, url, auth) == b"found"
    with pytest.raises(AccessDenied):
        backend.put(url, Source(b"mine", 4, OCTETS), auth, Cancel())
    assert whole(backend, url, auth) == b"found"


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", None])
def test_a_profile_brings_keys_and_perhaps_the_endpoint(
    s3_server: Seaweed,
    url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    variable: str | None,
) -> None:
    (file := tmp_path / "config").write_text(
        f"[profile outputs]\naws_access_key_id = {ADMIN.access_key_id}\n"
        f"aws_secret_access_key = {ADMIN.secret_access_key.get_secret_value()}\n"
        + (f"endpoint_url = {s3_server.origin}\n" if variable is None else "")
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(file))
    monkeypatch.setenv("AWS_PROFILE", "outputs")
    if variable is not None:
        monkeypatch.setenv(variable, s3_server.origin)
    assert whole(s3_backend(), url) == b"found"


def test_a_profile_that_is_not_there_is_access_denied(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "nobodys")
    with pytest.raises(AccessDenied, match="ProfileNotFound"):
        whole(s3_backend(), url)


@pytest.mark.parametrize("by_endpoint", [True, False])
def test_objects_go_through_a_proxy(s3_server: Seaweed, by_endpoint: bool) -> None:
    endpoint, name = "http://s3.nowhere.example", f"s3://{BUCKET}/{uuid.uuid4().hex}"
    with proxy_to(urlsplit(s3_server.origin).port or 0) as proxy:
        proxies = Proxies(http=proxy.url, https=proxy.url)
        access = HttpAccess(trusted=frozenset({endpoint}))
        client = Client(Policy(access), proxies)
        backend = S3Backend(HttpBackend(client, access), proxies)
        auth = at_endpoint(ADMIN, endpoint) if by_endpoint else ADMIN
        with pytest.MonkeyPatch.context() as environment:
            if not by_endpoint:
                environment.setenv("AWS_ENDPOINT_URL", endpoint)
            backend.put(name, Source(b"by proxy", 8, OCTETS), auth, Cancel())
            assert whole(backend, name, auth) == b"by proxy"
        backend.close()
    assert proxy.heads
    assert all(f"http://s3.nowhere.example/{BUCKET}/" in head for head in proxy.heads)
    assert all("Proxy-Authorization: Basic" in head for head in proxy.heads)


def test_without_a_region_the_usual_one_is_signed_for() -> None:
    place, keys = _Object.of("s3://bucket/key"), at_endpoint(ADMIN, "https://s3.example.com")
    assert "%2Fus-east-1%2Fs3%2F" in s3_backend()._signed("get_object", place, keys)
    there = keys.model_copy(update={"region": "eu-west-3"})
    assert "%2Feu-west-3%2Fs3%2F" in s3_backend()._signed("get_object", place, there)


def test_a_bucket_is_in_the_path_but_at_amazon_in_the_name() -> None:
    keys = at_endpoint(ADMIN, "https://s3.example.com/base")
    elsewhere = s3_backend()._signed("get_object", _Object.of("s3://bucket/a b%41/é"), keys)
    assert elsewhere.startswith("https://s3.example.com/base/bucket/a%20b%2541/%C3%A9?")
    operators = from_environment(ADMIN, "https://s3.example.com")._clients.of(None)
    assert operators.meta.config.s3["addressing_style"] == "path"
    amazons = s3_backend()._clients.of(ADMIN)
    assert amazons.meta.endpoint_url == "https://s3.amazonaws.com"
    assert "addressing_style" not in (amazons.meta.config.s3 or {})


def test_a_session_token_is_signed_for() -> None:
    place, keys = _Object.of("s3://bucket/key"), at_endpoint(ADMIN, "https://s3.example.com")
    keys = keys.model_copy(update={"session_token": SecretStr("the-token")})
    assert "X-Amz-Security-Token=the-token" in s3_backend()._signed("get_object", place, keys)


def test_a_signed_url_that_has_expired_is_access_denied(
    s3_server: Seaweed, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    access = HttpAccess(trusted=frozenset({s3_server.origin}))
    http = HttpBackend(Client(Policy(access)), access)
    keys, backend = at_endpoint(ADMIN, s3_server.origin), s3_backend()
    assert whole(http, backend._signed("get_object", _Object.of(url), keys)) == b"found"
    long_ago = datetime.now(timezone.utc) - timedelta(days=1)
    monkeypatch.setattr("botocore.auth.get_current_datetime", lambda *_: long_ago)
    with pytest.raises(AccessDenied):
        whole(http, backend._signed("get_object", _Object.of(url), keys))


def test_a_requests_endpoint_has_to_be_public_or_trusted(s3_server: Seaweed, url: str) -> None:
    auth = at_endpoint(ADMIN, s3_server.origin)
    for attempt in attempts(s3_backend(), auth, url):
        with pytest.raises(HostRefused):
            attempt()


@pytest.mark.parametrize("bucket", ["bucket--use1-az4--x-s3", "arn:aws:s3:us-east-1:1:accesspoint"])
def test_nothing_is_sent_to_an_endpoint_that_is_refused(bucket: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        auth = at_endpoint(ADMIN, f"http://127.0.0.1:{listener.getsockname()[1]}")
        for attempt in attempts(s3_backend(), auth, f"s3://{bucket}/key"):
            with pytest.raises((HostRefused, UnsupportedURL)):
                attempt()
        with pytest.raises(BlockingIOError):
            listener.accept()


@pytest.mark.parametrize("endpoint", ["nowhere", "ftp://host", "http://[bad", "http://a b", ""])
def test_an_endpoint_that_is_no_address_is_refused(endpoint: str) -> None:
    for attempt in attempts(s3_backend(), at_endpoint(ADMIN, endpoint), "s3://bucket/key"):
        with pytest.raises(UnsupportedURL):
            attempt()


def test_a_region_that_is_none_is_refused() -> None:
    auth = ADMIN.model_copy(update={"region": "example.com/#"})
    for attempt in attempts(s3_backend(), auth, "s3://bucket/key"):
        with pytest.raises(UnsupportedURL):
            attempt()


@pytest.mark.parametrize(
    "auth",
    [
        BearerAuth(type="bearer", token=SecretStr("hush")),
        QueryAuth(type="query", query_param="a", query_value=SecretStr("hush")),
    ],
)
def test_other_kinds_of_credentials_are_refused(auth: Auth) -> None:
    for attempt in attempts(s3_backend(), auth, "s3://bucket/key"):
        with pytest.raises(UnsupportedURL, match=f"of the type s3, not {auth.type}"):
            attempt()


@pytest.mark.parametrize("address", ["s3://", "s3://bucket", "s3://bucket/", "s3:///key"])
def test_a_url_names_a_bucket_and_a_key(address: str) -> None:
    for attempt in attempts(s3_backend(), None, address):
        with pytest.raises(UnsupportedURL):
            attempt()


def test_without_boto3_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    for attempt in attempts(s3_backend(), None, "s3://bucket/key"):
        with pytest.raises(MissingDependency, match="boto3"):
            attempt()


# What the storage says


def test_a_bucket_that_is_not_there_is_not_found(s3_server: Seaweed) -> None:
    backend = from_environment(ADMIN, s3_server.origin)
    # SeaweedFS makes a bucket that an administrator writes to.
    for attempt in attempts(backend, None, "s3://no-such-bucket/key")[:2]:
        with pytest.raises(ObjectNotFound):
            attempt()


def test_a_name_and_a_digest_come_with_the_object(s3_server: Seaweed) -> None:
    backend, key = from_environment(ADMIN, s3_server.origin), uuid.uuid4().hex
    s3_server.raw.put_object(
        Bucket=BUCKET,
        Key=key,
        Body=b"1",
        ContentDisposition='attachment; filename="a name.bin"',
        ChecksumAlgorithm="SHA256",
    )
    info = backend.head(f"s3://{BUCKET}/{key}", None, Cancel())
    assert info.filename == "a name.bin"
    assert info.digest == Digest("sha256", hashlib.sha256(b"1").hexdigest())
    with backend.open(f"s3://{BUCKET}/{key}", None, None, Cancel()) as download:
        assert download.info == info


@pytest.mark.parametrize("by", ["environment", "request"])
def test_the_md5_of_an_object_of_one_part_is_in_its_etag(s3_server: Seaweed, by: str) -> None:
    key = uuid.uuid4().hex
    s3_server.raw.put_object(Bucket=BUCKET, Key=key, Body=b"0123")
    if by == "environment":
        backend, auth = from_environment(ADMIN, s3_server.origin), None
    else:
        backend, auth = s3_backend(s3_server.origin), at_endpoint(ADMIN, s3_server.origin)
    with backend.open(f"s3://{BUCKET}/{key}", auth, None, Cancel()) as download:
        md5 = hashlib.md5(b"0123").hexdigest()
        assert download.info.digest == Digest("md5", md5, is_assumed=True)


def test_a_span_behind_the_end_gives_the_whole_object(by_environment: S3Store, url: str) -> None:
    with by_environment.backend.open(url, None, Span(5), Cancel()) as download:
        assert (download.offset, read_all(download)) == (0, b"found")
