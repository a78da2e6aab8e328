from __future__ import annotations

import hashlib
import json
import os
import sys
import time
import traceback
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from urllib.parse import quote, unquote

import pytest
from pydantic import SecretStr

from comfyui_stateless.config import AzureAccount, HttpAccess
from comfyui_stateless.errors import (
    AccessDenied,
    HostRefused,
    MissingDependency,
    ObjectNotFound,
    StorageError,
    TransferFailed,
    UnsupportedURL,
)
from comfyui_stateless.storage.auth import Auth, QueryAuth
from comfyui_stateless.storage.azure import BLOCK_BYTES, AzureBackend, _Identity
from comfyui_stateless.storage.base import Backend, Cancel, Digest, Source, Span
from comfyui_stateless.storage.connections import Client
from comfyui_stateless.storage.policy import Policy
from tests.storage.answering import answering
from tests.storage.azurite import ACCOUNT, CONTAINER, OTHER, Azurite, key_of
from tests.storage.contract import OCTETS, BackendContract, attempts, failure, whole
from tests.storage.relay import changing
from tests.storage.seaweed import ADMIN

WRONG_KEY = key_of("nobody")


@pytest.fixture(scope="module", autouse=True)
def _no_azure() -> Iterator[None]:
    """Keep the settings of the machine that runs the tests out of them."""
    with pytest.MonkeyPatch.context() as environment:
        for name in [name for name in os.environ if name.startswith("AZURE_")]:
            environment.delenv(name)
        yield


def azure_backend(account: AzureAccount, *trusted: str) -> AzureBackend:
    return AzureBackend(account, Client(Policy(HttpAccess(trusted=frozenset(trusted)))))


@dataclass
class AzureStore:
    """A folder of the emulator's container, with the account's credentials."""

    server: Azurite
    origin: str
    backend: Backend
    auth: Auth | None = None
    refused: dict[str, tuple[Backend, Auth | None]] = field(default_factory=dict)
    folder: str = ""
    signature: str | None = None
    secrets: tuple[str, ...] = (key_of(ACCOUNT), WRONG_KEY, "sig=")

    def url(self, name: str) -> str:
        return f"{self.origin}/{ACCOUNT}/{CONTAINER}/{quote(f'{self.folder}/{name}')}"

    def write(self, name: str, content: bytes, media_type: str = OCTETS) -> None:
        from azure.storage.blob import ContentSettings

        self.server.raw.upload_blob(
            f"{self.folder}/{name}",
            content,
            overwrite=True,
            content_settings=ContentSettings(content_type=media_type),
        )

    def read(self, name: str) -> bytes:
        from azure.core.exceptions import ResourceNotFoundError

        try:
            content: bytes = self.server.raw.download_blob(f"{self.folder}/{name}").readall()
        except ResourceNotFoundError as error:
            raise FileNotFoundError(name) from error
        return content

    def at(self, origin: str) -> AzureStore:
        if self.signature is None:
            backend = azure_backend(self.server.account(origin=origin))
        else:
            backend = signed(origin, self.signature)
        return replace(self, origin=origin, backend=backend)


@pytest.fixture(scope="module")
def by_key(azure_server: Azurite) -> AzureStore:
    backend = azure_backend(azure_server.account())
    wrong = azure_backend(azure_server.account(key=WRONG_KEY))
    bad_query = QueryAuth(type="query", query_param="sig", query_value=SecretStr("forged"))
    return AzureStore(
        azure_server,
        azure_server.origin,
        backend,
        refused={"a wrong key": (wrong, None), "a forged signature": (backend, bad_query)},
    )


class TestAccountKey(BackendContract):
    """With the operator's connection string."""

    @pytest.fixture
    def store(self, by_key: AzureStore) -> AzureStore:
        return replace(by_key, folder=uuid.uuid4().hex)


class TestSharedAccessSignature(BackendContract):
    """With a connection string that holds a signature for the container."""

    @pytest.fixture
    def store(self, azure_server: Azurite) -> AzureStore:
        signature = azure_server.container_sas()
        forged = signature.replace("sig=", "sig=A")
        return AzureStore(
            azure_server,
            azure_server.origin,
            signed(azure_server.origin, signature),
            refused={"a forged signature": (signed(azure_server.origin, forged), None)},
            folder=uuid.uuid4().hex,
            signature=signature,
        )


def signed(origin: str, signature: str) -> AzureBackend:
    text = f"BlobEndpoint={origin}/{ACCOUNT};SharedAccessSignature={signature}"
    return azure_backend(AzureAccount(connection_string=SecretStr(text)))


# Who is asked, and as whom


@pytest.fixture
def there(by_key: AzureStore) -> tuple[str, str]:
    """Return the name and the URL of a blob that is there."""
    store = replace(by_key, folder=uuid.uuid4().hex)
    store.write("there.bin", b"found")
    return f"{store.folder}/there.bin", store.url("there.bin")


