"""ComfyUI's side of a prompt's way in: what its own ``POST /prompt`` does, without the route."""

from __future__ import annotations

import asyncio
import inspect
import json
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import execution
import folder_paths
import nodes
from comfy.cli_args import LatentPreviewMethod

from ..engine import Graph, PreparedPrompt
from ..errors import InvalidPrompt
from ..requests import SECRET_EXTRA_DATA, holds_secret
from .capture import Savers
from .catalog import Catalog
from .failures import broken_classes, leads_nowhere, refusal, unknown_classes
from .files import RunFolder
from .learn import Expanders
from .originals import is_original
from .plan import Plan, broken_link, copied, plan

SENSITIVE = tuple(execution.SENSITIVE_EXTRA_DATA_KEYS)

KEEPS_SECRETS = "process_item" in inspect.signature(execution.PromptQueue.task_done).parameters
"""Whether this ComfyUI's queue has a place for secrets that it does not show: 0.3.68 and later."""

MIN_SECRET = 8
"""Characters from which a text is taken out of messages, where only its name makes it a secret."""

QUICK_S = 0.001
"""Seconds below which a validation may be done on the loop."""

MAX_KNOWN = 1000
"""Sets of classes whose validation times are kept."""


class Discreet(dict[str, Any]):
    """What nodes get, on a ComfyUI whose queue shows all of it: secrets are given, not shown."""

    def __init__(self, shown: Mapping[str, Any], secrets: Mapping[str, Any]) -> None:
        super().__init__(shown)
        self._secrets = dict(secrets)

    def get(self, key: str, default: Any = None) -> Any:
        return self._secrets[key] if key in self._secrets else super().get(key, default)


class QueueItem(tuple[Any, ...]):
    """What lies in ComfyUI's queue: number, prompt id, graph, extra data, outputs, secrets.

    ComfyUI copies it in depth when it begins to run, on the thread that runs nodes, and the whole
    queue for each who asks for that. Of a graph a copy as deep as ComfyUI edits it will do.
    """

    __slots__ = ()

    def __deepcopy__(self, memo: dict[int, Any]) -> tuple[Any, ...]:
        number, prompt_id, graph, extra_data, outputs, sensitive = self
        extra_data = deepcopy(extra_data, memo)
        return (number, prompt_id, copied(graph), extra_data, list(outputs), dict(sensitive))


class Accepted(NamedTuple):
    """A prompt that ComfyUI's validation has passed.

    Attributes:
        prompt_id: ComfyUI's id of the prompt.
        caller_id: The caller's own.
        shown: The graph as the caller knows it, before ComfyUI casts values in it.
        outputs: The ids of the output nodes to execute, in the order of the graph.
        extra_data: What nodes get, without secrets.
        sensitive: The secrets among what nodes get.
    """

    prompt_id: str
    caller_id: str
    plan: Plan
    shown: Graph
    outputs: list[str]
    extra_data: dict[str, Any]
    sensitive: dict[str, Any]

    def secrets(self) -> tuple[str, ...]:
        """Return the secret texts, which no message may hold."""
        found: dict[str, None] = {}
        for key, value in self.sensitive.items():
            is_named = key in SENSITIVE or SECRET_EXTRA_DATA.search(key) is not None
            for text in _secret_texts(value, is_named=is_named):
                if len(text) >= (1 if key in SENSITIVE else MIN_SECRET):
                    found |= dict.fromkeys((text, repr(text)[1:-1], json.dumps(text)[1:-1]))
        return tuple(found)


