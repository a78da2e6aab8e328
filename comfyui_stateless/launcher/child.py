"""One process of ComfyUI, with all that it starts: in a session of its own, and gone as one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .lines import Lines

LEASH = Path(__file__).with_name("leash.py")
CHUNK_BYTES = 64 * 1024
REMEMBERED_LINES = 20

END_S = 2.0
"""Seconds that the output gets to end once the whole group has been killed."""


@dataclass(frozen=True, slots=True)
class Command:
    """How ComfyUI is started.

    Attributes:
        words: The program and its arguments; they show in the list of processes.
        environment: All variables; secrets belong here.
        folder: Where it starts.
    """

    words: Sequence[str]
    environment: Mapping[str, str]
    folder: Path


class Child:
    """ComfyUI's process. Make it on the event loop's thread; call ``finish`` whatever happens.

    Args:
        relay: Takes its output, line by line.
        mark: A variable of its environment by which processes are known that it has left behind.

    Raises:
        OSError: It cannot be started.
    """

    def __init__(
        self, command: Command, relay: Callable[[str], None], mark: tuple[str, str]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._relay = relay
        self._mark = "=".join(mark).encode()
        self._lines = Lines()
        self._remembered: deque[str] = deque(maxlen=REMEMBERED_LINES)
        self._silent = asyncio.Event()
        self.ended: asyncio.Future[int] = self._loop.create_future()
        reading, self._leash = os.pipe()
        try:
            self._process = _start(command, reading)
        except OSError:
            os.close(self._leash)
            raise
        finally:
            os.close(reading)
        assert self._process.stdout is not None
        self._output = self._process.stdout
        os.set_blocking(self._output.fileno(), False)
        self._loop.add_reader(self._output.fileno(), self._hear)
        threading.Thread(target=self._wait, name="comfyui", daemon=True).start()

    @property
    def pid(self) -> int:
        """The number of the process, and of its group."""
        return self._process.pid

    @property
    def is_alive(self) -> bool:
        """Whether the process, as far as is known, runs."""
        return not self.ended.done()

    @property
    def last_lines(self) -> str:
        """The last lines of its output, indented, as a text to end a message with."""
        return "".join(f"\n    {line}" for line in self._remembered)

    def tell(self, number: signal.Signals) -> None:
        """Send a signal to the process alone."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    def tell_all(self, number: signal.Signals) -> None:
        """Send a signal to the process and all of its group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    async def is_over(self, within_s: float) -> bool:
        """Wait until the process has ended; say whether it has."""
        await asyncio.wait({self.ended}, timeout=within_s)
        return self.ended.done()

    async def is_silent(self, within_s: float) -> bool:
        """Wait until nothing is left that could write to its output; say whether that is so."""
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(self._silent.wait(), within_s)
        return self._silent.is_set()

    async def finish(self) -> int:
        """Kill what is left of it and of all that it has started; return its exit code.

        The code is negative for the signal that it died of.
        """
        try:
            self.tell_all(signal.SIGKILL)
            code = await asyncio.shield(self.ended)
            for pid in _strays(self._mark):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            await self.is_silent(END_S)
            return code
        finally:
            self._close()

    def _wait(self) -> None:
        code = self._process.wait()
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(self._end, code)

    def _end(self, code: int) -> None:
        if not self.ended.done():
            self.ended.set_result(code)

    def _hear(self) -> None:
        try:
            data = os.read(self._output.fileno(), CHUNK_BYTES)
        except BlockingIOError:
            return
        for line in self._lines.feed(data) if data else self._lines.rest():
            self._remembered.append(line)
            self._relay(line)
        if not data:
            self._loop.remove_reader(self._output.fileno())
            self._silent.set()

    def _close(self) -> None:
        if not self._output.closed:
            self._loop.remove_reader(self._output.fileno())
            self._output.close()
            self._silent.set()
            os.close(self._leash)


def _start(command: Command, leash: int) -> subprocess.Popen[bytes]:
    leashed = [sys.executable, "-I", "-S", str(LEASH), str(leash), *command.words]
    return subprocess.Popen(  # noqa: S603  the operator's own command
        leashed,
        cwd=command.folder,
        env=dict(command.environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        bufsize=0,
        start_new_session=True,
        pass_fds=(leash,),
    )


def _strays(mark: bytes) -> list[int]:
    """Return the processes with a variable in their environment, where the system tells."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            variables = (folder / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if mark in variables:
            found.append(int(folder.name))
    return found
