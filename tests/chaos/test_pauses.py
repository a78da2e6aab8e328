"""A process is stopped for a while and goes on, as where a machine is suspended or moved."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.chaos.arena import Arena
from tests.chaos.checker import Checker, no_process_is_left, until_none
from tests.chaos.test_launcher import Senders, require_own_outcomes
from tests.chaos.traffic import Traffic
from tests.comfyui.receiver import SECRET, receiving
from tests.comfyui.server import Install
from tests.comfyui.test_launcher import START_S, LaunchedComfyUI

PAUSE_S = 15.0
HANG_S = 30.0


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Have a process stand still for the block."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_comfyui_stands_still_under_load_and_goes_on(
    arena: Arena, traffic: Traffic, checker: Checker
) -> None:
    assert arena.server.process is not None
    with traffic.flowing():
        for pause_s in (1.0, PAUSE_S):
            time.sleep(1.0)
            with stopped(arena.server.process.pid):
                time.sleep(pause_s)
    checker.require(traffic, set())


def test_comfyui_and_the_launcher_stand_still_in_turns_and_neither_is_given_up(
    install: Install, tmp_path: Path
) -> None:
    with receiving() as receiver:
        settings = {"HTTP_TRUSTED_ORIGINS": receiver.origin, "WEBHOOK_SECRET": SECRET}
        launched = LaunchedComfyUI(install, tmp_path, COMFYUI_HANG_S=f"{HANG_S:g}", **settings)
        senders = Senders(launched, receiver, tmp_path / "runs")
        with launched:
            launched.until_ready(START_S)
            with senders.sending():
                time.sleep(1.0)
                (comfyui,) = launched.pids
                for pid in (comfyui, launched.process.pid):
                    with stopped(pid):
                        time.sleep(PAUSE_S)
                    time.sleep(1.0)
                # As one machine: longer than what counts as a hang.
                with stopped(launched.process.pid), stopped(comfyui):
                    time.sleep(HANG_S + 5)
                time.sleep(1.0)
            until_none(senders.missing, 60)
            assert launched.pids == [comfyui]
            assert senders.refused == []
            require_own_outcomes(senders)
        no_process_is_left(tmp_path)