class Submission:
    """Validates prompts and puts them into ComfyUI's queue."""

    def __init__(self, server: Any, catalog: Catalog, savers: Savers, expanders: Expanders) -> None:
        self._server = server
        self._catalog = catalog
        self._savers = savers
        self._expanders = expanders
        self._validator = ThreadPoolExecutor(
            max_workers=1, thread_name_prefix="stateless-validator"
        )
        self._validation_loop = asyncio.new_event_loop()
        self._seconds: dict[frozenset[str], float] = {}

    async def validate(self, prompt: PreparedPrompt, folder: RunFolder) -> Accepted:
        """Plan a prompt and check it as ComfyUI does.

        Off the loop, since loaders list folders; but what was quick with the same classes the
        last time is done at once, as a thread would cost more than the check. And so is what a
        pack has wrapped: that may wait for something of the loop.

        Raises:
            InvalidPrompt: With ComfyUI's own node errors.
        """
        graph, extra_data = self._hooked(copied(prompt.graph), dict(prompt.extra_data))
        made = plan(
            graph, prompt, folder.name, self._catalog, self._savers, self._expanders.__contains__
        )
        given = made.presented_as(prompt.graph)
        outputs = await self._validated(prompt.run_id, made, folder)
        sensitive = {
            key: extra_data.pop(key) for key in list(extra_data) if _is_secret(key, extra_data[key])
        }
        return Accepted(prompt.run_id, prompt.id, made, given, outputs, extra_data, sensitive)

    def check_classes(self, graph: Graph, extra_data: Mapping[str, Any]) -> None:
        """See that every class of a graph is registered, or that another would take its place.

        Only trying tells the latter: by what packs have ComfyUI do with prompts, they may change
        anything. So that is done to a copy, and only where it is needed.

        Raises:
            InvalidPrompt: With ComfyUI's own kind of node error for each node that is left.
        """
        if _unregistered(graph) or self._broken(graph):
            self._hooked(deepcopy(copied(graph)), deepcopy(dict(extra_data)))

    def put(self, accepted: Accepted, client_id: str, *, previews: bool) -> tuple[Any, ...]:
        """Put a prompt into ComfyUI's queue; return the item that lies there now.

        Args:
            previews: Have ComfyUI make pictures of what samplers are at, where it can be told so.
        """
        item = self.item(accepted, client_id, previews=previews)
        self._server.prompt_queue.put(item)
        return item

    def item(self, accepted: Accepted, client_id: str, *, previews: bool) -> tuple[Any, ...]:
        """Return a queue item: plain data, as the queue shows it; six elements, as new ones read them."""
        number = self._server.number
        if not isinstance(number, (int, float)):  # some pack's: the queue could not be ordered
            number = int(time.time())
        self._server.number = number + 1
        extra_data = {
            **({"preview_method": "auto"} if previews and _makes_none() else {}),
            **accepted.extra_data,
            "client_id": client_id,
            "create_time": int(time.time() * 1000),
        }
        if not KEEPS_SECRETS:
            extra_data = Discreet(extra_data, accepted.sensitive)
        return QueueItem(
            (
                number,
                accepted.prompt_id,
                accepted.plan.graph,
                extra_data,
                accepted.outputs,
                accepted.sensitive if KEEPS_SECRETS else {},
            )
        )

    def _hooked(
        self, graph: dict[str, dict[str, Any]], extra_data: dict[str, Any]
    ) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
        """Let other packs have their way with a prompt, as ComfyUI's route does."""
        data = self._server.trigger_on_prompt({"prompt": graph, "extra_data": extra_data})
        graph = data["prompt"]
        replacements = getattr(self._server, "node_replace_manager", None)
        if replacements is not None:
            for node_id, class_type in _unregistered(graph).items():
                graph[node_id].setdefault("_meta", {"title": class_type})
            replacements.apply_replacements(graph)
        if missing := _unregistered(graph):
            raise unknown_classes(missing)
        if broken := self._broken(graph):
            raise broken_classes(broken)
        return graph, data.get("extra_data", {})

    def _broken(self, graph: Graph) -> dict[str, tuple[str, str]]:
        """Return the nodes whose class cannot be used, with its name and why."""
        classes = {node_id: node["class_type"] for node_id, node in graph.items()}
        return {n: (c, why) for n, c in classes.items() if (why := self._catalog.trouble(c))}

    async def _validated(self, prompt_id: str, made: Plan, folder: RunFolder) -> list[str]:
        try:
            return _outputs(made, await self._checked(prompt_id, made, folder))
        except SystemExit as error:  # some node's; it would end the process
            said = "A node ended ComfyUI's check of the graph with SystemExit."
            raise InvalidPrompt(said, location="prompt") from error

    async def _checked(self, prompt_id: str, made: Plan, folder: RunFolder) -> Any:
        classes = frozenset(node["class_type"] for node in made.graph.values())
        is_waited_for = any(map(_checks_later, classes))
        if is_waited_for or not is_original(execution.validate_prompt, execution.__name__):
            found = await execution.validate_prompt(prompt_id, made.graph, None)
            if made.folders:
                await asyncio.to_thread(_make_folders, made, folder)
            return found
        if not made.folders and self._seconds.get(classes, QUICK_S) < QUICK_S:
            began = time.perf_counter()
            found = await execution.validate_prompt(prompt_id, made.graph, None)
            self._seconds[classes] = time.perf_counter() - began
        else:
            loop = asyncio.get_running_loop()
            found = await loop.run_in_executor(
                self._validator, self._validate, prompt_id, made, folder, classes
            )
            if _has_failed(found):  # perhaps for not being on the thread where ComfyUI checks
                found = await execution.validate_prompt(prompt_id, made.graph, None)
        return found

    def _validate(
        self, prompt_id: str, made: Plan, folder: RunFolder, classes: frozenset[str]
    ) -> Any:
        began = time.perf_counter()
        found = self._validation_loop.run_until_complete(
            execution.validate_prompt(prompt_id, made.graph, None)
        )
        if len(self._seconds) >= MAX_KNOWN:
            self._seconds.clear()
        self._seconds[classes] = time.perf_counter() - began
        _make_folders(made, folder)
        return found


