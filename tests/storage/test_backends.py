from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from comfyui_stateless.config import Settings
from comfyui_stateless.errors import ConfigError, HostRefused, UnsupportedURL
from comfyui_stateless.storage.azure import AzureTarget
from comfyui_stateless.storage.backends import Backends, open_backends
from comfyui_stateless.storage.base import Cancel
from comfyui_stateless.storage.s3 import S3Backend, S3Target
from tests.storage.answering import answering
from tests.storage.contract import read_all, whole
from tests.storage.seaweed import keys

EMULATOR = "http://127.0.0.1:10000/devstoreaccount1"
CONNECTION = f"AccountName=devstoreaccount1;AccountKey=c2VjcmV0;BlobEndpoint={EMULATOR}/"


def settings(connection_string: str | None = None) -> Settings:
    """Return the defaults and a connection string; the process's environment does not count."""
    return Settings.model_construct(
        azure_storage_connection_string=SecretStr(connection_string) if connection_string else None
    )


@pytest.fixture
def backends() -> Iterator[Backends]:
    opened = open_backends(settings())
    yield opened
    opened.close()


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("s3://bucket/key", "s3"),
        ("S3://bucket/key", "s3"),
        ("https://account.blob.core.windows.net/container/blob", "azure"),
        ("https://ACCOUNT.Blob.Core.Windows.Net/container/blob", "azure"),
        ("https://huggingface.co/a/b/resolve/main/c.safetensors", "huggingface"),
        ("https://example.com/a.png", "http"),
        ("http://127.0.0.1:8000/a.png", "http"),
        ("HTTPS://example.com/a.png", "http"),
        ("https://example.com/account.blob.core.windows.net/a", "http"),
        ("https://blob.core.windows.net.example.com/container/a", "http"),
        ("http://account.blob.core.windows.net/container/blob", "http"),
        (f"{EMULATOR}/container/blob", "http"),
    ],
)
def test_a_url_has_its_backend(backends: Backends, url: str, name: str) -> None:
    assert backends.for_url(url).name == name


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "gs://bucket/key", "data:text/plain,a", "a.png", "", "s3:/b/k"]
)
def test_any_other_url_has_none(backends: Backends, url: str) -> None:
    with pytest.raises(UnsupportedURL):
        backends.for_url(url)


def test_a_url_that_nobody_serves_is_shown_short_and_without_its_secrets(
    backends: Backends,
) -> None:
    with pytest.raises(UnsupportedURL) as caught:
        backends.for_url("ftp://user:hush@example.com/a?token=hush#hush")
    assert "hush" not in caught.value.message
    with pytest.raises(UnsupportedURL) as caught:
        backends.for_url("data:image/png;base64," + "A" * 1000)
    assert len(caught.value.message) < 250


def test_the_operators_emulator_is_azures() -> None:
    backends = open_backends(settings(CONNECTION))
    assert backends.for_url(f"{EMULATOR}/container/blob").name == "azure"
    assert backends.for_url("http://127.0.0.1:10000/another/container/blob").name == "http"
    assert backends.for_url("http://127.0.0.1:10001/devstoreaccount1/a/b").name == "http"


def test_targets_give_their_urls() -> None:
    backends = open_backends(settings(CONNECTION))
    s3 = S3Target(bucket="bucket", prefix="a prefix/x-")
    azure = AzureTarget(container="images", blob_prefix="a prefix/x-")
    assert backends.url_for(s3, "é#1.png") == "s3://bucket/a prefix/x-é#1.png"
    assert backends.url_for(azure, "é#1.png") == f"{EMULATOR}/images/a%20prefix/x-%C3%A9%231.png"


def test_without_an_account_there_is_no_azure_target(backends: Backends) -> None:
    with pytest.raises(UnsupportedURL, match="AZURE_STORAGE_CONNECTION_STRING"):
        backends.url_for(AzureTarget(container="images"), "a.png")


def test_a_connection_string_that_names_no_account_is_a_wrong_setting() -> None:
    with pytest.raises(ConfigError, match="AZURE_STORAGE_CONNECTION_STRING") as caught:
        open_backends(settings("hush=1;AccountKey=hush"))
    assert "hush" not in caught.value.message


def test_only_what_the_operator_names_may_be_at_a_private_address() -> None:
    with answering(200, {}, b"found") as (origin, _):
        url = f"{origin}/file"
        for_requests = open_backends(settings()).for_url(url)
        with pytest.raises(HostRefused):
            for_requests.open(url, None, None, Cancel())
        for_operator = open_backends(settings(), trusting=True).for_url(url)
        with for_operator.open(url, None, None, Cancel()) as download:
            assert read_all(download) == b"found"


def test_the_operators_s3_may_be_named_by_requests_too() -> None:
    with answering(200, {}, b"found") as (origin, _):
        auth = keys("someone", origin)
        backend = open_backends(settings().model_copy(update={"aws_endpoint_url": origin}))
        with backend.for_url("s3://bucket/key").open(
            "s3://bucket/key", auth, None, Cancel()
        ) as download:
            assert read_all(download) == b"found"
        with pytest.raises(HostRefused):
            backend.for_url(origin).open(f"{origin}/file", None, None, Cancel())


def test_the_region_is_the_operators(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-west-2")
    for region, expected in ((None, "us-west-2"), ("eu-central-1", "eu-central-1")):
        s3 = open_backends(settings().model_copy(update={"aws_region": region})).for_url("s3://b/k")
        assert isinstance(s3, S3Backend)
        assert s3._clients.of(None).meta.region_name == expected
        s3.close()


@pytest.mark.parametrize("url", ["s3://bucket/key", f"{EMULATOR}/container/blob"])
def test_a_signed_url_is_not_sent_the_operators_header(url: str) -> None:
    with answering(200, {}, b"found") as (origin, requests):
        account = CONNECTION.replace("http://127.0.0.1:10000", origin)
        backends = open_backends(
            Settings.model_construct(
                azure_storage_connection_string=SecretStr(account),
                http_auth_header_name="X-Operator",
                http_auth_header_value=SecretStr("hush"),
                http_trusted_origins=origin,
            )
        )
        url = url.replace("http://127.0.0.1:10000", origin)
        auth = keys("admin", origin) if url.startswith("s3:") else None
        assert whole(backends.for_url(url), url, auth) == b"found"
    [request] = requests
    assert "Signature=" in request["Path"] or "sig=" in request["Path"]
    assert "X-Operator" not in request


def test_opening_them_loads_no_sdk() -> None:
    code = (
        "import sys\n"
        "from comfyui_stateless.config import Settings\n"
        "from comfyui_stateless.storage.backends import open_backends\n"
        "backends = open_backends(Settings.load())\n"
        "backends.for_url('https://a.blob.core.windows.net/b/c')\n"
        "sdks = {'boto3', 'botocore', 'azure', 'huggingface_hub', 'requests', 'urllib3'}\n"
        "print(sorted(sdks & set(sys.modules)))"
    )
    environment = {**os.environ, "AZURE_STORAGE_ACCOUNT": "outputs"}
    root = Path(__file__).parents[2]
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True
    )
    assert (result.stdout, result.stderr) == ("[]\n", "")
