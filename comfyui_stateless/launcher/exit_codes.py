"""What the launcher's process ends with."""

from __future__ import annotations

FAILED = 1
"""Something could not be installed or started, or ComfyUI hung: it is not ComfyUI's own code."""

WRONG = 2
"""A setting, a flag or the manifest is wrong."""

CANNOT_RUN = (126, 127)
"""What shells, and our leash, say of a command that cannot be run, or is not there."""

SIGNALLED = 128
"""What shells add to the number of the signal that a process died of."""


def shell_code(code: int) -> int:
    """Return a process's exit code, negative for a signal, as shells have it."""
    return code if code >= 0 else SIGNALLED - code
