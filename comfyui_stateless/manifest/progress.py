"""How an installation tells how far it is: bars on a terminal, lines in a log."""

from __future__ import annotations

import logging
import sys
import threading
import time
from contextlib import AbstractContextManager, ExitStack
from typing import Any, Protocol, TextIO

log = logging.getLogger("comfyui_stateless.manifest")

LOG_INTERVAL_S = 10.0
"""Seconds between two lines of the log on one download."""

WIDTH = 40
"""Characters of an entry's name in front of its bar."""


class Report(Protocol):
    """Told how far an installation is; an entry is named by its text, without secrets.

    All is called on one thread, entries side by side within a step.
    """

    def step(self, title: str, entries: int) -> None:
        """A step of as many entries begins."""

    def begun(self, entry: str) -> None:
        """Something is to be done for an entry."""

    def moved(self, entry: str, done: int, total: int | None) -> None:
        """So many bytes of an entry are there, of so many if that is known."""

    def line(self, entry: str, text: str) -> None:
        """A program that runs for an entry has written a line."""

    def ended(self, entry: str, outcome: str) -> None:
        """An entry is done, or has failed."""

    def warn(self, text: str) -> None:
        """Something is not as the manifest says, and the installation goes on."""


class LogReport:
    """Writes lines to the log."""

    def __init__(self, interval_s: float = LOG_INTERVAL_S) -> None:
        self._interval_s = interval_s
        self._told: dict[str, float] = {}

    def __enter__(self) -> LogReport:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing stays open."""

    def step(self, title: str, entries: int) -> None:
        log.info("%s: %d in the manifest", title, entries)

    def begun(self, entry: str) -> None:
        if entry not in self._told:
            self._told[entry] = time.monotonic()
            log.info("%s: begun", entry)

    def moved(self, entry: str, done: int, total: int | None) -> None:
        now = time.monotonic()
        if now - self._told.get(entry, 0.0) >= self._interval_s:
            self._told[entry] = now
            log.info("%s: %s", entry, amount(done, total))

    def line(self, entry: str, text: str) -> None:
        log.info("%s: %s", entry, text)

    def ended(self, entry: str, outcome: str) -> None:
        self._told.pop(entry, None)
        log.info("%s: %s", entry, outcome)

    def warn(self, text: str) -> None:
        log.warning("%s", text)


class BarReport:
    """Draws a bar for the step and one for each download, and writes lines above them.

    Inside the block, what is logged to the terminal stays clear of the bars too.
    """

    def __init__(self, stream: TextIO) -> None:
        from tqdm import tqdm

        tqdm.set_lock(threading.RLock())
        tqdm.monitor_interval = 0
        self._tqdm: Any = tqdm
        self._stream = stream
        self._step: Any = None
        self._bars: dict[str, Any] = {}
        self._stack = ExitStack()

    def __enter__(self) -> BarReport:
        self._stack.enter_context(_logging_above_bars())
        return self

    def __exit__(self, *_: object) -> None:
        for bar in (*self._bars.values(), *([self._step] if self._step else [])):
            bar.close()
        self._bars, self._step = {}, None
        self._stack.close()

    def step(self, title: str, entries: int) -> None:
        if self._step is not None:
            self._step.close()
        self._step = self._tqdm(
            total=entries, desc=title, file=self._stream, unit="", dynamic_ncols=True
        )

    def begun(self, entry: str) -> None:
        """The step's bar says enough until bytes come."""

    def moved(self, entry: str, done: int, total: int | None) -> None:
        bar = self._bars.get(entry)
        if bar is None:
            bar = self._bars[entry] = self._tqdm(
                total=total, desc=entry[-WIDTH:], file=self._stream, unit="B", unit_scale=True,
                unit_divisor=1024, leave=False, dynamic_ncols=True, initial=done,
            )  # fmt: skip
        bar.total = total
        bar.update(done - bar.n)

    def line(self, entry: str, text: str) -> None:
        self._write(f"{entry}: {text}")

    def ended(self, entry: str, outcome: str) -> None:
        if (bar := self._bars.pop(entry, None)) is not None:
            bar.close()
        self._write(f"{entry}: {outcome}")
        if self._step is not None:
            self._step.update(1)

    def warn(self, text: str) -> None:
        self._write(f"Warning: {text}")

    def _write(self, text: str) -> None:
        self._tqdm.write(text, file=self._stream)


def open_report(stream: TextIO | None = None) -> LogReport | BarReport:
    """Return what tells how far an installation is, for a ``with`` block.

    Args:
        stream: Where bars go if it is a terminal; else lines go to the log. By default, stderr.
    """
    stream = sys.stderr if stream is None else stream
    return BarReport(stream) if stream.isatty() else LogReport()


def amount(done: int, total: int | None) -> str:
    """Return bytes for people, such as ``1.5 GiB of 6.0 GiB (25 %)``."""
    if not total:
        return size(done)
    return f"{size(done)} of {size(total)} ({100 * done // total} %)"


def size(count: float) -> str:
    """Return a number of bytes for people."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} bytes" if unit == "bytes" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def _logging_above_bars() -> AbstractContextManager[None]:
    from tqdm.contrib.logging import logging_redirect_tqdm

    redirected: AbstractContextManager[None] = logging_redirect_tqdm()
    return redirected
