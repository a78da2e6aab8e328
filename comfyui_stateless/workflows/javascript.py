"""Workflow files in JavaScript and TypeScript, as comfyui-api has them: zod and generateWorkflow."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from ..errors import RequestError, StatelessError, WorkflowFailed
from . import node_packages
from .base import Built, Description, JsonObject, Surroundings, WorkflowFileError
from .examples import example_of
from .node_packages import PackagesMissing
from .node_process import Node, NodeEnded, NodeMissing

log = logging.getLogger("comfyui_stateless.workflows")

LIMIT_S = 60.0
"""Seconds that a file may take to be loaded, or for one graph; some download a model first."""

AT_ONCE = 4
IMAGE = "https://raw.githubusercontent.com/comfyanonymous/ComfyUI/master/input/example.png"
RETRY_S = 60.0
"""Seconds before npm is tried again after it failed."""


class JavaScript:
    """Loads ``.js`` and ``.ts`` workflow files, and owns the Node.js that runs them.

    Args:
        cache_dir: Below it npm puts the packages that the files need, once.
        packages: Where they are already; None lets npm get them.
        limit_s: Seconds that a file's code may take to load, or for one graph.
        variables: What ``process.env`` and ``../config`` say, whatever our own variables do:
            ``COMFY_HOME``, ``MODEL_DIR``, ``INPUT_DIR``, ``OUTPUT_DIR``, ``COMFYUI_PORT_HOST``.
    """

    def __init__(
        self,
        cache_dir: Path,
        packages: Path | None = None,
        *,
        limit_s: float = LIMIT_S,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self._given = packages
        self._home = packages or node_packages.home_in(cache_dir)
        self._node = Node(limit_s, variables or {})
        self._installing = asyncio.Lock()
        self._failure: tuple[float, PackagesMissing] | None = None
        self._loading = asyncio.Semaphore(AT_ONCE)

    async def load(self, path: Path, surroundings: Surroundings) -> JavaScriptEndpoint:
        """Make an endpoint of a file.

        Raises:
            WorkflowFileError: The file is wrong, or there is no Node.js to run it, or no npm.
        """
        return await self.described(path, surroundings, None)

    async def described(
        self, path: Path, surroundings: Surroundings, modules: JsonObject | None
    ) -> JavaScriptEndpoint:
        """Make an endpoint of a file, as it is now or as the modules that it once was.

        Raises:
            WorkflowFileError: As ``load`` does.
        """
        key, told = uuid4().hex, _told(surroundings)
        program = {"file": str(path), "surroundings": told, "modules": modules}
        try:
            async with self._loading:
                reply = await self.ask({"do": "load", "key": key, **program})
        except (NodeMissing, PackagesMissing) as error:
            raise WorkflowFileError(path, str(error)) from None
        except NodeEnded:
            raise WorkflowFileError(path, "Node.js ended while it loaded this file") from None
        if "failed" in reply:
            raise _file_error(path, reply["failed"])
        program["modules"] = reply["modules"]
        description = await self._description(key, reply["described"])
        return JavaScriptEndpoint(self, path, description, key, program)

    async def ask(self, request: JsonObject) -> dict[str, Any]:
        """Send a request to Node.js, which is started if it does not run.

        Raises:
            NodeMissing, NodeEnded, PackagesMissing: There is no answer.
        """
        await self._ensure_packages()
        return await self._node.ask(self._home, request)

    async def _description(self, key: str, described: Mapping[str, Any]) -> Description:
        """Return what a file says of itself, with an example if zod takes it."""
        schema = described["schema"]
        example = example_of(_with_media(schema))
        if example is not None:
            with suppress(NodeMissing, NodeEnded, PackagesMissing):
                checked = await self.ask({"do": "check", "key": key, "input": example})
                example = None if set(checked) - {"id"} else example
        return Description(schema, described.get("summary"), described.get("description"), example)

    async def close(self) -> None:
        """End Node.js."""
        await self._node.close()

    async def _ensure_packages(self) -> None:
        if node_packages.are_in(self._home):
            return
        if self._given is not None:
            raise PackagesMissing(
                f"WORKFLOW_NODE_PACKAGES is {self._given}, which holds no packages: "
                f"run `{node_packages.COMMAND}`"
            )
        async with self._installing:
            if node_packages.are_in(self._home):
                return
            if self._failure and time.monotonic() < self._failure[0]:
                raise self._failure[1]
            await self._install()

    async def _install(self) -> None:
        log.info("npm gets what JavaScript workflow files need, into %s", self._home)
        try:
            await node_packages.install(self._home)
        except PackagesMissing as error:
            # Each of fifty files would wait for the same failure.
            self._failure = (time.monotonic() + RETRY_S, error)
            raise


@dataclass(frozen=True, slots=True)
class JavaScriptEndpoint:
    """A file that has been loaded, as it was then: what it became is kept here, not in Node.js.

    Attributes:
        program: The modules of the file as plain JavaScript, and what it was told.
    """

    javascript: JavaScript
    source: Path
    description: Description
    key: str
    program: JsonObject

    @property
    def neighbours(self) -> Sequence[Path]:
        """The other files that it imports."""
        return [Path(name) for name in self.program["modules"] if name != str(self.source)]

    async def renewed(self, surroundings: Surroundings) -> JavaScriptEndpoint:
        """Return the endpoint of the file as it was read, for other surroundings.

        Raises:
            WorkflowFileError: The file does not fit them.
        """
        modules = self.program["modules"]
        return await self.javascript.described(self.source, surroundings, modules)

    async def build(self, given: JsonObject) -> Built:
        """Let zod check ``given``, and the file make a graph of it.

        Raises:
            RequestError: zod refuses it.
            WorkflowFailed: The file's code failed or took too long, or Node.js is gone.
        """
        request = {"do": "build", "key": self.key, "input": given}
        try:
            reply = await self.javascript.ask(request)
            if "unknown" in reply:
                reply = await self.javascript.ask({**request, "program": self.program})
        except (NodeMissing, NodeEnded, PackagesMissing) as error:
            raise WorkflowFailed(_ended(f"{self.source.name}: {error}")) from None
        if "issues" in reply:
            raise _refusal(reply["issues"])
        if "failed" in reply:
            raise self._failure(reply["failed"])
        return Built(graph=reply["graph"], input=reply["input"])

    def _failure(self, failed: Mapping[str, Any]) -> StatelessError:
        file, line = Path(failed.get("file", self.source)), failed.get("line")
        where = file.name if line is None else f"{file.name}, line {line}"
        log.warning("%s failed: %s", where, failed.get("trace") or failed["reason"])
        return WorkflowFailed(_ended(f"{where}: {failed['reason']}"))


def _ended(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _told(surroundings: Surroundings) -> dict[str, Any]:
    return {
        "samplers": list(surroundings.samplers),
        "schedulers": list(surroundings.schedulers),
        "models": {folder: list(names) for folder, names in surroundings.models.items()},
        "warmup_checkpoint": surroundings.warmup_checkpoint,
    }


def _file_error(path: Path, failed: Mapping[str, Any]) -> WorkflowFileError:
    log.debug("%s", failed.get("trace") or failed["reason"])
    file, line = failed.get("file", str(path)), failed.get("line")
    if file != str(path):
        return WorkflowFileError(path, f"{file}, line {line}: {failed['reason']}")
    return WorkflowFileError(path, failed["reason"], line)


def _with_media(schema: JsonObject) -> JsonObject:
    """Return a schema whose inputs that are images by their names have one for an example."""
    members = {
        name: {"examples": [IMAGE], **member} if _is_image(name, member) else member
        for name, member in schema.get("properties", {}).items()
    }
    return {**schema, "properties": members} if members else schema


def _is_image(name: str, member: Mapping[str, Any]) -> bool:
    is_plain = member.get("type") == "string" and not member.keys() & {"default", "enum", "const"}
    return is_plain and any(word in name.lower() for word in ("image", "mask"))


def _refusal(issues: Sequence[Mapping[str, Any]]) -> RequestError:
    places = [".".join(["input", *map(str, issue["path"])]) for issue in issues]
    # A schema of zod's may be wrong as a whole.
    name = places[0].partition(".")[2] or "input"
    first = f"{name}: {issues[0]['message']}"
    found = [
        {"location": place, "message": issue["message"]}
        for place, issue in zip(places, issues, strict=True)
    ]
    return RequestError(_ended(first), location=places[0], details={"errors": found})
