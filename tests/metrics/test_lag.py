from __future__ import annotations

import asyncio
import time

import pytest

from comfyui_stateless.metrics import lag
from comfyui_stateless.metrics.lag import LoopLag
from tests.fakes import eventually


async def test_a_loop_that_is_held_up_shows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lag, "INTERVAL_S", 0.01)
    measured: list[float] = []
    meter = LoopLag(measured.append)
    meter.start()
    await eventually(lambda: len(measured) >= 3)
    time.sleep(0.2)  # noqa: ASYNC251 - what is to be seen
    await eventually(lambda: max(measured) >= 0.15)
    assert min(measured) >= 0
    meter.stop()
    count = len(measured)
    await asyncio.sleep(0.03)
    assert len(measured) == count
