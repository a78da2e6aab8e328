"""What would happen to a prompt: everything that can be said without running it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .engine import Graph, ModelInput, PreparedPrompt, RepositoryInput
from .errors import InvalidInput, InvalidPrompt, StatelessError, StorageError
from .inputs import Wanted, find, is_address
from .naming import redacted, safe_id
from .pipeline import Services
from .prepare import name_outputs
from .requests import PromptRequest
from .storage.auth import Credential


@dataclass(frozen=True, slots=True)
class Fetch:
    """Something that would be fetched.

    Attributes:
        location: The input that names it.
        url: Without secrets.
        folder: The model folder that it would be linked into, None for media.
        size: Bytes, None where the origin does not say.
        cached: Whether it is there already.
    """

    location: str
    url: str
    folder: str | None
    size: int | None
    cached: bool


@dataclass(frozen=True, slots=True)
class Missing:
    """A model that a graph names and that is not there."""

    location: str
    folder: str
    name: str


@dataclass(slots=True)
class Findings:
    """What is known of a prompt that was not run.

    Attributes:
        errors: What would keep it from running, beside what the other fields say.
        node_errors: ComfyUI's own, without those that the fetches will settle.
        missing_nodes: The class_type of each node whose class is not registered, by node id.
    """

    errors: list[StatelessError] = field(default_factory=list)
    node_errors: Mapping[str, Any] = field(default_factory=dict)
    missing_nodes: Mapping[str, str] = field(default_factory=dict)
    missing_models: Sequence[Missing] = ()
    fetches: Sequence[Fetch] = ()

    @property
    def is_valid(self) -> bool:
        """Whether nothing was found that would keep the prompt from running."""
        missing = self.missing_nodes or self.missing_models
        return not (self.errors or self.node_errors or missing)


async def examine(request: PromptRequest, services: Services) -> Findings:
    """Find out what would happen to a prompt: nothing is downloaded, queued or run."""
    engine = services.engine
    await engine.learn_inputs()
    findings = Findings(missing_nodes=_missing_nodes(request.prompt, services))
    wanted: tuple[Wanted, ...] = ()
    try:
        wanted = find(request.prompt, engine.file_inputs, engine.find_file)
    except InvalidInput as error:
        findings.errors.append(error)
    credentials = request.credentials or ()
    fetches = [_fetch(w, url, credentials, services) for w in wanted for url in w.values]
    for fetch in await asyncio.gather(*fetches):
        if isinstance(fetch, StatelessError):
            findings.errors.append(fetch)
        elif fetch is not None:
            findings.fetches = [*findings.fetches, fetch]
    findings.missing_models = tuple(
        _missing_models(request.prompt, await engine.models(), services)
    )
    if not findings.missing_nodes:
        await _validate(request, services, findings, {(w.node_id, w.name) for w in wanted})
    return findings


def _missing_nodes(graph: Graph, services: Services) -> dict[str, str]:
    classes = {node_id: str(node["class_type"]) for node_id, node in graph.items()}
    return {n: c for n, c in classes.items() if services.engine.node_class(c) is None}


def _missing_models(
    graph: Graph, models: Mapping[str, Sequence[str]], services: Services
) -> Iterator[Missing]:
    for node_id, node in graph.items():
        for name, slot in services.engine.file_inputs(node["class_type"]).items():
            value = node["inputs"].get(name)
            if not isinstance(slot, ModelInput) or not isinstance(value, str):
                continue
            there = any(value in models.get(folder, ()) for folder in slot.folders)
            if not (there or value in slot.options or "://" in value):
                yield Missing(f"prompt.{node_id}.inputs.{name}", slot.folders[0], value)


async def _fetch(
    wanted: Wanted, url: str, credentials: Sequence[Credential], services: Services
) -> Fetch | StatelessError | None:
    if not is_address(url):
        return None
    if isinstance(wanted.slot, RepositoryInput):
        return Fetch(wanted.location, redacted(url), wanted.slot.folder, None, False)
    try:
        found = await services.cache.inspect(url, credentials)
    except StorageError as error:
        return InvalidInput(error.message, location=wanted.location, details={"reason": error.code})
    folder = wanted.slot.folders[0] if isinstance(wanted.slot, ModelInput) else None
    return Fetch(wanted.location, redacted(url), folder, found.size, found.is_cached)


async def _validate(
    request: PromptRequest,
    services: Services,
    findings: Findings,
    fetched: set[tuple[str, str]],
) -> None:
    """Add what ComfyUI's validation says, but for the inputs that a fetch would fill."""
    run_id = str(uuid.uuid4())
    safe = safe_id(request.id)
    prepend = services.settings.prepend_filenames
    try:
        graph = name_outputs(request.prompt, services.engine.node_class, safe, prepend=prepend)
        prompt = PreparedPrompt(run_id, request.id, graph, f"{safe}_", request.extra_data or {})
        async with services.engine.workspace(run_id) as workspace:
            await services.engine.validate(prompt, workspace)
    except InvalidPrompt as error:
        said = error.details.get("node_errors", {})
        findings.node_errors = _without_fetched(said, fetched)
        if not said:
            findings.errors.append(error)
    except StatelessError as error:
        findings.errors.append(error)


def _without_fetched(
    node_errors: Mapping[str, Any], fetched: set[tuple[str, str]]
) -> dict[str, Any]:
    left = {}
    for node_id, found in node_errors.items():
        errors = [
            e
            for e in found["errors"]
            if (node_id, (e.get("extra_info") or {}).get("input_name")) not in fetched
        ]
        if errors:
            left[node_id] = {**found, "errors": errors}
    return left
