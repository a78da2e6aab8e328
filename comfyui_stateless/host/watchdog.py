"""The thread that runs prompts: its death, its restart, and prompts that got lost.

ComfyUI starts one such thread and never looks at it again: an exception that no node may raise,
such as ``SystemExit``, ends it while the server goes on taking prompts.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from .runs import Run, Runs
from .submit import KEEPS_SECRETS

log = logging.getLogger("comfyui_stateless.host")

NAME = "prompt_worker"
MAX_IDLE_DEATHS = 3
"""Deaths in a row that no prompt caused, after which only a new process can help."""

EXIT_CODE = 70
"""What the process ends with then: EX_SOFTWARE of sysexits.h."""


class Watchdog:
    """Watches ComfyUI's worker thread and starts it again when it dies."""

    def __init__(self, server: Any, runs: Runs) -> None:
        self._server = server
        self._runs = runs
        self._idle_deaths = 0
        self._has_lived = False
        self._again = _from_main(server)
        self._broken: str | None = None

    @property
    def _queue(self) -> Any:
        return self._server.prompt_queue  # a pack may put its own in place

    def install(self) -> None:
        """Listen for the death of threads; the hook that was there is still called."""
        previous = threading.excepthook

        def excepthook(args: Any) -> None:
            try:
                previous(args)
            finally:
                if args.thread is not None and NAME in args.thread.name:
                    self._died(args.exc_value)

        threading.excepthook = excepthook

    def remember(self) -> None:
        """Note how the thread that runs now was started: its arguments differ between versions."""
        for thread in filter(_is_worker, threading.enumerate()):
            started = vars(thread)
            if callable(target := started.get("_target")):
                self._again = partial(
                    target, *started.get("_args", ()), **started.get("_kwargs", {})
                )

    def trouble(self) -> str | None:
        """Return why prompts cannot be executed now, None if they can."""
        if self._broken:
            return self._broken
        return None if self.is_alive() else "ComfyUI's worker thread is dead."

    def is_alive(self) -> bool:
        """Say whether a thread runs prompts."""
        return any(map(_is_worker, threading.enumerate()))

    def breaks(self, reason: str) -> None:
        """Take the process for unusable, and end it shortly so that a supervisor starts a new one."""
        self._condemn(reason)
        threading.Thread(target=_exit_soon, daemon=True, name="stateless-exit").start()

    def ends(self, reason: str) -> None:
        """Do as ``breaks``, from a thread that may wait for it: no other can be started at exit."""
        self._condemn(reason)
        _exit_soon()

    def _condemn(self, reason: str) -> None:
        log.critical("%s The process ends so that it can be started again.", reason)
        self._broken = reason

    def look(self) -> None:
        """Notice a death that was not reported: a pack took ``threading.excepthook`` over."""
        if self.is_alive():
            self._has_lived = True
        elif self._has_lived and not self._broken:
            self._died(None)

    def put_back(self) -> None:
        """Queue the runs again that ComfyUI has lost: somebody cleared its queue."""
        with self._queue.mutex:
            there = {item[1] for item in self._queue.currently_running.values()}
            there.update(item[1] for item in self._queue.queue)
            lost = [run for run in self._runs.all() if self._is_lost(run, there)]
            lost = [run for run in lost if not self._has_ended(run)]
            for run in lost:
                self._queue.put(run.item)
        for run in lost:
            log.info("Run %s was cleared from ComfyUI's queue and is queued again", run.prompt_id)

    def note(self, run: Run) -> None:
        """Note that ComfyUI's queue has a run, if it has, right after it was put there."""
        with self._queue.mutex:
            running = self._queue.currently_running.values()
            found = any(item[1] == run.prompt_id for item in (*running, *self._queue.queue))
            run.was_there = found or run.finishing

    @staticmethod
    def _is_lost(run: Run, there: set[str]) -> bool:
        settled = run.is_over or run.finishing or run.stopping
        is_there = run.prompt_id in there
        run.was_there = run.was_there or is_there
        return not settled and not is_there and run.was_there

    def _has_ended(self, run: Run) -> bool:
        """Say whether a run has ended unheard, and settle it: a pack ends prompts in its own way."""
        history = self._queue.history.get(run.prompt_id)
        if history is None:
            return False
        status = history.get("status")
        run.finishing = True
        run.finish(history, status and self._queue.ExecutionStatus(**status))
        self._queue.delete_history_item(run.prompt_id)
        return True

    def _died(self, error: BaseException | None) -> None:
        error = error or SystemExit()
        running = dict(self._queue.currently_running)
        log.error("ComfyUI's worker thread died of %s; starting a new one", type(error).__name__)
        for item_id, item in running.items():
            self._settle(item_id, item, error)
        self._idle_deaths = 0 if running else self._idle_deaths + 1
        if self._idle_deaths >= MAX_IDLE_DEATHS:
            self.breaks("ComfyUI's worker thread keeps dying.")
        else:
            self._start()

    def _settle(self, item_id: int, item: tuple[Any, ...], error: BaseException) -> None:
        try:
            self._fail(item_id, item, error)
        except Exception:
            # Whatever goes wrong with this prompt, the others need a new thread.
            log.exception("Prompt %s could not be settled", item[1])
            self._queue.currently_running.pop(item_id, None)
            if (run := self._runs.get(item[1])) is not None:
                run.finish({}, None)

    def _fail(self, item_id: int, item: tuple[Any, ...], error: BaseException) -> None:
        run = self._runs.get(item[1])
        if run is not None:
            run.die(error)
        message = {
            "prompt_id": item[1],
            "node_id": getattr(self._server, "last_node_id", None),
            "node_type": "",
            "executed": [],
            "exception_message": f"ComfyUI's worker thread died of {type(error).__name__}.",
            "exception_type": type(error).__name__,
            "traceback": [],
            "current_inputs": {},
            "current_outputs": [],
            "timestamp": int(time.time() * 1000),
        }
        status = self._queue.ExecutionStatus("error", False, [("execution_error", message)])
        strips_secrets = {"process_item": lambda item: item[:5]} if KEEPS_SECRETS else {}
        self._queue.task_done(item_id, {"outputs": {}, "meta": {}}, status, **strips_secrets)
        if run is None and (client := item[3].get("client_id")):
            self._server.send_sync("execution_error", message, client)
            self._server.send_sync("executing", {"node": None, "prompt_id": item[1]}, client)

    def _start(self) -> None:
        if self._again is None:
            self.breaks("ComfyUI's worker thread died, and there is no way to start a new one.")
            return
        name = f"stateless-restarted ({NAME})"
        threading.Thread(target=self._again, daemon=True, name=name).start()


def _is_worker(thread: threading.Thread) -> bool:
    return NAME in thread.name and thread.is_alive()


def _from_main(server: Any) -> Callable[[], Any] | None:
    for name in ("__main__", "main"):
        target = getattr(sys.modules.get(name), NAME, None)
        if callable(target):
            return partial(target, server.prompt_queue, server)
    return None


def _exit_soon() -> None:
    time.sleep(2)  # what has failed is still told to its callers
    logging.shutdown()
    os._exit(EXIT_CODE)
