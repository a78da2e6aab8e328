"""Looks at one process of ComfyUI from its start on, and says when it has to be ended."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from ..readiness import TROUBLE
from ..readiness import Phase as State
from .exit_codes import FAILED
from .health import Answer, Health
from .life import Life, Phase

MARGIN_S = 10.0
"""Seconds beyond SHUTDOWN_GRACE_S before a process that drains is killed."""

TRY_S = 5.0
"""Seconds that a starting ComfyUI gets for an answer, once it takes connections."""

WATCH_S = 5.0
"""Seconds between two looks at a ComfyUI that is up, at most."""

STEPS = 6
"""How many questions at least have to stay without an answer before ComfyUI counts as hung."""

LOGIN = (301, 302, 303, 307, 401, 403)
"""What those answer who want a login first."""

TROUBLE_TIMES = 2
"""For how many times the limit of a hang the execution may be in trouble."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What the supervisor goes by.

    Attributes:
        address: Where ComfyUI listens.
        interval_s: Seconds between two tries to reach it while it starts.
        max_tries: After how many of them it is given up.
        hang_s: Seconds without an answer after which it counts as hung, 0 for never.
        grace_s: Seconds that it gets to drain.
        is_restarted: Whether it is started again when it has ended.
    """

    address: tuple[str, int]
    interval_s: float
    max_tries: int
    hang_s: float
    grace_s: float
    is_restarted: bool
    margin_s: float = MARGIN_S


@dataclass(frozen=True, slots=True)
class Ending:
    """How a life of ComfyUI ended.

    Attributes:
        code: The launcher's exit code if nothing follows.
        message: What happened, in one line.
        last_lines: What ComfyUI had said before, to end a message with.
        is_final: Whether nothing may follow.
        is_wanted: Whether it ended to be started again.
        was_up_s: How long it had answered.
    """

    code: int
    message: str
    last_lines: str = ""
    is_final: bool = False
    is_wanted: bool = False
    was_up_s: float = 0.0


class Watch:
    """Looks at one process from its start on."""

    def __init__(self, rules: Rules, health: Health, life: Life, was_up: asyncio.Event) -> None:
        self._rules = rules
        self._health = health
        self._life = life
        self._was_up = was_up
        self._up_since: float | None = None

    @property
    def is_up(self) -> bool:
        """Whether it has answered."""
        return self._up_since is not None

    @property
    def up_s(self) -> float:
        """For how long it has been up."""
        return 0.0 if self._up_since is None else time.monotonic() - self._up_since

    async def until_wrong(self) -> Ending:
        """Return when the process has to be ended, with the reason."""
        return await self._until_up() or await self._until_hung()

    async def _until_up(self) -> Ending | None:
        seen: Answer | None = None
        for _ in range(self._rules.max_tries):
            answer = await self._health.ask(max(TRY_S, self._rules.interval_s))
            if answer is not None and answer.state is not None:
                self._up_since = time.monotonic()
                self._life.enter(Phase.UP)
                self._was_up.set()
                return None
            seen = answer or seen
            await asyncio.sleep(self._rules.interval_s)
        return Ending(FAILED, self._not_up(seen), is_final=True)

    def _not_up(self, seen: Answer | None) -> str:
        rules = self._rules
        tries = f"{rules.max_tries} tries, {rules.interval_s:g} s apart"
        if seen is not None and seen.status in LOGIN:
            return (
                f"Another pack in ComfyUI demands a login (status {seen.status}), after {tries}: have "
                f"it let /api/stateless/ through, and set API_KEYS."
            )
        if seen is not None:
            return (
                f"Something answers at ComfyUI's port with status {seen.status}, and the stateless "
                f"API is not in it, after {tries}: does the log above say why it is off?"
            )
        return (
            f"ComfyUI has not answered within {tries}, and is given up. If it only needs longer, "
            f"raise STARTUP_CHECK_MAX_TRIES."
        )

    async def _until_hung(self) -> Ending:
        """Watch a process that has answered."""
        limit_s = self._rules.hang_s
        step_s = min(WATCH_S, limit_s / STEPS or WATCH_S)
        silent_s = troubled_s = 0.0
        while True:
            began = time.monotonic()
            answer = await self._health.ask(step_s)
            if answer is not None and (ending := self._judge(answer)):
                return ending
            await asyncio.sleep(self._pause_s(answer, step_s, time.monotonic() - began))
            # A launcher that was itself stopped for a while has not asked in that time.
            took_s = min(time.monotonic() - began, 2 * step_s)
            silent_s = silent_s + took_s if answer is None else 0.0
            is_troubled = answer is not None and answer.state == TROUBLE
            troubled_s = troubled_s + took_s if is_troubled else 0.0
            if limit_s and silent_s >= limit_s:
                return Ending(FAILED, f"ComfyUI has not answered for {limit_s:g} s and is killed.")
            if answer and limit_s and troubled_s >= TROUBLE_TIMES * limit_s:
                text = f"ComfyUI has executed nothing for {troubled_s:.0f} s and is killed"
                return Ending(FAILED, f"{text}: {answer.reason}")

    def _pause_s(self, answer: Answer | None, step_s: float, took_s: float) -> float:
        # While it warms up there is somebody who waits to hear of it.
        is_waited_for = answer is not None and not self._life.warm
        return max(0.0, min(step_s, 1.0) if is_waited_for else step_s - took_s)

    def _judge(self, answer: Answer) -> Ending | None:
        if answer.state == State.FAILED.value:
            return Ending(FAILED, f"The stateless API cannot work: {answer.reason}", is_final=True)
        self._life.not_warm = answer.reason
        if answer.state == State.READY.value:
            self._life.found_ready()
        return None
