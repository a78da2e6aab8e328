"""Where ComfyUI is in its life: the supervisor writes it down, the gateway answers by it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from enum import Enum

log = logging.getLogger("comfyui_stateless.launcher")


class Phase(str, Enum):
    """What the launcher is doing with ComfyUI."""

    INSTALLING = "installing"
    STARTING = "starting"
    UP = "up"
    DOWN = "down"
    DRAINING = "draining"


_REASONS = {
    Phase.INSTALLING: "The manifest is being installed.",
    Phase.STARTING: "ComfyUI is starting.",
    Phase.DOWN: "ComfyUI has stopped and is being restarted.",
    Phase.DRAINING: "The server is shutting down.",
}


@dataclass(slots=True)
class Life:
    """What is known of ComfyUI. One for the launcher; read and written on its event loop.

    Attributes:
        phase: What the launcher is doing with it.
        detail: What exactly, where there is more to say than the phase does.
        not_warm: Why it is up and not warm, if it has said so.
        warm: Whether it has been warm once, which is what ``/health`` tells ever after.
    """

    phase: Phase = Phase.INSTALLING
    detail: str | None = None
    not_warm: str | None = None
    warm: bool = False

    def enter(self, phase: Phase, detail: str | None = None) -> None:
        """Move to ``phase``; nothing but the end follows draining."""
        if self.phase is not Phase.DRAINING:
            self.phase, self.detail = phase, detail

    def found_ready(self) -> None:
        """Note that ComfyUI has said that it is ready, whoever asked it."""
        if not self.warm:
            self.warm = True
            log.info("ComfyUI is ready.")

    @property
    def reason(self) -> str | None:
        """Why ComfyUI takes no requests; None when it does."""
        if self.phase is Phase.UP:
            return None
        return self.detail or _REASONS[self.phase]
