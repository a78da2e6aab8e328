"""Starts ComfyUI, watches it, starts it again, and ends it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..variables import LAUNCHER_MARK
from .backoff import Backoff
from .child import Child, Command
from .exit_codes import CANNOT_RUN, FAILED, shell_code
from .health import Health
from .life import Life, Phase
from .watch import Ending, Rules, Watch

log = logging.getLogger("comfyui_stateless.launcher")

SESSION = "__COMFY_CLI_SESSION__"
"""ComfyUI-Manager touches the file named here, with ``.reboot`` behind it, and ends for a reboot."""


class Supervisor:
    """Keeps one ComfyUI running. Make it on the event loop.

    Args:
        command: How to start it.
        health: Asks it.
        life: Where its state is written down.
        relay: Takes its output, line by line.
        scratch: A folder for files that are only of use while the launcher lives.
    """

    def __init__(
        self,
        command: Command,
        rules: Rules,
        health: Health,
        life: Life,
        relay: Callable[[str], None],
        scratch: Path,
        backoff: Backoff | None = None,
    ) -> None:
        self._session = scratch / "session"
        self._mark = (LAUNCHER_MARK, secrets.token_hex(8))
        more = {SESSION: str(self._session), self._mark[0]: self._mark[1]}
        self._command = replace(command, environment={**command.environment, **more})
        self._rules = rules
        self._health = health
        self._life = life
        self._relay = relay
        self._backoff = backoff or Backoff()
        self._child: Child | None = None
        self.was_up = asyncio.Event()

    async def run(self) -> int:
        """Keep ComfyUI running until it has ended for good; return the exit code.

        A call that is cancelled leaves the process as it is: ``drain`` comes next.
        """
        while True:
            ending = await self._live()
            if ending.is_wanted:
                log.info("%s It is started again.", ending.message)
                continue
            if ending.is_final or not self._rules.is_restarted:
                log.error("%s%s", ending.message, ending.last_lines)
                self._life.enter(Phase.DOWN, ending.message)
                return ending.code
            wait_s = self._backoff.next_s(ending.was_up_s)
            again = f"It is started again in {wait_s:.1f} s."
            log.error("%s %s%s", ending.message, again, ending.last_lines)
            await asyncio.sleep(wait_s)

    async def drain(self, at_once: asyncio.Event) -> int:
        """End ComfyUI: let it drain, and kill it if it does not end in time, or ``at_once`` is set.

        Returns:
            0, or the exit code of a process that had to be killed.
        """
        self._life.enter(Phase.DRAINING)
        child = self._child
        if child is None:
            return 0
        hurry: asyncio.Future[Any] = asyncio.ensure_future(at_once.wait())
        ending: asyncio.Future[Any] = asyncio.ensure_future(self._ends(child))
        try:
            await asyncio.wait({hurry, ending}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            hurry.cancel()
            ending.cancel()
        code = await child.finish()
        self._child = None
        return 0 if code in (0, -signal.SIGTERM, -signal.SIGINT) else shell_code(code)

    async def _ends(self, child: Child) -> None:
        """Have ComfyUI drain, and wait for its end as long as it may take."""
        limit_s = self._rules.grace_s + self._rules.margin_s
        deadline = time.monotonic() + limit_s
        child.tell(signal.SIGTERM)
        if not await child.is_over(limit_s):
            log.error("ComfyUI has not ended within %g s of SIGTERM and is killed.", limit_s)
        elif child.ended.result() == -signal.SIGTERM:
            # A script that runs ComfyUI dies without telling it.
            child.tell_all(signal.SIGTERM)
            await child.is_silent(deadline - time.monotonic())

    async def _live(self) -> Ending:
        """Start ComfyUI and watch it until it has ended, or has to."""
        self._life.enter(Phase.STARTING)
        self._session.with_name("session.reboot").unlink(missing_ok=True)
        try:
            _check_port(*self._rules.address)
            child = Child(self._command, self._relay, self._mark)
        except OSError as error:
            message = f"ComfyUI cannot be started: {error.strerror or error}."
            return Ending(FAILED, message, is_final=not self.was_up.is_set())
        self._child = child
        log.info("ComfyUI is starting, as process %d.", child.pid)
        watch = Watch(self._rules, self._health, self._life, self.was_up)
        watching = asyncio.ensure_future(watch.until_wrong())
        either: set[asyncio.Future[Any]] = {watching, child.ended}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        finally:
            watching.cancel()
        self._life.enter(Phase.DOWN)
        was_up_s, has_ended = watch.up_s, child.ended.done()
        await child.finish()
        self._child = None
        ending = self._ended(child, watch) if has_ended else watching.result()
        return replace(ending, was_up_s=was_up_s)

    def _ended(self, child: Child, watch: Watch) -> Ending:
        code = child.ended.result()
        if code == 0 and self._session.with_name("session.reboot").exists():
            return Ending(0, "ComfyUI has ended for a reboot.", is_wanted=True)
        how = f"of {_name(-code)}" if code < 0 else f"with exit code {code}"
        if watch.is_up:
            return Ending(shell_code(code), f"ComfyUI has ended {how}.")
        lines = f" Its last lines:{child.last_lines}" if child.last_lines else ""
        message = f"ComfyUI has ended {how} while it was starting."
        is_hopeless = code in CANNOT_RUN and not self.was_up.is_set()
        return Ending(shell_code(code), message, last_lines=lines, is_final=is_hopeless)


def _name(number: int) -> str:
    """Return the name of a signal, with what it mostly comes of."""
    name = signal.Signals(number).name if number in signal.valid_signals() else f"signal {number}"
    return f"{name} (is there enough memory?)" if number == signal.SIGKILL else name


def _check_port(host: str, port: int) -> None:
    """See that nobody listens where ComfyUI is going to.

    Raises:
        OSError: Somebody does, or the address cannot be listened on.
    """
    try:
        family, kind, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except socket.gaierror as error:
        raise OSError(error.errno, f"DIRECT_ADDRESS {host}: {error.strerror}") from error
    with contextlib.closing(socket.socket(family, kind)) as probe:
        # As ComfyUI's server does: connections of an earlier one may linger on the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
            probe.listen(1)
        except OSError as error:
            reason = f"port {port} of {host} cannot be used: {error.strerror}"
            raise OSError(error.errno, reason) from error
