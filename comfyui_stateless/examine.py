"""What would happen to a prompt: everything that can be said without running it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from .engine import (
    BROKEN_NODE,
    Engine,
    Graph,
    MediaInput,
    ModelInput,
    PreparedPrompt,
    RepositoryInput,
)
from .errors import InvalidInput, InvalidPrompt, StatelessError, StorageError
from .inputs import (
    UPLOAD,
    Given,
    Uploaded,
    Wanted,
    failed,
    find,
    inline_file,
    is_address,
    texts,
    uploaded,
)
from .naming import redacted, safe_id
from .pipeline import Services
from .prepare import NO_UPLOADS, name_outputs, with_values
from .requests import PromptRequest

STAND_IN = "a file that would be fetched"
"""What ComfyUI's validation sees in place of what is not there yet; its complaint is dropped."""


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


async def examine(
    request: PromptRequest, services: Services, uploads: Mapping[str, Uploaded] = NO_UPLOADS
) -> Findings:
    """Find out what would happen to a prompt: nothing is downloaded, queued or run.

    Args:
        uploads: The files that came with the request, by the name of their part.
    """
    engine = services.engine
    await engine.learn_inputs()
    findings = Findings(missing_nodes=_missing_nodes(request, services))
    wanted: list[Wanted] = []
    for found in [_find(node_id, request.prompt, engine) for node_id in request.prompt]:
        if isinstance(found, StatelessError):
            findings.errors.append(found)
        else:
            wanted.extend(found)
    given = Given(request.credentials or (), uploads)
    given.require_choosable(wanted)
    fetches = [_fetch(w, value, given, services) for w in wanted for value in w.values]
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


def _missing_nodes(request: PromptRequest, services: Services) -> dict[str, str]:
    try:
        services.engine.check_classes(request.prompt, request.extra_data or {})
    except InvalidPrompt as error:
        found = error.details.get("node_errors", {})
        return {
            node_id: said["class_type"]
            for node_id, said in found.items()
            if all(e["type"] != BROKEN_NODE for e in said["errors"])
        }
    return {}


def _find(node_id: str, graph: Graph, engine: Engine) -> Sequence[Wanted] | StatelessError:
    """Return what one node needs, or why it cannot have it."""
    try:
        return find({node_id: graph[node_id]}, engine.file_inputs, engine.find_file)
    except InvalidInput as error:
        return error


def _missing_models(
    graph: Graph, models: Mapping[str, Sequence[str]], services: Services
) -> Iterator[Missing]:
    for node_id, node in graph.items():
        for name, slot in services.engine.file_inputs(node["class_type"]).items():
            if not isinstance(slot, ModelInput):
                continue
            for value in texts(node["inputs"].get(name), slot)[0]:
                there = any(value in models.get(folder, ()) for folder in slot.folders)
                if not (there or value in slot.options or "://" in value):
                    yield Missing(f"prompt.{node_id}.inputs.{name}", slot.folders[0], value)


async def _fetch(
    wanted: Wanted, value: str, given: Given, services: Services
) -> Fetch | StatelessError | None:
    """Return what would be fetched for a value, why it cannot be had, or None if it is there."""
    try:
        if not is_address(value):
            await _check_given(wanted, value, given, services)
            return None
        if isinstance(wanted.slot, RepositoryInput):
            return Fetch(wanted.location, redacted(value), wanted.slot.folder, None, False)
        found = await services.cache.inspect(value, given.credentials)
    except (StorageError, InvalidInput) as error:
        return failed(wanted, error)
    folder = wanted.slot.folders[0] if isinstance(wanted.slot, ModelInput) else None
    return Fetch(wanted.location, redacted(value), folder, found.size, found.is_cached)


async def _check_given(wanted: Wanted, value: str, given: Given, services: Services) -> None:
    """See that what came with the request is whole.

    Raises:
        InvalidInput: It is not.
    """
    if value.startswith(UPLOAD):
        uploaded(value, given.uploads)
    elif isinstance(wanted.slot, MediaInput) and services.engine.find_file(value) is None:
        await asyncio.to_thread(inline_file, value)


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
        # ComfyUI logs the values that it refuses, and an address may hold secrets.
        graph = with_values(graph, dict.fromkeys(fetched, STAND_IN))
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
