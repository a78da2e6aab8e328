"""Azure's blobs: its REST interface over our own HTTP, with Azure's SDK for the credentials alone.

The operator's account signs each URL for one blob and one purpose; any other blob is fetched as
what it is, an HTTPS URL, with the credentials that the request or the URL brings.
"""

from __future__ import annotations

import base64
import hashlib
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar, NamedTuple
from urllib.parse import parse_qsl, quote, unquote

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from ..config import AzureAccount, HttpAccess
from ..errors import AccessDenied, ConfigError, StorageError, TransferFailed, UnsupportedURL
from .auth import Auth, BearerAuth
from .base import Cancel, Download, ObjectInfo, Source, Span
from .connections import Client, Response
from .http import HttpBackend
from .policy import Target, parse
from .vendors import hush, needed, until_done

VERSION = {"x-ms-version": "2021-12-02"}
"""Of the REST interface: bearer tokens and large blobs need a recent one."""
HOSTS = ".blob.core.windows.net"
SCOPE = "https://storage.azure.com/.default"
SIGNED_FOR = timedelta(hours=12)

BLOCK_BYTES = 8 * 1024 * 1024
"""What is larger is uploaded in blocks, which become a blob when all are there."""
MAX_BLOCKS = 50_000
CHUNK_BYTES = 1024 * 1024
BLOCKS_AT_ONCE = 4

_CODES: Mapping[str, tuple[type[StorageError], str]] = {
    "InvalidBlockList": (TransferFailed, "has lost a part of what was sent."),
    "Md5Mismatch": (TransferFailed, "got other bytes than were sent."),
    "PublicAccessNotPermitted": (AccessDenied, "wants credentials."),
}

ADVICE = (
    "AZURE_STORAGE_CONNECTION_STRING, or AZURE_STORAGE_ACCOUNT with AZURE_STORAGE_KEY or "
    "AZURE_STORAGE_SAS_TOKEN, are the credentials."
)


class AzureTarget(BaseModel):
    """Where outputs are uploaded to: ``blob_prefix`` stands in front of each name as it is."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="ignore", populate_by_name=True, defer_build=True
    )

    container: str = Field(pattern=r"^[$a-z0-9-]+$")
    blob_prefix: str = ""
    is_async: bool = Field(default=True, alias="async")


class _Account(NamedTuple):
    """The operator's account; with neither key nor SAS, the machine's identity is asked."""

    name: str
    endpoint: Target
    key: SecretStr | None
    sas: SecretStr | None

    @classmethod
    def of(cls, account: AzureAccount) -> _Account | None:
        """Read the settings; the connection string outranks the others.

        Raises:
            ConfigError: They name no account.
        """
        try:
            if account.connection_string is not None:
                return cls._parsed(account.connection_string.get_secret_value())
            if account.account is None:
                return None
            endpoint = parse(f"https://{account.account}{HOSTS}")
        except UnsupportedURL:
            raise ConfigError(
                "AZURE_STORAGE_CONNECTION_STRING or AZURE_STORAGE_ACCOUNT names no storage account."
            ) from None
        return cls(account.account, endpoint, account.key, account.sas_token)

    @classmethod
    def _parsed(cls, text: str) -> _Account:
        pairs = (part.partition("=") for part in text.split(";"))
        said = {name.strip().lower(): value.strip() for name, _, value in pairs}
        name, protocol = said.get("accountname", ""), said.get("defaultendpointsprotocol", "https")
        suffix = said.get("endpointsuffix", "core.windows.net")
        endpoint = parse(said.get("blobendpoint") or f"{protocol}://{name}.blob.{suffix}")
        key, sas = said.get("accountkey"), said.get("sharedaccesssignature")
        return cls(
            name or endpoint.host.partition(".")[0],
            endpoint,
            SecretStr(key) if key else None,
            SecretStr(sas) if sas else None,
        )

    @property
    def url(self) -> str:
        return self.endpoint.url.rstrip("/")

    def owns(self, target: Target) -> bool:
        return target.url.startswith(f"{self.url}/")

    def blob(self, target: Target) -> tuple[str, str]:
        """Return the container and the blob of a URL that is the account's."""
        path = target.url[len(self.url) + 1 :].partition("?")[0]
        container, _, blob = path.partition("/")
        if not container or not blob:
            raise UnsupportedURL(f"{target.redacted} has to name a container and a blob.")
        return unquote(container), unquote(blob)


