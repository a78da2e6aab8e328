"""What is written down of a job that was accepted, so that it ends in a message whatever happens.

The journal gets the request as it was prepared, without secrets: media lie beside it as files and
are named ``upload://…`` in the graph, models go by their names in ComfyUI's folders.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from itertools import chain, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .engine import InputFile, NodeText, OutputFile, PreparedPrompt, PromptResult
from .errors import (
    Crashed,
    ExecutionInterrupted,
    FolderFailed,
    Gone,
    RequestError,
    StatelessError,
    StorageError,
    Unavailable,
)
from .inputs import UPLOAD, Uploaded
from .journal import (
    Content,
    IdempotencyKey,
    JobContents,
    Message,
    NewJob,
    Source,
    StoredResult,
)
from .messages import messages_for
from .outputs import described
from .prepare import with_values
from .requests import PromptRequest
from .wire import own_json, to_json

if TYPE_CHECKING:
    from .journal.journal import Journal

log = logging.getLogger("comfyui_stateless.recording")

NEVER_RECORDED = {"credentials", "extra_data", "prompt"}

PREPARED = "prepared"
"""What a record has beside the fields of its request: the graph as it was prepared."""

RETRY_DELAYS_S = (1.0, 5.0, 15.0, 60.0)
"""Seconds before an end is recorded again where the journal fails; the last holds for ever."""


class Resumed(NamedTuple):
    """A job as it was recorded; ``graph`` is the one that was prepared."""

    request: PromptRequest
    graph: Mapping[str, Any]


class Recorded:
    """Writes down how far one accepted job is.

    Args:
        run_id: The job's own id.
        graph: As it was prepared, where that is known already.
        accept: Called with the reply that the caller may get now; None where it has got one.
        send: Takes the messages that are due.
        key: The request's Idempotency-Key.
    """

    def __init__(
        self,
        request: PromptRequest,
        run_id: str,
        journal: Journal,
        send: Callable[[Message], None],
        *,
        graph: Mapping[str, Any] | None = None,
        accept: Callable[[Mapping[str, Any]], None] | None = None,
        key: IdempotencyKey | None = None,
    ) -> None:
        self._request = request
        self._run_id = run_id
        self._journal = journal
        self._send = send
        self._accept = accept
        self._key = key
        self._is_accepted = accept is None
        self._is_counted = False
        self._graph = request.prompt if graph is None else graph

    async def accepted(self, prepared: PreparedPrompt) -> None:
        """Record the job, and only then tell that it is accepted.

        Raises:
            StorageError: It cannot be recorded.
        """
        self._graph = prepared.graph
        if self._accept is None:
            return
        recording = asyncio.ensure_future(
            self._journal.accept(new_job(self._request, prepared, self._key))
        )
        try:
            await asyncio.shield(recording)
        finally:
            # Also for a job that is stopped in this moment: what is on the disk is a promise.
            await asyncio.wait({recording})
            if recording.exception() is None:
                self._is_accepted = True
                self._accept(accepted_reply(self._request, prepared.graph))

    async def begun(self) -> None:
        """Count an attempt.

        Raises:
            StorageError: It cannot be recorded.
        """
        self._is_counted = True
        await self._journal.begin_attempt(self._run_id)

    async def not_begun(self) -> None:
        """Note that the job was let go of before it ran, so that there was no attempt.

        Raises:
            StorageError: It cannot be recorded.
        """
        if self._is_counted:
            await self._journal.withdraw_attempt(self._run_id)

    async def ended(self, outcome: PromptResult | StatelessError) -> None:
        """Record the end together with the messages that are due, and have them sent.

        Where the journal fails, as on a full disk, it is tried for as long as the process lives;
        after that the job is run again. Where an output went away first, the job has failed.
        """
        if not self._is_accepted:
            return  # the caller is told at once
        for delay_s in chain(RETRY_DELAYS_S, repeat(RETRY_DELAYS_S[-1])):
            if await self._is_finished(outcome):
                break
            await asyncio.sleep(delay_s)

    async def _is_finished(self, outcome: PromptResult | StatelessError) -> bool:
        """Record the end; say whether that has worked."""
        messages = messages_for(self._request, self._graph, outcome)
        meta, files = ending(self._request, self._graph, outcome), stored_files(outcome)
        try:
            due = await self._journal.finish(self._run_id, meta, messages, files)
        except FolderFailed as error:
            # An output went away. The end of a job that failed needs no file.
            return await self._is_finished(error)
        except StorageError as error:
            log.error("The end of run %s is not recorded yet: %s", self._run_id, error.message)
            return False
        for message in due:
            self._send(message)
        return True


class Kept:
    """Keeps the result of one job whose caller waits, for repeats under its key."""

    begun = None

    def __init__(
        self, request: PromptRequest, run_id: str, journal: Journal, key: IdempotencyKey
    ) -> None:
        self._request = request
        self._run_id = run_id
        self._journal = journal
        self._key = key
        self._graph: Mapping[str, Any] = {}

    async def accepted(self, prepared: PreparedPrompt) -> None:
        self._graph = prepared.graph

    async def ended(self, outcome: PromptResult | StatelessError) -> None:
        """Keep the result; a request that was wrong, or was not run to its end, frees its key."""
        if isinstance(outcome, (RequestError, ExecutionInterrupted, Unavailable)):
            return
        meta, files = ending(self._request, self._graph, outcome), stored_files(outcome)
        try:
            await self._journal.store_result(self._run_id, self._request.id, meta, files, self._key)
        except StorageError as error:
            log.warning("The result of run %s is not kept: %s", self._run_id, error.message)


def accepted_reply(request: PromptRequest, graph: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body of a 202."""
    return {"id": request.id, "status": "ok", "prompt": graph, **request.echo()}