def test_a_signature_in_the_url_outranks_the_environment(
    azure_server: Azurite, there: tuple[str, str]
) -> None:
    name, url = there
    wrong = azure_backend(azure_server.account(key=WRONG_KEY))
    right = azure_backend(azure_server.account())
    assert whole(wrong, f"{url}?{azure_server.sas(name)}") == b"found"
    with pytest.raises(AccessDenied):
        whole(right, f"{url}?{azure_server.sas('another.bin')}")


@pytest.mark.parametrize("what", ["tampered", "expired", "for another blob", "for writing alone"])
def test_a_signature_that_does_not_fit_is_access_denied(
    azure_server: Azurite, there: tuple[str, str], what: str
) -> None:
    name, url = there
    signatures = {
        "tampered": azure_server.sas(name).replace("sp=r", "sp=rw"),
        "expired": azure_server.sas(name, lasts_s=-60),
        "for another blob": azure_server.sas("another.bin"),
        "for writing alone": azure_server.sas(name, "w"),
    }
    with pytest.raises(AccessDenied) as caught:
        whole(azure_backend(AzureAccount(), azure_server.origin), f"{url}?{signatures[what]}")
    assert "sig=" not in caught.value.message


def test_a_signature_for_reading_does_not_let_write(
    azure_server: Azurite, there: tuple[str, str]
) -> None:
    name, url = there
    url = f"{url}?{azure_server.sas(name)}"
    backend = azure_backend(azure_server.account())
    for size in (4, BLOCK_BYTES + 1):
        with pytest.raises(AccessDenied):
            backend.put(url, Source(bytes(size), size, OCTETS), None, Cancel())
    assert whole(backend, url) == b"found"


@pytest.mark.parametrize("size", [4, BLOCK_BYTES, BLOCK_BYTES + 1])
def test_a_signature_in_the_url_lets_write(azure_server: Azurite, size: int) -> None:
    name = f"{uuid.uuid4().hex}/é+#.bin"
    url = f"{azure_server.endpoint()}/{CONTAINER}/{quote(name)}?{azure_server.sas(name, 'cw')}"
    content = os.urandom(size)
    backend = azure_backend(AzureAccount(), azure_server.origin)
    backend.put(url, Source(content, size, "image/png"), None, Cancel())
    blob = azure_server.raw.get_blob_client(name)
    assert blob.download_blob().readall() == content
    assert blob.get_blob_properties().content_settings.content_type == "image/png"


@pytest.mark.parametrize("size", [4, BLOCK_BYTES + 1])
def test_what_is_written_has_an_md5_of_the_whole_blob_also_for_who_reads_a_part(
    by_key: AzureStore, size: int
) -> None:
    store, content = replace(by_key, folder=uuid.uuid4().hex), os.urandom(size)
    url = store.url("a.bin")
    store.backend.put(url, Source(content, size, OCTETS), None, Cancel())
    for span in (None, Span(1, 3)):
        with store.backend.open(url, None, span, Cancel()) as download:
            assert download.info.digest == Digest("md5", hashlib.md5(content).hexdigest())


@pytest.mark.parametrize("size", [4000, BLOCK_BYTES + 1])
def test_what_is_changed_on_its_way_is_not_taken(by_key: AzureStore, size: int) -> None:
    store, content = replace(by_key, folder=uuid.uuid4().hex), bytes(size)
    with changing(store.origin, b"\0" * 100, b"\1" * 100) as between:
        there = store.at(between)
        with pytest.raises(StorageError):
            there.backend.put(there.url("a.bin"), Source(content, size, OCTETS), None, Cancel())
    with pytest.raises(FileNotFoundError):
        store.read("a.bin")


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("InvalidBlockList", TransferFailed),
        ("Md5Mismatch", TransferFailed),
        ("PublicAccessNotPermitted", AccessDenied),
    ],
)
def test_azures_own_words_say_whether_trying_again_may_help(
    code: str, error: type[StorageError]
) -> None:
    with answering(400, {"x-ms-error-code": code}, b"") as (origin, _):
        text = f"BlobEndpoint={origin}/{ACCOUNT};AccountName={ACCOUNT};AccountKey={key_of(ACCOUNT)}"
        backend = azure_backend(AzureAccount(connection_string=SecretStr(text)))
        with pytest.raises(error):
            backend.put(f"{origin}/{ACCOUNT}/a/b", Source(b"1", 1, OCTETS), None, Cancel())


def test_a_signature_in_the_requests_credentials_outranks_the_urls(
    azure_server: Azurite, there: tuple[str, str]
) -> None:
    name, url = there
    signature, forged = azure_server.sas(name), "sig=forged"
    query, _, value = signature.rpartition("&sig=")
    auth = QueryAuth(type="query", query_param="sig", query_value=SecretStr(unquote(value)))
    backend = azure_backend(AzureAccount(), azure_server.origin)
    assert whole(backend, f"{url}?{query}&{forged}", auth) == b"found"


