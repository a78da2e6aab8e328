"""The sender: every message that is due is under way, waits for its turn, or for its next try."""

from __future__ import annotations

import asyncio
import logging
import random
import ssl
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ..config import Proxies
from ..errors import HostRefused, StorageError, TransferFailed, UnsupportedURL
from ..journal import Message
from ..journal.journal import Journal
from ..naming import redacted
from ..storage.policy import Policy
from .parcels import JournalBook, Parcel
from .posting import Poster, Timeouts, Undeliverable
from .receivers import Receiver, Receivers
from .retries import Failure, Uniform, delay_s, failure_of
from .signing import Signer
from .system import SystemEvents, SystemWebhook

log = logging.getLogger("comfyui_stateless.webhooks")

THREADS = 32
"""That resolve names and sign: a resolver may hang for many seconds."""

SIGNED_AT_ONCE_BYTES = 64 * 1024
"""Bytes in memory up to which signing costs less than another thread does."""

NOTED_AGAIN_S, MOST_NOTED_AGAIN_S = 5.0, 60.0
"""Before the journal is told once more how a message ended; twice as long each time."""


@dataclass(frozen=True, slots=True)
class Options:
    """How messages are sent.

    Attributes:
        signer: Made of WEBHOOK_SECRET.
        retries: PROMPT_WEBHOOK_RETRIES: how often a message is tried again.
        system: Where system events go, None for nowhere.
        tls: In place of a context that trusts the system's authorities.
        clock: Gives Unix time.
        sleep: Waits for a number of seconds.
        uniform: Gives a number between two.
    """

    signer: Signer = field(default_factory=Signer)
    retries: int = 3
    system: SystemWebhook | None = None
    proxies: Proxies = field(default_factory=Proxies)
    timeouts: Timeouts = field(default_factory=Timeouts)
    tls: ssl.SSLContext | None = None
    clock: Callable[[], float] = time.time
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    uniform: Uniform = field(default=random.uniform)


