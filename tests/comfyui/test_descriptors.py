"""That this process's own server can serve nobody any more is seen."""

from __future__ import annotations

import asyncio

import pytest

from comfyui_stateless.host import descriptors
from comfyui_stateless.host.descriptors import GONE, Descriptors


async def test_a_server_whose_socket_somebody_else_has_closed_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(descriptors, "LOOK_EVERY_S", 0.01)
    told: asyncio.Queue[str] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def tell(why: str) -> None:
        loop.call_soon_threadsafe(told.put_nowait, why)

    async with await asyncio.start_server(lambda *_: None, "127.0.0.1", 0) as server:
        Descriptors(tell).watch()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(told.get(), 0.05)
        server.close()
        assert await asyncio.wait_for(told.get(), 5) == GONE
