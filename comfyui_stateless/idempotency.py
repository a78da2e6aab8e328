"""Requests that are sent again under one Idempotency-Key are answered, not run, a second time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from .errors import KeyReused, StatelessError
from .journal import IdempotencyKey, StoredResult
from .recording import recorded_reply
from .shared import SharedRun

if TYPE_CHECKING:
    from .journal.journal import Journal

Answer = SharedRun | Mapping[str, Any] | StoredResult
"""A run to join, the body of a 202, or the result that is kept of what a key began before."""


class _Live(NamedTuple):
    digest: str
    answer: asyncio.Future[Answer]


class Idempotency:
    """Knows which keys are taken, and by what.

    Args:
        journal: Remembers the keys of what was accepted, and of what is kept.
    """

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._live: dict[str, _Live] = {}

    async def once(self, key: IdempotencyKey, begin: Callable[[], Awaitable[Answer]]) -> Answer:
        """Begin what a request asks for, unless its key has begun it before.

        Raises:
            KeyReused: The key came with another body.
            StatelessError: It cannot be begun; the key is free again.
        """
        while live := self._live.get(key.key):
            _require_same(live.digest, key)
            answer = await asyncio.shield(live.answer)
            if not isinstance(answer, SharedRun) or not answer.is_stopped:
                return answer
            await answer.settled()  # its callers have hung up, this one perhaps among them
        live = _Live(key.digest, asyncio.get_running_loop().create_future())
        self._live[key.key] = live
        try:
            answer = await self._known(key) or await begin()
        except BaseException as error:
            self._fail(key, live, error)
            raise
        live.answer.set_result(answer)
        if isinstance(answer, SharedRun):
            answer.when_settled(lambda: self._live.pop(key.key, None))
        else:
            del self._live[key.key]  # the journal has it
        return answer

    def _fail(self, key: IdempotencyKey, live: _Live, error: BaseException) -> None:
        """Let those who wait for the same request fail alike."""
        del self._live[key.key]
        if isinstance(error, StatelessError):
            live.answer.set_exception(error)
            live.answer.exception()  # looked at, also if nobody waits
        else:
            live.answer.cancel()

    async def _known(self, key: IdempotencyKey) -> Answer | None:
        owner = await self._journal.key(key.key)
        if owner is None:
            return None
        _require_same(owner.digest, key)
        try:
            contents = await self._journal.job_contents(owner.run_id)
            return recorded_reply(await asyncio.to_thread(contents.request.read))
        except (LookupError, FileNotFoundError):  # it is finished by now
            return await self._journal.result_of_run(owner.run_id)


def _require_same(digest: str, key: IdempotencyKey) -> None:
    if digest != key.digest:
        raise KeyReused("This Idempotency-Key came with another request before.")
