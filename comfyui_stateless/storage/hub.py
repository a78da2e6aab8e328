"""What the ways to the Hugging Face Hub have in common: its names for files, its API, its errors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple
from urllib.parse import quote

from pydantic import SecretStr

from ..errors import AccessDenied, ObjectNotFound, StorageError, TransferFailed
from .base import Cancel, Source
from .connections import Client, Request, Response
from .policy import parse
from .representation import retry_after_s

HUB = "https://huggingface.co"
MAX_ANSWER_BYTES = 4 * 1024 * 1024

_CODES: Mapping[str, tuple[type[StorageError], str]] = {
    "RepoNotFound": (
        ObjectNotFound,
        "there is no such repository, or it is private and needs a token that may read it.",
    ),
    "RevisionNotFound": (ObjectNotFound, "the repository has no such revision."),
    "EntryNotFound": (ObjectNotFound, "the repository has no such file at that revision."),
    "GatedRepo": (
        AccessDenied,
        "the repository is gated. Accept its licence on the Hub, and use a token of that account.",
    ),
}


class HubFile(NamedTuple):
    """A file on the Hub.

    Attributes:
        endpoint: The Hub's URL, without a slash at its end.
        kind: ``models``, ``datasets`` or ``spaces``.
        revision: A branch, a tag or a commit, decoded as ``path`` is.
    """

    endpoint: str
    kind: str
    repo: str
    revision: str
    path: str

    @property
    def page(self) -> str:
        """Where the repository is."""
        prefix = "" if self.kind == "models" else f"{self.kind}/"
        return f"{self.endpoint}/{prefix}{self.repo}"

    @property
    def url(self) -> str:
        """Where the file's bytes are."""
        return f"{self.page}/resolve/{quote(self.revision, safe='')}/{quote(self.path)}"

    def api(self, verb: str) -> str:
        """Return the URL of an operation on the repository at this revision."""
        revision = quote(self.revision, safe="")
        return f"{self.endpoint}/api/{self.kind}/{self.repo}/{verb}/{revision}"


@dataclass(frozen=True, slots=True)
class HubApi:
    """The Hub's API, and the storages that it sends us to, as one who has a token sees them."""

    endpoint: str
    token: str | None = field(repr=False)
    client: Client
    cancel: Cancel

    def post(self, url: str, source: Source) -> Any:
        """Send a body to the Hub; return what it answers in JSON, None for nothing of the kind.

        Raises:
            StorageError: The Hub refuses, or could not be reached; a subclass says how.
            Cancelled: It was cancelled.
        """
        with self.send("POST", url, source) as response:
            return _json(response)

    def send(self, method: str, url: str, source: Source) -> Response:
        """Send a body; only the Hub itself gets the token. The answer is a success.

        Raises:
            StorageError: It is none, or nobody was reached; a subclass says how.
            Cancelled: It was cancelled.
        """
        is_hub = parse(url).origin == parse(self.endpoint).origin
        request = Request(
            method,
            url,
            headers={"Accept": source.media_type},
            credentials=bearer(self.token) if is_hub else {},
            source=source,
        )
        response = self.client.request(request, self.cancel)
        if response.status < 300:
            return response
        with response:
            raise error_of(response) or _of_status(response)


def error_of(response: Response) -> StorageError | None:
    """Return what the Hub's own headers say of a failure, None where they say nothing."""
    code = response.headers.get("X-Error-Code", "")
    if code in _CODES:
        error, text = _CODES[code]
        return error(f"{response.target.redacted}: {text}")
    return _of_status(response) if "X-Error-Message" in response.headers else None


def bearer(token: str | None) -> dict[str, SecretStr]:
    """Return the header that carries a token, none where there is no token."""
    return {"Authorization": SecretStr(f"Bearer {token}")} if token else {}


def _of_status(response: Response) -> StorageError:
    status, place = response.status, response.target.redacted
    if status in (401, 403):
        return AccessDenied(f"{place} refuses the token, or it may not do this ({status}).")
    if status in (408, 409, 412, 429) or status >= 500:
        # 409 and 412: another commit was quicker.
        error = TransferFailed(f"{place} cannot be done now ({status}).")
        error.retry_after_s = retry_after_s(response.headers)
        return error
    return StorageError(f"{place} answers with the status {status}.")


def _json(response: Response) -> Any:
    buffer, body = memoryview(bytearray(64 * 1024)), bytearray()
    while len(body) < MAX_ANSWER_BYTES and (count := response.readinto(buffer)):
        body += buffer[:count]
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
