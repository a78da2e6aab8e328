"""The end of the process: what runs is finished, what waits is left for the next start."""

from __future__ import annotations

import asyncio
import logging
import os
import signal

from .background import Background
from .errors import StatelessError, Unavailable
from .pipeline import Services
from .readiness import Phase

log = logging.getLogger("comfyui_stateless.draining")

REPLY_S = 2.0
"""Seconds that replies get to leave when their jobs have ended."""


class Drain:
    """Ends the process in order when it is told to with SIGTERM. Make it on the loop's thread."""

    def __init__(self, services: Services, background: Background) -> None:
        self._services = services
        self._background = background
        self._ending: asyncio.Task[None] | None = None

    def install(self) -> None:
        """Wait for SIGTERM, where the system has signals and this thread may handle them."""
        try:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self.begin)
        except (NotImplementedError, RuntimeError, ValueError) as error:
            log.info("SIGTERM is not waited for here: %s", error)

    def begin(self) -> None:
        """Begin to drain; told a second time, end at once."""
        if self._ending is None:
            self._ending = asyncio.ensure_future(self._drain())
        else:
            _end_process()

    async def _drain(self) -> None:
        grace_s = self._services.settings.shutdown_grace_s
        log.info("Draining: what runs has %g s to end", grace_s)
        try:
            await drain(self._services, self._background)
        except Exception:
            log.exception("Draining failed")
        _end_process()


async def drain(services: Services, background: Background) -> None:
    """Take no new work, let go of what waits in the journal, finish the rest within the grace."""
    jobs, grace_s = services.jobs, services.settings.shutdown_grace_s
    services.readiness.enter(Phase.DRAINING)
    background.park()
    if not await jobs.idle(grace_s):
        left = background.abandon()
        jobs.stop_all(_shutting_down, but=left)
        await jobs.idle(REPLY_S)
    await background.close()
    services.uploads.close()
    await services.cache.close()


def _shutting_down() -> StatelessError:
    return Unavailable("The server is shutting down.", headers={"Retry-After": "5"})


def _end_process() -> None:
    # ComfyUI ends itself on SIGINT: its server stops, its temporary files are removed. A shell
    # that starts it in the background has it ignored.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    os.kill(os.getpid(), signal.SIGINT)
