"""The launcher's log, which carries ComfyUI's too: text or JSON lines that never make us wait."""

from __future__ import annotations

import contextlib
import json
import logging
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, TextIO

from ..config import LOG_LEVELS, LogLevel
from .lines import Levels

HELD_BYTES = 8 * 1024 * 1024
"""What is kept for a reader of the log that is slow; beyond it lines are left out."""

FLUSH_S = 2.0
"""Seconds that the reader gets at the end."""

_NAMES = {
    logging.DEBUG: "debug",
    logging.INFO: "info",
    logging.WARNING: "warn",
    logging.ERROR: "error",
    logging.CRITICAL: "fatal",
}


class Writer:
    """Writes lines on a thread of its own: whoever reads them may be slow, stopped or gone.

    Args:
        note: Makes the line that says how many were left out.
    """

    def __init__(self, stream: BinaryIO, note: Callable[[int], str]) -> None:
        self._stream = stream
        self._note = note
        self._lines: deque[bytes] = deque()
        self._bytes = self._left_out = 0
        self._changed = threading.Condition()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def put(self, line: str) -> None:
        """Have a line written, if there is room for it. May be called from any thread."""
        data = line.encode("utf-8", "replace") + b"\n"
        with self._changed:
            if self._bytes + len(data) > HELD_BYTES:
                self._left_out += 1
                return
            self._lines.append(data)
            self._bytes += len(data)
            self._changed.notify()

    def close(self) -> None:
        """Write what is there, as far as it is taken in FLUSH_S seconds."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join(FLUSH_S)

    def _run(self) -> None:
        # What nobody reads any more is left out.
        with contextlib.suppress(OSError, ValueError):
            while data := self._next():
                self._stream.write(data)
                self._stream.flush()

    def _next(self) -> bytes:
        """Wait for lines and return them all; nothing when the log is closed."""
        with self._changed:
            while not self._lines and not self._is_closed:
                self._changed.wait()
            if self._left_out:
                self._lines.append(self._note(self._left_out).encode() + b"\n")
            data = b"".join(self._lines)
            self._lines.clear()
            self._bytes = self._left_out = 0
            return data


if TYPE_CHECKING:
    _StreamHandler = logging.StreamHandler[TextIO]
else:  # Python 3.10 cannot be told of what
    _StreamHandler = logging.StreamHandler


class _Format(logging.Formatter):
    """How a record of the launcher's looks."""

    def __init__(self, *, is_json: bool) -> None:
        super().__init__()
        self._is_json = is_json

    def format(self, record: logging.LogRecord) -> str:
        message = super().format(record)
        if self._is_json:
            level = _NAMES.get(record.levelno, record.levelname.lower())
            return as_json("launcher", level, message)
        warning = f"{record.levelname}: " if record.levelno >= logging.WARNING else ""
        return f"[launcher] {warning}{message}"


class Log(_StreamHandler):
    """Puts the launcher's records and ComfyUI's lines into one log.

    It counts as a handler of the terminal's, so that progress bars take its place while they are
    drawn there.

    Args:
        is_json: Whether a line is a JSON object.
        level: The least level of what is logged; lines whose level cannot be told are all logged.
    """

    def __init__(self, writer: Writer, *, is_json: bool, level: LogLevel) -> None:
        super().__init__(sys.stdout)
        self.setLevel(LOG_LEVELS[level])
        self.setFormatter(_Format(is_json=is_json))
        self._writer = writer
        self._is_json = is_json
        self._levels = Levels()

    def emit(self, record: logging.LogRecord) -> None:
        self._writer.put(self.format(record))

    def relay(self, line: str) -> None:
        """Log a line of ComfyUI's."""
        level = self._levels.of(line)
        if level is not None and level < self.level:
            return
        if self._is_json:
            self._writer.put(as_json("comfyui", _NAMES[level or logging.INFO], line))
        else:
            self._writer.put(line)


def _note(is_json: bool, left_out: int) -> str:
    message = f"{left_out} lines were left out here: the log was not read fast enough."
    return as_json("launcher", "warn", message) if is_json else f"[launcher] WARNING: {message}"


def as_json(source: str, level: str, message: str) -> str:
    """Return a line of a JSON log."""
    time = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    entry = {"time": time, "level": level, "source": source, "message": message}
    return json.dumps(entry, ensure_ascii=False)


@contextmanager
def logging_to(stream: BinaryIO | None = None, *, is_json: bool, level: LogLevel) -> Iterator[Log]:
    """Send all that this process logs to ``stream``, standard output where none is given."""
    writer = Writer(stream or sys.stdout.buffer, partial(_note, is_json))
    log, root, ours = Log(writer, is_json=is_json, level=level), logging.getLogger(), _ours()
    before = ours.level
    root.addHandler(log)
    ours.setLevel(LOG_LEVELS[level])
    try:
        yield log
    finally:
        root.removeHandler(log)
        ours.setLevel(before)
        writer.close()


def _ours() -> logging.Logger:
    return logging.getLogger("comfyui_stateless")