def test_the_account_is_not_used_for_another(azure_server: Azurite) -> None:
    azure_server.container(OTHER).upload_blob("theirs.bin", b"theirs", overwrite=True)
    url = f"{azure_server.endpoint(OTHER)}/{CONTAINER}/theirs.bin"
    for attempt in attempts(azure_backend(azure_server.account()), None, url):
        assert isinstance(failure(attempt), AccessDenied | ObjectNotFound)
    assert whole(azure_backend(azure_server.account(name=OTHER)), url) == b"theirs"


def test_a_blob_of_nobody_in_particular_needs_credentials(
    azure_server: Azurite, there: tuple[str, str]
) -> None:
    for attempt in attempts(azure_backend(AzureAccount(), azure_server.origin), None, there[1]):
        assert isinstance(failure(attempt), AccessDenied | ObjectNotFound)


def test_an_account_that_leads_to_a_private_address_is_refused() -> None:
    policy = Policy(HttpAccess(), resolve=lambda *_: ["127.0.0.1"])
    backend = AzureBackend(AzureAccount(), Client(policy))
    url = "https://account.blob.core.windows.net/container/blob?sig=a"
    assert backend.matches(url)
    for attempt in attempts(backend, None, url):
        with pytest.raises(HostRefused):
            attempt()


def test_other_kinds_of_credentials_are_refused(azure_server: Azurite) -> None:
    url = f"{azure_server.endpoint()}/{CONTAINER}/a.bin"
    for attempt in attempts(azure_backend(azure_server.account()), ADMIN, url):
        with pytest.raises(UnsupportedURL, match="s3"):
            attempt()


@pytest.mark.parametrize("path", ["/", f"/{CONTAINER}", f"/{CONTAINER}/"])
def test_a_url_names_a_container_and_a_blob(azure_server: Azurite, path: str) -> None:
    backend = azure_backend(azure_server.account())
    for attempt in attempts(backend, None, azure_server.endpoint() + path):
        with pytest.raises(UnsupportedURL):
            attempt()


def test_a_container_that_is_not_there_is_not_found(azure_server: Azurite) -> None:
    backend = azure_backend(azure_server.account())
    for attempt in attempts(backend, None, f"{azure_server.endpoint()}/no-such/blob"):
        with pytest.raises(ObjectNotFound):
            attempt()


def test_a_key_that_is_no_base64_is_access_denied_and_not_shown(azure_server: Azurite) -> None:
    backend = azure_backend(azure_server.account(key="hushs"))
    with pytest.raises(AccessDenied, match="malformed") as caught:
        whole(backend, f"{azure_server.endpoint()}/{CONTAINER}/a.bin")
    assert "hush" not in "".join(traceback.format_exception(caught.value))


# The machine's own identity


def test_no_token_is_sent_without_encryption(azure_server: Azurite) -> None:
    text = SecretStr(f"AccountName={ACCOUNT};BlobEndpoint={azure_server.endpoint()}")
    backend = azure_backend(AzureAccount(connection_string=text))
    for attempt in attempts(backend, None, f"{azure_server.endpoint()}/{CONTAINER}/a.bin"):
        with pytest.raises(AccessDenied, match="not encrypted"):
            attempt()


def test_without_azure_identity_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "azure.identity", None)
    backend = azure_backend(AzureAccount(account="outputs"))
    with pytest.raises(MissingDependency, match="azure-identity"):
        whole(backend, "https://outputs.blob.core.windows.net/container/blob")


def test_without_the_sdk_the_error_names_it(
    azure_server: Azurite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "azure.storage.blob", None)
    with pytest.raises(MissingDependency, match="azure-storage-blob"):
        whole(azure_backend(azure_server.account()), f"{azure_server.endpoint()}/{CONTAINER}/a.bin")


def test_a_machine_with_an_identity_gets_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    body = json.dumps(
        {"access_token": "the-token", "expires_on": int(time.time()) + 3600, "resource": "storage"}
    )
    with answering(200, {"Content-Type": "application/json"}, body.encode()) as (origin, asked):
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"{origin}/msi/token")
        monkeypatch.setenv("IDENTITY_HEADER", "hush")
        monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "ManagedIdentityCredential")
        identity = _Identity()
        assert identity.token(Cancel()).get_secret_value() == "the-token"
        assert identity.token(Cancel()).get_secret_value() == "the-token"
        identity.close()
    assert len(asked) == 1
    assert "storage.azure.com" in unquote(asked[0]["Path"])


def test_a_machine_without_one_is_access_denied(monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(400, {"Content-Type": "application/json"}, b'{"error": "hush"}') as (origin, _):
        monkeypatch.setenv("IDENTITY_ENDPOINT", f"{origin}/msi/token")
        monkeypatch.setenv("IDENTITY_HEADER", "hush")
        monkeypatch.setenv("AZURE_TOKEN_CREDENTIALS", "ManagedIdentityCredential")
        backend = azure_backend(AzureAccount(account="outputs"))
        with pytest.raises(AccessDenied, match="AZURE_STORAGE_KEY") as caught:
            whole(backend, "https://outputs.blob.core.windows.net/container/blob")
        backend.close()
    assert "hush" not in "".join(traceback.format_exception(caught.value))
