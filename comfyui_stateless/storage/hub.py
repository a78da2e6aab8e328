"""What the ways to the Hugging Face Hub have in common: how it names files and says what is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from pydantic import SecretStr

from ..errors import AccessDenied, ObjectNotFound, StorageError, TransferFailed


@dataclass(frozen=True, slots=True)
class HubFile:
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
    def url(self) -> str:
        """Where its bytes are."""
        prefix = "" if self.kind == "models" else f"{self.kind}/"
        revision = quote(self.revision, safe="")
        return f"{self.endpoint}/{prefix}{self.repo}/resolve/{revision}/{quote(self.path)}"

    def api(self, verb: str) -> str:
        """Return the URL of an operation on the repository at this revision."""
        revision = quote(self.revision, safe="")
        return f"{self.endpoint}/api/{self.kind}/{self.repo}/{verb}/{revision}"


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


def error_of_code(code: str, place: str) -> StorageError | None:
    """Return what an X-Error-Code of the Hub means, None where it is none that we know."""
    if code not in _CODES:
        return None
    error, text = _CODES[code]
    return error(f"{place}: {text}")


def error_of_status(status: int, place: str) -> StorageError:
    """Return what a status of the Hub means where it says no more."""
    if status in (401, 403):
        return AccessDenied(
            f"{place}: the Hub refuses the token, or it may not do this ({status})."
        )
    if status in (408, 409, 412, 429) or status >= 500:
        return TransferFailed(f"{place}: the Hub cannot do this now ({status}).")
    return StorageError(f"{place}: the Hub answers with the status {status}.")


def bearer(token: str | None) -> dict[str, SecretStr]:
    """Return the header that carries a token, none where there is no token."""
    return {"Authorization": SecretStr(f"Bearer {token}")} if token else {}
