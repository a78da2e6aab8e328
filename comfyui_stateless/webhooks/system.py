"""System events: what the operator's own webhook is told of all jobs."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..journal import new_message_id
from ..storage.policy import Policy
from .parcels import MemoryBook, Parcel

log = logging.getLogger("comfyui_stateless.webhooks")

SENT_ONCE = frozenset({"progress", "progress_state", "status"})
"""Events of which only the latest counts."""

STORAGE_EVENTS = frozenset({"file_downloaded", "file_uploaded", "file_deleted"})
ALL_EVENTS = "all"

MAX_WAITING = 1000
MAX_WAITING_BYTES = 32 * 1024 * 1024
"""What may wait for a receiver that is down; what happens then is not told."""


@dataclass(frozen=True, slots=True)
class SystemWebhook:
    """The operator's webhook.

    Attributes:
        url: SYSTEM_WEBHOOK_URL; it is reached at any address.
        events: SYSTEM_WEBHOOK_EVENTS; ``all`` is every one.
        metadata: Sent along with each.
    """

    url: str = field(repr=False)
    events: frozenset[str]
    metadata: Mapping[str, str] = field(default_factory=dict)

    def wants(self, event: str) -> bool:
        return event in self.events or ALL_EVENTS in self.events


class SystemEvents:
    """Makes messages of events, as many as there is room for.

    Args:
        send: Takes a message, and what to call when it is off our hands.
        count: Counts an outcome by its name.
    """

    def __init__(
        self,
        webhook: SystemWebhook,
        policy: Policy,
        retries: int,
        send: Callable[[Parcel, Callable[[], None]], None],
        count: Callable[[str], None],
    ) -> None:
        self._webhook = webhook
        self._policy = policy.trusting(webhook.url)
        self._retries = retries
        self._send = send
        self._count = count
        self._latest: dict[tuple[str, str], bytes] = {}
        self._waiting = 0
        self._waiting_bytes = 0
        self._is_full = False

    def emit(self, event: str, data: Any, job: str) -> None:
        """Send an event, if the operator wants it.

        Args:
            data: JSON values.
            job: The id of the job that it belongs to, empty for none.
        """
        if not self._webhook.wants(event):
            return
        try:
            body = self._body(event, data)
        except (TypeError, ValueError) as error:
            self._count("dropped")
            log.warning("The event %s is no JSON and was dropped: %s", event, error)
            return
        if event in SENT_ONCE:
            self._emit_latest((event, job), body)
        elif self._has_room(len(body)):
            self._emit(job, body)

    def _emit_latest(self, key: tuple[str, str], body: bytes) -> None:
        """Send an event once; while it waits for its turn, a newer one takes its place."""
        is_waiting = key in self._latest
        self._latest[key] = body
        if is_waiting:
            self._count("thinned")
            return
        book = MemoryBook(lambda: self._latest.pop(key))
        self._send(self._parcel(key[1], book, retries=0), lambda: None)

    def _emit(self, job: str, body: bytes) -> None:
        def done() -> None:
            self._waiting -= 1
            self._waiting_bytes -= len(body)

        self._waiting += 1
        self._waiting_bytes += len(body)
        self._send(self._parcel(job, MemoryBook(lambda: body), self._retries), done)

    def _has_room(self, size: int) -> bool:
        was_full = self._is_full
        self._is_full = (
            self._waiting >= MAX_WAITING or self._waiting_bytes + size > MAX_WAITING_BYTES
        )
        if self._is_full:
            self._count("dropped")
            if not was_full:
                log.warning("SYSTEM_WEBHOOK_URL is too slow or down: events are dropped")
        return not self._is_full

    def _parcel(self, job: str, book: MemoryBook, retries: int) -> Parcel:
        return Parcel(new_message_id(), self._webhook.url, job, self._policy, book, retries)

    def _body(self, event: str, data: Any) -> bytes:
        prefix = "storage" if event in STORAGE_EVENTS else "comfy"
        message = {
            "event": f"{prefix}.{event}",
            "data": data,
            "metadata": dict(self._webhook.metadata),
        }
        return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()