class AzureBackend:
    """Reads and writes block blobs.

    Args:
        account: The operator's; its endpoint is trusted.
        client: For all requests.
    """

    name: ClassVar[str] = "azure"

    def __init__(self, account: AzureAccount, client: Client) -> None:
        self._account = _Account.of(account)
        self._client = client.trusting(self._account.url) if self._account else client
        self._identity = _Identity()

    def matches(self, url: str) -> bool:
        try:
            target = parse(url)
        except UnsupportedURL:
            return False
        if self._account and self._account.owns(target):
            return True
        return target.scheme == "https" and target.host.endswith(HOSTS)

    def url_for(self, target: AzureTarget, filename: str) -> str:
        """Return the URL that an output of this name gets.

        Raises:
            UnsupportedURL: The operator has set no account.
        """
        if self._account is None:
            raise UnsupportedURL(f"There is no Azure storage account to upload to. {ADVICE}")
        blob = quote(target.blob_prefix + filename, safe="/~")
        return f"{self._account.url}/{target.container}/{blob}"

    def head(self, url: str, auth: Auth | None, cancel: Cancel) -> ObjectInfo:
        with self._authorized(url, auth, "r", cancel) as (url, auth):
            return self._http().head(url, auth, cancel)

    def open(self, url: str, auth: Auth | None, span: Span | None, cancel: Cancel) -> Download:
        with self._authorized(url, auth, "r", cancel) as (url, auth):
            return self._http().open(url, auth, span, cancel)

    def put(self, url: str, source: Source, auth: Auth | None, cancel: Cancel) -> None:
        with self._authorized(url, auth, "cw", cancel) as (url, auth):
            if source.size <= BLOCK_BYTES:
                headers = {"x-ms-blob-type": "BlockBlob", **_checked(_md5(source, cancel))}
                self._http(headers).put(url, source, auth, cancel)
            else:
                self._put_blocks(url, source, auth, cancel)

    def close(self) -> None:
        self._identity.close()

    def _http(self, headers: dict[str, str] | None = None) -> HttpBackend:
        return _BlobHttp(self._client, HttpAccess(), {**VERSION, **(headers or {})})

    def _put_blocks(self, url: str, source: Source, auth: Auth | None, cancel: Cancel) -> None:
        size = max(BLOCK_BYTES, -(-source.size // MAX_BLOCKS))
        blocks = [_Block(n, n * size, size) for n in range(-(-source.size // size))]
        send = partial(self._put_block, url, source, auth, cancel)
        with ThreadPoolExecutor(BLOCKS_AT_ONCE) as threads:
            sent = threads.map(send, blocks)
            md5 = _md5(source, cancel)
            list(sent)
        listing = "".join(f"<Latest>{block.id}</Latest>" for block in blocks)
        body = f'<?xml version="1.0" encoding="utf-8"?><BlockList>{listing}</BlockList>'.encode()
        xml = Source(body, len(body), "application/xml")
        headers = {
            "x-ms-blob-content-type": source.media_type,
            "x-ms-blob-content-md5": md5,
            **_checked(_md5(xml, cancel)),
        }
        self._http(headers).put(_with_query(url, "comp=blocklist"), xml, auth, cancel)

    def _put_block(
        self, url: str, source: Source, auth: Auth | None, cancel: Cancel, block: _Block
    ) -> None:
        body = block.of(source)
        query = f"comp=block&blockid={quote(block.id, safe='')}"
        part = Source(body, len(body), "application/octet-stream")
        http = self._http(_checked(_md5(part, cancel)))
        http.put(_with_query(url, query), part, auth, cancel)

    @contextmanager
    def _authorized(
        self, url: str, auth: Auth | None, permission: str, cancel: Cancel
    ) -> Iterator[tuple[str, Auth | None]]:
        """Give the URL and the credentials to fetch with: the operator's where there are none."""
        target, account = parse(url), self._account
        if auth is not None or account is None or not account.owns(target) or _is_signed(target):
            yield url, auth
            return
        try:
            yield self._operators(account, target, permission, cancel)
        except AccessDenied as error:
            raise AccessDenied(f"{error.message} {ADVICE}") from error

    def _operators(
        self, account: _Account, target: Target, permission: str, cancel: Cancel
    ) -> tuple[str, Auth | None]:
        if account.key:
            return _with_query(target.url, _signature(account, target, permission)), None
        if account.sas:
            return _with_query(target.url, account.sas.get_secret_value().lstrip("?")), None
        if target.scheme != "https":
            raise AccessDenied(f"{target.redacted} is not encrypted: no token is sent there.")
        return target.url, BearerAuth(type="bearer", token=self._identity.token(cancel))


class _Block(NamedTuple):
    """A part of a file on its way; all ids of a blob have the same length."""

    number: int
    start: int
    size: int

    @property
    def id(self) -> str:
        return base64.b64encode(f"{self.number:08}".encode()).decode()

    def of(self, source: Source) -> bytes:
        if isinstance(source.body, Path):
            with source.body.open("rb") as file:
                file.seek(self.start)
                return file.read(self.size)
        return source.body[self.start : self.start + self.size]


class _BlobHttp(HttpBackend):
    """HTTP, with Azure's own words for what is wrong."""

    def _send(self, *arguments: Any, **options: Any) -> Response:
        response = super()._send(*arguments, **options)
        error, text = _CODES.get(response.headers.get("x-ms-error-code", ""), (None, ""))
        if error is None:
            return response
        with response:
            raise error(f"{response.target.redacted} {text}")


class _Identity:
    """The machine's own identity, as azure-identity finds it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._credential: Any = None

    def token(self, cancel: Cancel) -> SecretStr:
        """Return a token for Azure's storage; finding the identity may take seconds.

        Raises:
            MissingDependency: azure-identity is not there.
            AccessDenied: This machine has no identity.
        """
        return until_done(self._token, cancel)

    def _token(self) -> SecretStr:
        with needed("azure-identity", "Azure without a key or a SAS"):
            from azure.core.exceptions import AzureError
            from azure.identity import DefaultAzureCredential
        hush("azure", "msal", "urllib3")
        with self._lock:
            try:
                self._credential = self._credential or DefaultAzureCredential()
                return SecretStr(self._credential.get_token(SCOPE).token)
            except (AzureError, ValueError):
                # Their text repeats what each way to an identity has answered.
                raise AccessDenied("This machine has no identity that Azure knows.") from None

    def close(self) -> None:
        with self._lock:
            if self._credential is not None:
                self._credential.close()


def _signature(account: _Account, target: Target, permission: str) -> str:
    """Return a SAS for one blob: the query that lets its holder do what ``permission`` says."""
    with needed("azure-storage-blob", "Azure"):
        from azure.storage.blob import BlobSasPermissions, generate_blob_sas
    assert account.key is not None
    container, blob = account.blob(target)
    try:
        sas: str = generate_blob_sas(
            account.name,
            container,
            blob,
            account_key=account.key.get_secret_value(),
            permission=BlobSasPermissions.from_string(permission),
            expiry=datetime.now(timezone.utc) + SIGNED_FOR,
        )
    except ValueError:
        raise AccessDenied("The key of the Azure storage account is malformed.") from None
    return sas


def _is_signed(target: Target) -> bool:
    query = target.path.partition("?")[2]
    return any(name == "sig" for name, _ in parse_qsl(query))


def _md5(source: Source, cancel: Cancel) -> str:
    """Return what a body hashes to, in base64."""
    digest = hashlib.md5(usedforsecurity=False)
    with BytesIO(source.body) if isinstance(source.body, bytes) else source.body.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            cancel.check()
            digest.update(chunk)
    return base64.b64encode(digest.digest()).decode("ascii")


def _checked(md5: str) -> dict[str, str]:
    """Return the header that has Azure compare what arrives with what was sent."""
    return {"Content-MD5": md5}


def _with_query(url: str, query: str) -> str:
    return f"{url}{'&' if '?' in url else '?'}{query}"
