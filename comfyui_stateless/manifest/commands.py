"""Runs programs for entries: their output line by line, their end when nobody wants it."""

from __future__ import annotations

import asyncio
import codecs
import os
import re
import signal
from collections import deque
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..config import Settings, inherited
from ..errors import InstallationFailed
from .entries import Entry, shown
from .progress import Report

TAIL_LINES = 15
"""As many of the last lines of a program that failed are shown."""

MAX_LINE = 2000
"""Characters of a line that are shown."""

MAX_LINES = 20_000
"""Lines of a program's output that are kept."""

GRACE_S = 5.0
"""Seconds between the wish that a program ends and its end by force."""

NOT_STARTED = 1000
"""The code of a program that is not there, or no program."""

MAX_REST = 1024 * 1024
"""Characters of a line that is not yet at its end."""

CHUNK_BYTES = 64 * 1024

_ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")


@dataclass(frozen=True, slots=True)
class Output:
    """What came of a program.

    Attributes:
        code: Its exit code; negative is the signal that ended it; ``NOT_STARTED``.
        lines: What it wrote, to either stream; secrets may be in it.
    """

    code: int
    lines: tuple[str, ...] = field(repr=False)

    @property
    def text(self) -> str:
        """All lines."""
        return "\n".join(self.lines)

    @property
    def ending(self) -> str:
        """How it ended, with its last lines, for a message."""
        if self.code == NOT_STARTED:
            return self.lines[0]
        how = f"was ended by signal {-self.code}" if self.code < 0 else f"ended with {self.code}"
        last = [f"  {shown(line)[:MAX_LINE]}" for line in self.lines[-TAIL_LINES:]]
        return "\n".join([f"{how}. Its last lines:", *last]) if last else f"{how}, without a word"


@dataclass(frozen=True, slots=True)
class Command:
    """A program to be run.

    Attributes:
        variables: What its environment has beside ours; an empty value takes a variable out.
        stdin: What it reads. Secrets go there or into ``variables``: arguments are seen by all.
    """

    arguments: Sequence[str]
    cwd: Path | None = None
    variables: Mapping[str, str] = field(default_factory=dict, repr=False)
    stdin: str | None = field(default=None, repr=False)


async def run(command: Command, label: str = "", report: Report | None = None) -> Output:
    """Run a program to its end; cancelled, it and all that it has started are ended first.

    Args:
        label: The entry that it runs for.
        report: Told of each line that it writes.
    """
    lines, unwanted = _Lines(label, report), asyncio.Event()
    # In a task of its own: a cancellation while it starts would leave its children alone.
    running = asyncio.ensure_future(_run(command, lines, unwanted))
    try:
        code = await asyncio.shield(running)
    except asyncio.CancelledError:
        unwanted.set()
        await asyncio.wait({running})
        raise
    except OSError as error:
        return Output(NOT_STARTED, (f"cannot be started: {error.strerror}",))
    return Output(code, tuple(lines.kept))


async def _run(command: Command, lines: _Lines, unwanted: asyncio.Event) -> int:
    """Run a program until it ends, or is unwanted; return its exit code."""
    # A pipe of our own, because asyncio's keeps wait() from returning while a grandchild has it.
    reading_end, writing_end = os.pipe()
    try:
        process = await _start(command, writing_end)
    except BaseException:
        os.close(reading_end)
        raise
    finally:
        os.close(writing_end)
    talking = [
        asyncio.ensure_future(_read(reading_end, lines)),
        asyncio.ensure_future(_write(process, command.stdin or "")),
    ]
    await _until(process.wait(), unwanted.wait())
    await _end(process)
    await asyncio.wait(talking, timeout=GRACE_S)
    for task in talking:
        task.cancel()
    await asyncio.gather(*talking, return_exceptions=True)
    return await process.wait()


async def _start(command: Command, output: int) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *command.arguments,
        cwd=command.cwd,
        env=_environment(command.variables),
        stdin=asyncio.subprocess.DEVNULL if command.stdin is None else asyncio.subprocess.PIPE,
        stdout=output,
        stderr=output,
        start_new_session=True,
    )


async def _until(*events: Coroutine[Any, Any, object]) -> None:
    """Wait for the first of several things."""
    tasks = [asyncio.ensure_future(event) for event in events]
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _read(descriptor: int, lines: _Lines) -> None:
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    loop = asyncio.get_running_loop()
    transport, _ = await loop.connect_read_pipe(lambda: protocol, os.fdopen(descriptor, "rb"))
    try:
        while chunk := await reader.read(CHUNK_BYTES):
            lines.add(chunk)
    finally:
        transport.close()
        lines.end()


async def _write(process: asyncio.subprocess.Process, text: str) -> None:
    if process.stdin is not None:
        with suppress(ConnectionError):
            process.stdin.write(text.encode())
            await process.stdin.drain()
        process.stdin.close()


async def _end(process: asyncio.subprocess.Process) -> None:
    """End what is left of a program and of what it has started."""
    _signal(process.pid, signal.SIGTERM)
    if process.returncode is None:
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(process.wait(), GRACE_S)
    _signal(process.pid, signal.SIGKILL)


def _signal(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


class _Lines:
    """Makes lines of what a program writes; what a carriage return overwrites is left out."""

    def __init__(self, label: str, report: Report | None) -> None:
        self.kept: deque[str] = deque(maxlen=MAX_LINES)
        self._label = label
        self._report = report
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._rest = ""

    def add(self, chunk: bytes) -> None:
        *lines, self._rest = (self._rest + self._decoder.decode(chunk)).split("\n")
        if len(self._rest) > MAX_REST:  # a bar that never ends its line
            self._rest = self._rest[-MAX_LINE:]
        for line in lines:
            self._keep(line)

    def end(self) -> None:
        self._keep(self._rest)
        self._rest = ""

    def _keep(self, line: str) -> None:
        last = line.rstrip("\r").rpartition("\r")[2]
        if text := _ANSI.sub("", last).rstrip():
            self.kept.append(text)
            if self._report is not None:
                self._report.line(self._label, shown(text)[:MAX_LINE])


def failed(entries: Sequence[Entry], reason: str) -> InstallationFailed:
    """Return the error of entries, all of one list, that cannot be installed."""
    first, last = entries[0], entries[-1]
    where = first.where
    if last is not first:
        lines = f"lines {first.line} to {last.line}"
        where = f"{first.source}, {lines}, {first.path} to {last.path}"
    names = ", ".join(str(entry) for entry in entries)
    places = [{"line": entry.line, "path": entry.path} for entry in entries]
    return InstallationFailed(f"{where} ({names}): {reason}", details={"entries": places})


def proxy_variables(settings: Settings) -> dict[str, str]:
    """Return the variables that tell programs of the operator's proxies."""
    said = {
        "http_proxy": settings.http_proxy and settings.http_proxy.get_secret_value(),
        "https_proxy": settings.https_proxy and settings.https_proxy.get_secret_value(),
        "no_proxy": settings.no_proxy,
    }
    return {name: value for name, value in said.items() if value}


def _environment(variables: Mapping[str, str]) -> dict[str, str]:
    merged = {**inherited(), "NO_COLOR": "1", "PYTHONUNBUFFERED": "1", **variables}
    return {name: value for name, value in merged.items() if value}
