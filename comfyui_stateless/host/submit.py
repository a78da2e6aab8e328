"""ComfyUI's side of a prompt's way in: what its own ``POST /prompt`` does, without the route."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import execution
import folder_paths
import nodes

from ..engine import PreparedPrompt
from .capture import Savers
from .catalog import Catalog
from .failures import refusal, unknown_class
from .files import RunFolder
from .learn import Expanders
from .plan import Plan, copied, plan

SENSITIVE = tuple(
    getattr(execution, "SENSITIVE_EXTRA_DATA_KEYS", ("auth_token_comfy_org", "api_key_comfy_org"))
)
HAS_SENSITIVE = hasattr(execution, "SENSITIVE_EXTRA_DATA_KEYS")
"""Whether this ComfyUI's queue keeps secrets apart from what it shows of a prompt."""


@dataclass(frozen=True, slots=True)
class Accepted:
    """A prompt that ComfyUI's validation has passed.

    Attributes:
        outputs: The ids of the output nodes to execute, in the order of the graph.
        extra_data: What nodes get, without secrets.
        sensitive: The secrets among what nodes get.
    """

    prompt_id: str
    plan: Plan
    outputs: list[str]
    extra_data: dict[str, Any]
    sensitive: dict[str, Any]

    def secrets(self) -> tuple[str, ...]:
        """Return the secret texts, which no message may hold."""
        return tuple(v for v in self.sensitive.values() if isinstance(v, str) and v)


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

    async def validate(self, prompt: PreparedPrompt, folder: RunFolder) -> Accepted:
        """Plan a prompt and check it as ComfyUI does, off the loop: it lists folders.

        Raises:
            InvalidPrompt: With ComfyUI's own node errors.
        """
        graph, extra_data = self._hooked(copied(prompt.graph), dict(prompt.extra_data))
        made = plan(
            graph, prompt, folder.name, self._catalog, self._savers, self._expanders.__contains__
        )
        outputs = await asyncio.get_running_loop().run_in_executor(
            self._validator, self._validated, prompt.run_id, made, folder
        )
        sensitive = {key: extra_data.pop(key) for key in SENSITIVE if key in extra_data}
        return Accepted(prompt.run_id, made, outputs, extra_data, sensitive)

    def put(self, accepted: Accepted, client_id: str) -> tuple[Any, ...]:
        """Put a prompt into ComfyUI's queue; return the item that lies there now."""
        item = self.item(accepted, client_id)
        self._server.prompt_queue.put(item)
        return item

    def item(self, accepted: Accepted, client_id: str) -> tuple[Any, ...]:
        """Return a queue item: plain data, as the queue copies it; six elements, as new ones read them."""
        number = self._server.number
        self._server.number += 1
        extra_data = {
            **accepted.extra_data,
            **({} if HAS_SENSITIVE else accepted.sensitive),
            "client_id": client_id,
            "create_time": int(time.time() * 1000),
        }
        return (
            number,
            accepted.prompt_id,
            accepted.plan.graph,
            extra_data,
            accepted.outputs,
            accepted.sensitive,
        )

    def _hooked(
        self, graph: dict[str, dict[str, Any]], extra_data: dict[str, Any]
    ) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
        """Let other packs have their way with a prompt, as ComfyUI's route does."""
        data = self._server.trigger_on_prompt({"prompt": graph, "extra_data": extra_data})
        graph = data["prompt"]
        replacements = getattr(self._server, "node_replace_manager", None)
        if replacements is not None:
            for node in graph.values():
                if node["class_type"] not in nodes.NODE_CLASS_MAPPINGS:
                    node.setdefault("_meta", {"title": node["class_type"]})
            replacements.apply_replacements(graph)
        for node_id, node in graph.items():
            if node["class_type"] not in nodes.NODE_CLASS_MAPPINGS:
                raise unknown_class(node_id, node["class_type"])
        return graph, data.get("extra_data", {})

    def _validated(self, prompt_id: str, made: Plan, folder: RunFolder) -> list[str]:
        valid, error, outputs, node_errors = self._validation_loop.run_until_complete(
            execution.validate_prompt(prompt_id, made.graph, None)
        )
        if not valid or node_errors:
            raise refusal(error, node_errors, made)
        base = Path(folder_paths.get_output_directory())
        for below in made.folders.values():
            folder.make(base, *Path(below).parts[1:])
        wanted = set(outputs)
        return [node_id for node_id in made.graph if node_id in wanted]
