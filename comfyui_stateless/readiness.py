"""Whether the server may take work, and what the probes answer."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from .errors import Unavailable

STATE_HEADER = "Stateless-State"
"""The header of the probes' answers that tells the launcher a ``Phase``, or TROUBLE."""

TROUBLE = "trouble"
"""The state of a server that is up while its ComfyUI cannot execute prompts."""


class Phase(str, Enum):
    """Where the server is in its life."""

    STARTING = "starting"
    WARMING = "warming"
    READY = "ready"
    FAILED = "failed"
    DRAINING = "draining"


_REASONS = {
    Phase.STARTING: "ComfyUI is starting.",
    Phase.WARMING: "The warm-up prompt is running.",
    Phase.DRAINING: "The server is shutting down.",
}


class Verdict(NamedTuple):
    """What one probe answers: whether all is well, why not, and the server's state."""

    ok: bool
    reason: str | None = None
    state: str = Phase.FAILED.value


def probe_body(version: str, status: str, reason: str | None) -> dict[str, str]:
    """Return what a probe answers, here and at the launcher's port."""
    body = {"version": version, "status": status}
    return body if reason is None else {**body, "reason": reason}


class Readiness:
    """The phase of the server, and the rules that the probes follow."""

    def __init__(self) -> None:
        self.phase = Phase.STARTING
        self._failure: str | None = None
        self._waits_for: str | None = None

    def enter(self, phase: Phase) -> None:
        """Move to ``phase``; a server that failed or shuts down stays so until it ends."""
        if self.phase not in (Phase.FAILED, Phase.DRAINING):
            self.phase = phase

    def wait(self, reason: str | None) -> None:
        """Record what the phase waits for, which may take any time; None when it has come."""
        self._waits_for = reason

    def fail(self, reason: str) -> None:
        """Record that the server cannot work, and why."""
        self.phase = Phase.FAILED
        self._failure = reason

    @property
    def reason(self) -> str | None:
        """Why the server is not ready; None when it is."""
        if self.phase is Phase.FAILED:
            return self._failure
        told = _REASONS.get(self.phase)
        return told if self.phase is Phase.DRAINING else self._waits_for or told

    def health(self) -> Verdict:
        """Answer the liveness probe: warm once means healthy until the process ends."""
        is_well = self.phase in (Phase.READY, Phase.DRAINING)
        return Verdict(is_well, self.reason, self.phase.value)

    def ready(self, *, trouble: str | None, depth: int, max_depth: int) -> Verdict:
        """Answer the readiness probe.

        Args:
            trouble: What is wrong with ComfyUI's execution now, None if nothing is.
            depth: How many prompts wait or run.
            max_depth: MAX_QUEUE_DEPTH; 0 is no limit.
        """
        if self.reason:
            return Verdict(False, self.reason, self.phase.value)
        if trouble:
            return Verdict(False, trouble, TROUBLE)
        if max_depth and depth >= max_depth:
            full = f"The queue holds {depth} prompts; MAX_QUEUE_DEPTH is {max_depth}."
            return Verdict(False, full, self.phase.value)
        return Verdict(True, None, self.phase.value)

    def require(self) -> None:
        """Let new work in only when the server is ready.

        Raises:
            Unavailable: With the reason, and when to try again.
        """
        if reason := self.reason:
            raise Unavailable(reason, headers={"Retry-After": "5"})