def recorded_reply(recorded: bytes) -> dict[str, Any]:
    """Return the body of a 202 for a job as it is recorded."""
    job = recorded_request(recorded)
    return accepted_reply(job.request, job.graph)


def repeated_reply(stored: StoredResult) -> dict[str, Any]:
    """Return the body of a 202 for an accepted job that has ended meanwhile."""
    meta = stored.meta
    return {"id": stored.id, "status": "ok", "prompt": meta["prompt"], **meta["echo"]}


def new_job(request: PromptRequest, prepared: PreparedPrompt, key: IdempotencyKey | None) -> NewJob:
    """Return what the journal needs to run a job again."""
    files = {_upload(file): file.path for files in prepared.fetched.values() for file in files}
    recorded = request.model_dump(
        mode="json", exclude_unset=True, by_alias=True, exclude=NEVER_RECORDED
    )
    secret = request.secret_extra_data
    recorded |= {
        "id": request.id,
        "prompt": _recorded_graph(request, prepared),
        PREPARED: prepared.graph,
        "extra_data": {k: v for k, v in (request.extra_data or {}).items() if k not in secret},
    }
    return NewJob(
        run_id=prepared.run_id,
        id=request.id,
        request=to_json(recorded),
        needs_secrets=bool(secret),
        files=files,
        key=key,
    )


def recorded_request(recorded: bytes) -> Resumed:
    """Return a job as it was recorded.

    Raises:
        ValueError, LookupError: The record cannot be read.
    """
    said = own_json(recorded)
    model: type[PromptRequest] = PromptRequest
    if "workflow" in said:
        # Imported here: making the model takes time, of which ComfyUI's start has little for us.
        from .workflows.requests import WorkflowPrompt

        model = WorkflowPrompt
    return Resumed(model.model_validate_json(recorded), graph=said[PREPARED])


def recorded_files(contents: JobContents, folder: Callable[[], Path]) -> dict[str, Uploaded]:
    """Return the files that a recorded job came with, by the names in its graph. Blocks.

    Args:
        folder: Gives the folder for what lies in no file yet.

    Raises:
        OSError: One cannot be read.
    """
    return {n: _as_uploaded(n, c, folder) for n, c in contents.files.items()}


