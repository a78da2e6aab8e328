from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from comfyui_stateless.config import HttpAccess
from comfyui_stateless.journal.journal import Journal
from comfyui_stateless.storage.policy import Policy
from comfyui_stateless.webhooks import Options, Webhooks
from tests.webhooks.receivers import Receiver, Sleeper

ANYWHERE = Policy(HttpAccess(trusted=frozenset({"*"})))

StartReceiver = Callable[..., Awaitable[Receiver]]
StartWebhooks = Callable[..., Awaitable[Webhooks]]


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    journal = await Journal.open(tmp_path / "state")
    yield journal
    await journal.close()


@pytest.fixture
async def receiver() -> AsyncIterator[StartReceiver]:
    """Give what starts a receiver that gives some answers."""
    async with AsyncExitStack() as stack:

        async def start(*answers: Any, **fields: Any) -> Receiver:
            started = await Receiver(list(answers), **fields).start()
            stack.push_async_callback(started.stop)
            return started

        yield start


@pytest.fixture
async def sender(journal: Journal) -> AsyncIterator[StartWebhooks]:
    """Give what starts the sender, by default one that may go anywhere and never waits."""
    async with AsyncExitStack() as stack:

        async def start(policy: Policy = ANYWHERE, **options: Any) -> Webhooks:
            options.setdefault("sleep", Sleeper())
            webhooks = Webhooks(journal, policy, Options(**options))
            stack.push_async_callback(webhooks.close)
            await webhooks.start()
            return webhooks

        yield start
