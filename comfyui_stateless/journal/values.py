"""The values that go into the journal and come out of it. All times are Unix time in seconds."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

Source = bytes | Path | Iterable[bytes]
"""Bytes to keep: as they are, in a file that is copied, or in chunks that a thread asks for."""


def new_message_id() -> str:
    """Return an id for a message, the same for each of its attempts."""
    return f"msg_{uuid.uuid4().hex}"


@dataclass(frozen=True, slots=True)
class Content:
    """Bytes that the journal keeps: in memory where they are few, else in a file of its own."""

    size: int
    data: bytes | None = field(default=None, repr=False)
    path: Path | None = None

    def read(self) -> bytes:
        """Return all of the bytes; blocks where they lie in a file."""
        if self.data is not None:
            return self.data
        assert self.path is not None
        return self.path.read_bytes()


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """A caller's key, and the digest of the body that it came with."""

    key: str = field(repr=False)
    digest: str


class KeyOwner(NamedTuple):
    """The run that a key belongs to, and the digest of the body that it came with."""

    run_id: str
    digest: str


@dataclass(frozen=True, slots=True)
class NewJob:
    """A job that is about to be accepted.

    Attributes:
        run_id: Its own id.
        id: The caller's id.
        request: What is needed to run it again, as JSON, without credentials or API keys.
        needs_secrets: Whether running it again would need what ``request`` leaves out.
        files: Files that running it again needs, by a name of the caller's choice.
        key: Its idempotency key, if it came with one.
    """

    run_id: str
    id: str
    request: bytes = field(repr=False)
    needs_secrets: bool = False
    files: Mapping[str, Source] = field(default_factory=dict, repr=False)
    key: IdempotencyKey | None = None


class AcceptedJob(NamedTuple):
    """A job that was accepted and is not finished; ``attempts`` counts the runs begun so far."""

    run_id: str
    id: str
    needs_secrets: bool
    attempts: int


class JobContents(NamedTuple):
    """What an accepted job came with."""

    request: Content
    files: Mapping[str, Content]


@dataclass(frozen=True, slots=True)
class DueMessage:
    """A message that is to be recorded as due.

    Attributes:
        message_id: The same for every attempt, ``msg_…``.
        url: The receiver.
        body: JSON.
        is_signed: Whether it carries the Standard Webhooks headers.
    """

    message_id: str
    url: str = field(repr=False)
    body: Source = field(repr=False)
    is_signed: bool = True


@dataclass(frozen=True, slots=True)
class Message:
    """A message that is due; its body stays in the journal until it is asked for.

    Attributes:
        attempts: How many have failed so far.
        wait_s: Seconds until the next one is due.
    """

    message_id: str
    run_id: str
    url: str = field(repr=False)
    is_signed: bool
    attempts: int = 0
    wait_s: float = 0


@dataclass(frozen=True, slots=True)
class GivenUp:
    """A message that is not tried any more, and why."""

    message_id: str
    run_id: str
    url: str = field(repr=False)
    attempts: int
    error: str
    at: float


@dataclass(frozen=True, slots=True)
class StoredResult:
    """How a job ended.

    Attributes:
        meta: What was recorded of it.
        files: Its files by name; None where RESULT_MAX_BYTES left no room for the bytes.
    """

    run_id: str
    id: str
    finished_at: float
    meta: Mapping[str, Any] = field(repr=False)
    files: Mapping[str, Content | None] = field(repr=False)


class Stats(NamedTuple):
    """Numbers for the metrics.

    Attributes:
        unfinished: Jobs accepted and not finished.
        due: Messages not delivered yet.
        oldest_due_s: Seconds since the oldest of them was recorded, 0 if there is none.
        given_up: Messages out of tries that are still listed.
        bytes: Of jobs and messages.
        result_bytes: Of results.
    """

    unfinished: int
    due: int
    oldest_due_s: float
    given_up: int
    bytes: int
    result_bytes: int
