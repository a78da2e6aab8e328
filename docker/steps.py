"""Progress on the console, commands whose output goes to a log file, and the set-up lock."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

LOG_LINES_SHOWN = 15


class SetupError(Exception):
    """Something the user has to know: the message says what is wrong and what to do."""


class Console:
    """One line per step on standard error; the output of commands goes to a log file."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self._log_mode = "wb"
        self._line = ""
        self._started = 0.0
        # A terminal shows the seconds as they pass; a pipe or a file gets each line once.
        self._live = sys.stderr.isatty()

    def note(self, text: str) -> None:
        """Print a line of its own."""
        print(f"  {text}", file=sys.stderr, flush=True)

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Print what is being done, and how long it took when it is done."""
        self._line, self._started = f"  {text} ...", time.monotonic()
        print(self._line, end="", file=sys.stderr, flush=True)
        try:
            yield
        except BaseException:
            self._finish("failed")
            raise
        self._finish(f"{time.monotonic() - self._started:.1f} s")

    def run(self, command: Sequence[str | os.PathLike[str]]) -> None:
        """Run a command with its output in the log.

        Raises SetupError with the end of that output when the command fails.
        """
        self.log.parent.mkdir(parents=True, exist_ok=True)
        line = " ".join(map(str, command))
        with self.log.open(self._log_mode) as log:
            self._log_mode = "ab"
            log.write(f"$ {line}\n".encode())
            log.flush()
            start = log.tell()
            # A folder or index variable of the shell's own Python is not for this environment's.
            environment = {
                k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "PIP_USER"}
            }
            with subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, env=environment
            ) as process:
                self._wait(process)
        if process.returncode != 0:
            raise SetupError(self._failure(line, process.returncode, start))

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        try:
            while process.poll() is None:
                with suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=1)
                self._tick()
        except BaseException:
            process.terminate()
            raise

    def _tick(self) -> None:
        if self._live:
            elapsed = time.monotonic() - self._started
            print(f"\r{self._line} {elapsed:.0f} s", end="", file=sys.stderr, flush=True)

    def _finish(self, outcome: str) -> None:
        start = f"\r{self._line}" if self._live else ""
        print(f"{start} {outcome}", file=sys.stderr, flush=True)

    def _failure(self, line: str, status: int, start: int) -> str:
        with self.log.open("rb") as log:
            log.seek(start)
            tail = log.read().decode(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
        shown = "\n".join(f"    {text}" for text in tail)
        return f"`{line}` ended with status {status}:\n{shown}\n  The whole log: {self.log}"


@contextmanager
def exclusive(lock: Path, console: Console) -> Iterator[None]:
    """Let one set-up at a time work in this checkout (where the system has file locks)."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        if sys.platform != "win32":
            import fcntl

            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                console.note("another set-up is at work in this checkout: waiting for it")
                fcntl.flock(file, fcntl.LOCK_EX)
        yield
