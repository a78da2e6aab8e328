"""Becomes ComfyUI's process, having left a guard behind that kills it when the launcher is gone.

Run as a script by its path, in a session of its own: ``leash.py DESCRIPTOR COMMAND…``. The
descriptor is the reading end of a pipe whose other end only the launcher holds, so that it ends
however the launcher does. The guard is of ComfyUI's process group, which keeps the group's number
from being given to others, and nobody's child but the first process's.
"""

import os
import signal
import sys

NOT_FOUND = 127
NOT_RUNNABLE = 126


def main() -> None:
    """Leave the guard behind, and become the command."""
    descriptor, command = int(sys.argv[1]), sys.argv[2:]
    if os.fork() == 0:
        if os.fork() == 0:
            guard(descriptor)
        os._exit(0)
    os.wait()
    os.close(descriptor)
    try:
        os.execvp(command[0], command)  # noqa: S606  no shell is wanted
    except OSError as error:
        sys.stderr.write(f"{command[0]} cannot be run: {error.strerror}\n")
        sys.exit(NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_RUNNABLE)


def guard(descriptor: int) -> None:
    """Wait for the launcher's end, and kill the whole group then, this process included."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)
    while os.read(descriptor, 1):
        pass
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
