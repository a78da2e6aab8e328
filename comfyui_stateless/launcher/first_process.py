"""What a container's first process owes: it hands signals on, and reaps whatever is left to it.

The launcher itself runs as a child, so that no process of its own is reaped under its hands.
"""

from __future__ import annotations

import os
import signal
import sys

from .exit_codes import shell_code

FIRST = 1

_LEFT_ALONE = {
    signal.SIGKILL, signal.SIGSTOP, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL,
    signal.SIGTRAP, signal.SIGABRT, signal.SIGSYS, signal.SIGTTIN, signal.SIGTTOU,
}  # fmt: skip
"""Signals that are nobody's message, or cannot be waited for."""


def is_first() -> bool:
    """Say whether this process is the first one of its container."""
    return os.getpid() == FIRST


def stand_by() -> int | None:
    """Go on in a child, and stay with it until it ends.

    Call it before any thread is started.

    Returns:
        The exit code of the child, in the process that was first; None in the child, which is the
        one to go on.
    """
    waited = signal.valid_signals() - _LEFT_ALONE
    before = signal.pthread_sigmask(signal.SIG_BLOCK, waited)
    child = os.fork()
    if child == 0:
        _take_the_terminal()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return None
    while True:
        number = signal.sigwait(waited)
        if number != signal.SIGCHLD:
            os.kill(child, number)
        elif (code := _reap(child)) is not None:
            return code


def _take_the_terminal() -> None:
    """Leave the first process's group, so that Ctrl-C reaches the launcher once, not twice."""
    os.setpgid(0, 0)
    if sys.stdin is not None and sys.stdin.isatty():
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTTOU})
        os.tcsetpgrp(sys.stdin.fileno(), os.getpgrp())
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _reap(child: int) -> int | None:
    """Take the status of all that has ended; return the exit code of ``child`` if it has."""
    code = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return code
        if pid == 0:
            return code
        if pid == child:
            code = shell_code(os.waitstatus_to_exitcode(status))