def ending(
    request: PromptRequest, graph: Mapping[str, Any], outcome: PromptResult | StatelessError
) -> dict[str, Any]:
    """Return what is kept of how a job ended, for ``result_of`` and ``error_of``.

    Args:
        graph: As it was prepared.
    """
    if isinstance(outcome, StatelessError):
        return {
            "prompt": graph,
            "status": outcome.status,
            "error": outcome.body(),
            "echo": request.echo(),
        }
    return {
        "prompt": outcome.prompt,
        "outputs": [described(output) for output in outcome.outputs],
        "texts": [{"node_id": text.node_id, "text": text.text} for text in outcome.texts],
        "stats": outcome.stats,
        "echo": outcome.echo,
        "urls": outcome.urls,
    }


def unreadable_ending() -> dict[str, Any]:
    """Return what is kept of a job whose record cannot be read, so that nobody can be told."""
    error = Crashed("The server ended before this job was done, and its record cannot be read.")
    return {"prompt": {}, "status": error.status, "error": error.body(), "echo": {}}


def stored_files(outcome: PromptResult | StatelessError) -> dict[str, Source]:
    """Return the outputs that are kept with a result: those that lie nowhere else."""
    if isinstance(outcome, StatelessError) or outcome.urls is not None:
        return {}
    return {str(number): output.body for number, output in enumerate(outcome.outputs)}


def error_of(stored: StoredResult) -> StatelessError | None:
    """Return the error that a kept job ended with, None if it succeeded."""
    body = stored.meta.get("error")
    if body is None:
        return None
    error = StatelessError(body["error"], location=body.get("location"), details=body["details"])
    error.status, error.code = stored.meta["status"], body["code"]
    return error


def result_of(stored: StoredResult) -> PromptResult:
    """Return a result as it was kept. Blocks nowhere; large outputs are read when they are sent.

    Raises:
        Gone: There was no room to keep its outputs.
        StatelessError: The job failed so.
    """
    if error := error_of(stored):
        raise error
    meta, outputs = stored.meta, []
    for number, said in enumerate(stored.meta["outputs"]):
        content = stored.files.get(str(number))
        if content is None and meta["urls"] is None:
            raise Gone("RESULT_MAX_BYTES left no room to keep the outputs of this job.")
        outputs.append(_output(said, content))
    return PromptResult(
        id=stored.id,
        prompt=meta["prompt"],
        outputs=tuple(outputs),
        texts=tuple(NodeText(text["node_id"], text["text"]) for text in meta["texts"]),
        stats=meta["stats"],
        echo=meta["echo"],
        urls=None if meta["urls"] is None else tuple(meta["urls"]),
    )


def _recorded_graph(request: PromptRequest, prepared: PreparedPrompt) -> dict[str, Any]:
    values: dict[tuple[str, str], Any] = {}
    for (node_id, name), files in prepared.fetched.items():
        named = [f"{UPLOAD}{_upload(file)}" for file in files]
        local = prepared.graph[node_id]["inputs"][name]
        values[node_id, name] = (named if len(named) > 1 else named[0]) if named else local
    return with_values(request.prompt, values)


def _upload(file: InputFile) -> str:
    return f"{file.digest}{file.extension}"


def _as_uploaded(name: str, content: Content, folder: Callable[[], Path]) -> Uploaded:
    path = content.path
    if path is not None:
        path.stat()  # a file that is gone is to be noticed here
    else:
        path = folder() / f"recorded-{name}"
        path.write_bytes(content.read())
    digest, _, extension = name.partition(".")
    return Uploaded(path, digest, f".{extension}" if extension else "")


def _output(said: Mapping[str, Any], content: Content | None) -> OutputFile:
    body = b"" if content is None else content.path or content.data or b""
    return OutputFile(
        node_id=said["node_id"],
        filename=said["filename"],
        kind=said["type"],
        media_type=said["media_type"],
        body=body,
        size=said["size_bytes"],
        width=said.get("width"),
        height=said.get("height"),
    )