class Webhooks:
    """Sends what a journal says is due, and system events; lives on one event loop."""

    def __init__(self, journal: Journal, policy: Policy, options: Options) -> None:
        self._journal = journal
        self._policy = policy
        self._options = options
        self._threads = ThreadPoolExecutor(THREADS, "stateless-webhooks")
        self._poster = Poster(options.proxies, options.timeouts, self._threads, options.tls)
        self._receivers = Receivers()
        self._outcomes: Counter[str] = Counter()
        self._tasks: set[asyncio.Task[None]] = set()
        self._asleep: set[asyncio.Task[None]] = set()
        self._is_closing = False
        self._system: SystemEvents | None = None
        if options.system is not None:
            self._system = SystemEvents(
                options.system, policy, options.retries, self._start, self._count
            )

    async def start(self) -> None:
        """Send what was due when the last process ended.

        Raises:
            StorageError: The journal cannot be read.
        """
        for message in await self._journal.due_messages():
            self.submit(message)

    async def check_url(self, url: str) -> None:
        """See that messages to ``url`` can ever be delivered. A name may resolve later.

        Raises:
            UnsupportedURL, HostRefused: They cannot.
        """
        target = self._policy.check_url(url)
        loop = asyncio.get_running_loop()
        with suppress(TransferFailed):
            await loop.run_in_executor(self._threads, self._policy.addresses, target)

    def submit(self, message: Message) -> None:
        """Send a message that the journal has recorded as due."""
        book = JournalBook(self._journal, message.message_id)
        parcel = Parcel(
            message.message_id, message.url, message.run_id, self._policy, book,
            self._options.retries, message.is_signed, message.attempts, message.wait_s,
        )  # fmt: skip
        self._start(parcel, lambda: None)

    def emit(self, event: str, data: Any, job: str = "") -> None:
        """Send a system event, if the operator wants it.

        Args:
            event: Its name, such as ``progress`` or ``file_uploaded``.
            data: JSON values.
            job: The id of the job that it belongs to.
        """
        if self._system is not None and not self._is_closing:
            self._system.emit(event, data, job)

    def outcomes(self) -> Mapping[str, int]:
        """Return how many messages were delivered, retried, given up, thinned and dropped."""
        return dict(self._outcomes)

    async def close(self, grace_s: float = 0) -> None:
        """End what is being sent within ``grace_s`` seconds; the journal keeps the rest."""
        self._is_closing = True
        for task in self._asleep:
            task.cancel()
        if busy := self._tasks - self._asleep:
            await asyncio.wait(busy, timeout=grace_s)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._poster.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _start(self, parcel: Parcel, done: Callable[[], None]) -> None:
        if self._is_closing:
            done()
            return
        task = asyncio.create_task(self._deliver(parcel))
        self._tasks.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            self._tasks.discard(task)
            done()
            if not task.cancelled() and (error := task.exception()):
                log.error("Sending webhook %s failed", parcel.message_id, exc_info=error)

        task.add_done_callback(ended)

    async def _deliver(self, parcel: Parcel) -> None:
        """Try until the message has arrived, is out of tries, or the sender is closed."""
        receiver = self._receivers.receiver(_origin(parcel, self._policy))
        lane = self._receivers.lane(parcel.job, parcel.url)
        failed, wait_s = parcel.attempts, parcel.wait_s
        while True:
            await self._pause(wait_s)
            async with self._receivers.turn(receiver, lane):
                failure = await self._attempt(parcel, receiver)
            if failure is None:
                await self._insist(parcel, parcel.book.delivered)
                return
            failed += 1
            if failure.is_final or failed > parcel.retries:
                await self._give_up(parcel, failure)
                return
            wait_s = delay_s(failed - 1, failure, self._options.uniform)
            await self._note(parcel, failure, wait_s)
            if self._is_closing:
                return

    async def _pause(self, seconds: float) -> None:
        if seconds <= 0:
            return
        task = asyncio.current_task()
        assert task is not None
        self._asleep.add(task)
        try:
            await self._options.sleep(seconds)
        finally:
            self._asleep.discard(task)

    async def _attempt(self, parcel: Parcel, receiver: Receiver) -> Failure | None:
        """Send a message once; return why it has not arrived."""
        try:
            failure = await self._post(parcel)
        except (HostRefused, UnsupportedURL) as error:
            failure = Failure(error.message, is_final=True)
        except (Undeliverable, StorageError) as error:
            failure = Failure(str(error))
        except OSError as error:
            failure = Failure(f"its body cannot be read ({error.strerror})")
        receiver.is_failing = failure is not None and not failure.is_final
        if failure is None:
            self._count("delivered")
        return failure

    async def _post(self, parcel: Parcel) -> Failure | None:
        body = await parcel.book.body()
        now = self._options.clock()
        sign = partial(
            self._options.signer.headers,
            parcel.message_id, int(now), body, is_signed=parcel.is_signed,
        )  # fmt: skip
        if body.path is None and body.size <= SIGNED_AT_ONCE_BYTES:
            headers = sign()
        else:
            headers = await asyncio.get_running_loop().run_in_executor(self._threads, sign)
        answer = await self._poster.post(parcel.url, headers, body, parcel.policy)
        return failure_of(answer.status, answer.headers, now)

    async def _note(self, parcel: Parcel, failure: Failure, wait_s: float) -> None:
        self._count("retried")
        log.warning(
            "Webhook %s to %s: %s; tried again in %.0f s",
            parcel.message_id, ascii(redacted(parcel.url)), ascii(failure.reason), wait_s,
        )  # fmt: skip
        # Where it cannot be noted, its end will be.
        if error := await self._error_of(parcel.book.failed(wait_s, failure.reason)):
            log.error("Webhook %s: %s", parcel.message_id, error.message)

    async def _give_up(self, parcel: Parcel, failure: Failure) -> None:
        self._count("given_up")
        log.error(
            "Webhook %s to %s was given up: %s",
            parcel.message_id, ascii(redacted(parcel.url)), ascii(failure.reason),
        )  # fmt: skip
        await self._insist(parcel, lambda: parcel.book.given_up(failure.reason))

    async def _insist(self, parcel: Parcel, note: Callable[[], Awaitable[None]]) -> None:
        """Note how a message ended, as soon as the journal takes it: else it is sent once more.

        If the process ends before, it is sent again after the restart, under the same id.
        """
        wait_s = NOTED_AGAIN_S
        while error := await self._error_of(note()):
            if wait_s == NOTED_AGAIN_S:
                log.error("Webhook %s: %s", parcel.message_id, error.message)
            if self._is_closing:
                return
            await self._pause(wait_s)
            wait_s = min(2 * wait_s, MOST_NOTED_AGAIN_S)

    async def _error_of(self, noting: Awaitable[None]) -> StorageError | None:
        try:
            await noting
        except StorageError as error:
            return error
        return None

    def _count(self, outcome: str) -> None:
        self._outcomes[outcome] += 1


def _origin(parcel: Parcel, policy: Policy) -> str:
    try:
        return policy.check_url(parcel.url).origin
    except UnsupportedURL:
        return ""
