"""Stopping runs: out of ComfyUI's queue, or by an interruption that hits no other prompt."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import nodes

from .runs import Run

REPEAT_S = 0.1
"""How often a running prompt is interrupted until it is over."""

STUCK_AFTER_S = 60.0
"""Time after which a node that ignores its interruption makes the server count as not ready."""

HOPELESS_AFTER_S = 300.0
"""Time after which only a new process can help: one thread runs all nodes, and it is in that one."""


class Canceller:
    """Stops runs in the background: whoever wanted them waits no longer.

    Args:
        server: ComfyUI's PromptServer.
        give_up: Is told why the process is of no use any more.
    """

    def __init__(self, server: Any, give_up: Callable[[str], None]) -> None:
        self._server = server
        self._give_up = give_up
        self._tasks: set[asyncio.Task[None]] = set()
        self._stuck: set[str] = set()

    @property
    def _queue(self) -> Any:
        return self._server.prompt_queue  # a pack may put its own in place

    def stop(self, run: Run) -> None:
        """Begin to stop a run; it is over when ComfyUI has let go of it."""
        run.stopping = True
        task = asyncio.ensure_future(self._stop(run))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def trouble(self) -> str | None:
        """Return what is wrong when a node has ignored its interruption for long, else None."""
        return "A node does not stop although its job was cancelled." if self._stuck else None

    async def _stop(self, run: Run) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        while not run.is_over:
            late_s = loop.time() - began
            is_late = late_s > STUCK_AFTER_S
            if self._is_taken_out(run) or not self._interrupt(run, is_late=is_late):
                run.drop()  # it was waiting, or somebody cleared ComfyUI's queue: it never comes
            elif is_late:
                self._stuck.add(run.prompt_id)
                if late_s > HOPELESS_AFTER_S:
                    self._give_up("A node does not stop although its job was cancelled.")
                    return
            if not run.is_over:
                await asyncio.sleep(REPEAT_S)
        self._stuck.discard(run.prompt_id)

    def _is_taken_out(self, run: Run) -> bool:
        return bool(self._queue.delete_queue_item(lambda item: item[1] == run.prompt_id))

    def _interrupt(self, run: Run, *, is_late: bool) -> bool:
        """Raise ComfyUI's flag if it would hit this very run; say whether ComfyUI has the run.

        The flag is one for all prompts, and reset when a prompt begins: raised too early it is
        lost, raised too late it would hit the next prompt. So it is raised only while the run is
        the running one, under the lock that the worker takes to change that.
        """
        with self._queue.mutex:
            running = self._queue.currently_running.values()
            if any(item[1] == run.prompt_id for item in running):
                nodes.interrupt_processing(True)
                return True
            # A run that is about to be reported has left both places already; one that another
            # pack holds back comes to them later.
            is_held = not run.was_there and not is_late
            is_queued = any(item[1] == run.prompt_id for item in self._queue.queue)
            return run.finishing or is_held or is_queued
