"""Our ears in ComfyUI: one wrapper round each of some functions, installed once.

They are transparent: whatever arguments come are passed on, and the prompts of others go through
untouched. What ComfyUI sends of ours goes to its run and no further; nobody is connected to hear
it.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import execution
from comfy_execution.graph import DynamicPrompt
from comfy_execution.progress import WebUIProgressHandler

from .learn import Expanders
from .nonce import NONCE
from .plan import is_output
from .process import Process
from .runs import CLIENT, Run, Runs

log = logging.getLogger("comfyui_stateless.host")

TEXT = 3
"""The binary event of progress texts, which carries no prompt id."""

STATUS_INTERVAL_S = 0.02
"""ComfyUI sends its queue's length at every change; the last of this time goes out."""

STATES = "_send_progress_state"
"""What makes, at each step of any node, a list of all nodes: for large graphs a dear one."""

RETURNS = "get_output_from_returns"
"""What reads the ui outputs out of what a node returned."""

INSTALLED = "_comfyui_stateless_installed"

PROBE = f"{CLIENT}probe"
"""The client of an event that only tells whether we hear events."""


class Events:
    """Listens to a PromptServer.

    Args:
        server: ComfyUI's PromptServer.
        expanders: Learns from every prompt, of anybody.
        on_status: Called on the loop's thread with how long ComfyUI's queue is.
    """

    def __init__(
        self,
        server: Any,
        runs: Runs,
        expanders: Expanders,
        on_status: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self._server = server
        self._runs = runs
        self._expanders = expanders
        self._status = _Latest(server.loop, on_status)
        self._process = Process()
        self._is_installed = False
        self._hears = False
        self._send_sync: Any = None
        self._methods: list[Any] = []

    def install(self) -> None:
        """Put the wrappers in place; doing it again changes nothing."""
        if getattr(self._server, INSTALLED, False):
            return
        setattr(self._server, INSTALLED, True)
        self._is_installed = True
        self._server.add_on_prompt_handler(self._with_own_id)
        self.hold()
        original = DynamicPrompt.get_original_prompt

        def get_original_prompt(dynamic: Any, *args: Any, **kwargs: Any) -> Any:
            graph = original(dynamic, *args, **kwargs)
            run = self._runs.executing(graph, getattr(self._server, "last_prompt_id", None))
            if run is None:
                return graph
            if len(graph) == len(run.plan.graph):
                return run.presented()
            # A pack has had ComfyUI execute a copy, with nodes of its own in it.
            own = {n: node for n, node in graph.items() if n not in run.plan.graph}
            return {**run.presented(), **own}

        DynamicPrompt.get_original_prompt = get_original_prompt
        DynamicPrompt.add_ephemeral_node = self._wrapped_addition(DynamicPrompt.add_ephemeral_node)
        if callable(returns := getattr(execution, RETURNS, None)):
            setattr(execution, RETURNS, self._wrapped_returns(returns))
        states = getattr(WebUIProgressHandler, STATES, None)
        if states is not None:
            setattr(WebUIProgressHandler, STATES, self._wrapped_states(states))

    def _wrapped_addition(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def add_ephemeral_node(
            dynamic: Any, node_id: Any, node_info: Any, *args: Any, **kwargs: Any
        ) -> Any:
            """Have savers that a node makes run in each of our prompts, and not come from the cache."""
            last_id = getattr(self._server, "last_prompt_id", None)
            run = self._runs.executing(dynamic.original_prompt, last_id)
            if run is not None and is_output(node_info):
                inputs = {**node_info["inputs"], NONCE: run.prompt_id}
                node_info = {**node_info, "inputs": inputs}
            return original(dynamic, node_id, node_info, *args, **kwargs)

        return add_ephemeral_node

    def remember_process(self) -> None:
        """Note how the process is, which nodes may change; call it once all packs are loaded."""
        self._process.remember()

    def hold(self) -> None:
        """Wrap anew what packs have replaced since, and the queue that they have put in place.

        Cheap where nothing has changed.
        """
        if not self._is_installed:
            return
        server, queue = self._server, self._server.prompt_queue
        if server.send_sync is not self._send_sync and not self._is_told():
            server.send_sync = self._wrapped_send_sync(_method(server, "send_sync"))
        self._send_sync = server.send_sync
        for name, wrapped in (("task_done", self._wrapped_task_done), ("put", self._wrapped_put)):
            if not any(getattr(queue, name) is known for known in self._methods):
                setattr(queue, name, wrapped(_method(queue, name)))
                self._methods.append(getattr(queue, name))

    def _with_own_id(self, posted: dict[str, Any]) -> dict[str, Any]:
        """Have a prompt of somebody else not take the id of a run: it would be taken for that run."""
        if isinstance(posted.get("prompt_id"), str) and self._runs.get(posted["prompt_id"]):
            del posted["prompt_id"]
        return posted

    def _is_told(self) -> bool:
        """Say whether what is sent comes by us, by sending something to nobody."""
        self._hears = False
        try:
            self._server.send_sync("executing", {"node": None, "prompt_id": PROBE}, PROBE)
        except Exception:  # noqa: BLE001  another pack's: it hears of no run of ours then
            return False
        return self._hears

    def _wrapped_send_sync(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def send_sync(event: Any, data: Any, *args: Any, **kwargs: Any) -> Any:
            sid = args[0] if args else kwargs.get("sid")
            run = self._owner(event, data, sid)
            if run is not None:
                return run.record(event, data)
            if isinstance(sid, str) and sid.startswith(CLIENT):
                self._hears = self._hears or sid == PROBE
                return None  # of a run that is over already
            if event == "status" and sid is None and not self._status.is_sending:
                return self._status.send(original, event, data, *args, **kwargs)
            return original(event, data, *args, **kwargs)

        return send_sync

    def _wrapped_returns(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def get_output_from_returns(return_values: Any, *args: Any, **kwargs: Any) -> Any:
            """Keep a text whole that a node of a run shows in a list's place: it would be letters."""
            if self._runs.get(getattr(self._server, "last_prompt_id", None)) is not None:
                return_values = [_with_lists(returned) for returned in return_values]
            return original(return_values, *args, **kwargs)

        return get_output_from_returns

    def _wrapped_states(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def send_progress_state(handler: Any, prompt_id: Any, *args: Any, **kwargs: Any) -> Any:
            run = self._runs.get(prompt_id)
            if run is not None and not run.wants("progress_state"):
                return None
            return original(handler, prompt_id, *args, **kwargs)

        return send_progress_state

    def _owner(self, event: Any, data: Any, sid: Any) -> Run | None:
        if isinstance(data, dict) and (run := self._runs.get(data.get("prompt_id"))):
            return run
        if isinstance(sid, str) and sid.startswith(CLIENT):
            return self._runs.get(sid[len(CLIENT) :])
        if event == TEXT and sid is None:
            return self._runs.get(getattr(self._server, "last_prompt_id", None))
        return None

    def _wrapped_put(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def put(*args: Any, **kwargs: Any) -> Any:
            """Have what a node of a run puts into the queue, as its client, be a part of that run."""
            item: Any = args[0] if args else kwargs.get("item")
            client = _client(item)
            if client is None or self._runs.get(item[1]):
                return original(*args, **kwargs)
            run = self._runs.get(client)
            if run is None or run.stopping:
                return None  # of a run that is over already
            return original(run.repeated(item))

        return put

    def _wrapped_task_done(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def task_done(*args: Any, **kwargs: Any) -> Any:
            self._process.put_back()
            item_id = args[0] if args else kwargs["item_id"]
            history = args[1] if len(args) > 1 else kwargs.get("history_result") or {}
            status = args[2] if len(args) > 2 else kwargs.get("status")
            queue = self._server.prompt_queue
            item = queue.currently_running.get(item_id)
            # A node may have emptied what says what is running.
            run = self._runs.get(item[1] if item else getattr(self._server, "last_prompt_id", None))
            if item:
                self._expanders.learn(item[2], history)
            if run is None:
                return original(*args, **kwargs)
            run.finishing = True
            goes_on = self._goes_on(run, status)
            try:
                return original(*args, **kwargs)
            except Exception:
                # Raising would end ComfyUI's worker thread, and with it everybody's prompts.
                log.exception("A pack failed at the end of run %s", run.prompt_id)
                queue.currently_running.pop(item_id, None)
            finally:
                with suppress(Exception):  # of a queue that a pack has changed; a run has to end
                    queue.delete_history_item(run.prompt_id)
                if goes_on:
                    run.part_is_done()
                else:
                    run.finish(history, status)
                    self._expanders.note(run.writers)
                # Newer ComfyUI goes on to register the files in its database of assets.
                history["outputs"] = {}

        return task_done

    def _goes_on(self, run: Run, status: Any) -> bool:
        """Say whether a run has another part in the queue; one that has failed has none from now on."""
        if run.repeats and getattr(status, "status_str", None) != "success":
            with suppress(Exception):  # of a queue that a pack has changed
                self._server.prompt_queue.delete_queue_item(lambda item: item[1] == run.prompt_id)
            run.repeats = 0
        return run.repeats > 0


def _with_lists(returned: Any) -> Any:
    """Return what a node returned, with texts in its ui output in lists, as other nodes have them."""
    ui = returned.get("ui") if type(returned) is dict else None
    if type(ui) is not dict or not any(isinstance(shown, str) for shown in ui.values()):
        return returned
    lists = {key: [shown] if isinstance(shown, str) else shown for key, shown in ui.items()}
    return {**returned, "ui": lists}


def _client(item: Any) -> str | None:
    """Return the prompt id of the run as whose client something was put into the queue, if any."""
    try:
        client = item[3].get("client_id")
    except (AttributeError, IndexError, TypeError):
        return None
    return client[len(CLIENT) :] if isinstance(client, str) and client.startswith(CLIENT) else None


def _method(owner: Any, name: str) -> Callable[..., Any]:
    """Return an object's method: its class's as it is when it is called.

    What we put on the object hides the class from those who wrap the method there later.
    """
    if callable(vars(owner).get(name)) or not hasattr(type(owner), name):
        return getattr(owner, name)  # type: ignore[no-any-return]  # untyped module

    def method(*args: Any, **kwargs: Any) -> Any:
        return getattr(type(owner), name)(owner, *args, **kwargs)

    return method


class _Latest:
    """Sends the latest of many events, at most once in ``STATUS_INTERVAL_S``.

    Attributes:
        is_sending: One is on its way, and may come by us again where we have wrapped twice.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sent: Callable[[Mapping[str, Any]], None]
    ) -> None:
        self._loop = loop
        self._sent = sent
        self._lock = threading.Lock()
        self._latest: tuple[Callable[[], Any], Any] | None = None
        self.is_sending = False

    def send(
        self, send: Callable[..., Any], event: Any, data: Any, *args: Any, **more: Any
    ) -> None:
        with self._lock:
            waiting = self._latest is not None
            self._latest = (partial(send, event, data, *args, **more), data)
        if not waiting:
            self._loop.call_soon_threadsafe(self._loop.call_later, STATUS_INTERVAL_S, self._flush)

    def _flush(self) -> None:
        with self._lock:
            latest, self._latest = self._latest, None
        if latest is None:
            return
        send, data = latest
        self.is_sending = True
        try:
            send()
        finally:
            self.is_sending = False
        self._sent(data)