def _checks_later(class_type: str) -> bool:
    """Say whether a class has a check that waits: what it waits for is of the server's loop."""
    registered = nodes.NODE_CLASS_MAPPINGS.get(class_type)
    checks = (getattr(registered, name, None) for name in ("VALIDATE_INPUTS", "validate_inputs"))
    return any(map(inspect.iscoroutinefunction, checks))


def _has_failed(found: Any) -> bool:
    """Say whether a node's own check has raised something."""
    errors = chain.from_iterable(node["errors"] for node in dict(found[3]).values())
    return any(str(error.get("type")).startswith("exception_during") for error in errors)


def _make_folders(made: Plan, folder: RunFolder) -> None:
    """Make the folders that nodes write into; some put them into another of ComfyUI's folders."""
    if not made.folders:
        return
    base = Path(folder_paths.get_output_directory())
    for other in (folder_paths.get_temp_directory(), folder_paths.get_input_directory()):
        folder.discard(Path(other, folder.name))
    for below in made.folders.values():
        folder.make(base, *Path(below).parts[1:])


def _outputs(made: Plan, found: Any) -> list[str]:
    """Return the output nodes of a graph by what ComfyUI's validation has found, or raise."""
    valid, error, outputs, node_errors = found
    if not valid or node_errors:
        raise refusal(error, node_errors, made)
    wanted = set(outputs)
    # ComfyUI looks at no link of an undeclared input or in a wrapped value, and dies of it later.
    if link := broken_link(made.graph, wanted):
        raise leads_nowhere(link, made, {"node_errors": {}})
    return [node_id for node_id in made.graph if node_id in wanted]


def _unregistered(graph: Graph) -> dict[str, str]:
    """Return the nodes whose class is not registered, with its name."""
    classes = {node_id: node["class_type"] for node_id, node in graph.items()}
    return {n: c for n, c in classes.items() if c not in nodes.NODE_CLASS_MAPPINGS}


def _secret_texts(value: Any, *, is_named: bool) -> Iterator[str]:
    """Yield the texts in a value that are secret by its name, or by one inside it."""
    if isinstance(value, str):
        if is_named:
            yield value
    elif isinstance(value, Mapping):
        for name, each in value.items():
            named = is_named or SECRET_EXTRA_DATA.search(str(name)) is not None
            yield from _secret_texts(each, is_named=named)
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _secret_texts(each, is_named=is_named)


def _is_secret(key: str, value: Any) -> bool:
    return key in SENSITIVE or holds_secret(key, value)


def _makes_none() -> bool:
    """Say whether this ComfyUI makes previews only of prompts that ask for them: from 0.5 on."""
    default = getattr(nodes.latent_preview, "default_preview_method", None)
    return default is LatentPreviewMethod.NoPreviews
