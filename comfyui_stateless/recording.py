"""What is written down of a job that was accepted, so that it ends in a message whatever happens.

The journal gets the request as it was prepared, without secrets: media lie beside it as files and
are named ``upload://…`` in the graph, models go by their names in ComfyUI's folders.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from .bodies import Base64, Body, Text, json_body
from .engine import InputFile, NodeText, OutputFile, PreparedPrompt, PromptResult
from .errors import ExecutionInterrupted, Gone, RequestError, StatelessError, StorageError
from .inputs import UPLOAD, Uploaded
from .journal import (
    Content,
    DueMessage,
    IdempotencyKey,
    JobContents,
    Journal,
    Message,
    NewJob,
    Source,
    StoredResult,
)
from .outputs import described
from .prepare import with_values
from .requests import PromptRequest
from .webhooks import new_message_id
from .wire import to_json

log = logging.getLogger("comfyui_stateless.recording")

NEVER_RECORDED = {"credentials", "extra_data", "prompt"}


class Recorded:
    """Writes down how far one accepted job is.

    Args:
        run_id: The job's own id.
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
        self._prompt: Mapping[str, Any] = request.prompt

    async def accepted(self, prepared: PreparedPrompt) -> None:
        """Record the job, and only then tell that it is accepted.

        Raises:
            StorageError: It cannot be recorded.
        """
        self._prompt = prepared.graph
        if self._accept is None:
            return
        await self._journal.accept(new_job(self._request, prepared, self._key))
        self._is_accepted = True
        self._accept(accepted_reply(self._request, prepared.graph))

    async def begun(self) -> None:
        """Count an attempt.

        Raises:
            StorageError: It cannot be recorded.
        """
        await self._journal.begin_attempt(self._run_id)

    async def ended(self, outcome: PromptResult | StatelessError) -> None:
        """Record the end together with the messages that are due, and have them sent.

        Raises:
            StorageError: It cannot be recorded: the job will be run again after a restart.
        """
        if not self._is_accepted:
            return  # the caller is told at once
        messages = messages_for(self._request, self._prompt, outcome)
        meta = ending(self._prompt, outcome)
        files = stored_files(outcome)
        for message in await self._journal.finish(self._run_id, meta, messages, files):
            self._send(message)


class Kept:
    """Keeps the result of one job whose caller waits, for repeats under its key."""

    def __init__(
        self, request: PromptRequest, run_id: str, journal: Journal, key: IdempotencyKey
    ) -> None:
        self._request = request
        self._run_id = run_id
        self._journal = journal
        self._key = key
        self._prompt: Mapping[str, Any] = {}

    async def accepted(self, prepared: PreparedPrompt) -> None:
        self._prompt = prepared.graph

    async def begun(self) -> None:
        pass

    async def ended(self, outcome: PromptResult | StatelessError) -> None:
        """Keep the result; a request that was wrong in itself leaves its key free."""
        if isinstance(outcome, (RequestError, ExecutionInterrupted)):
            return
        meta, files = ending(self._prompt, outcome), stored_files(outcome)
        try:
            await self._journal.store_result(self._run_id, self._request.id, meta, files, self._key)
        except StorageError as error:
            log.warning("The result of run %s is not kept: %s", self._run_id, error.message)


def accepted_reply(request: PromptRequest, graph: Mapping[str, Any]) -> dict[str, Any]:
    """Return the body of a 202."""
    return {"id": request.id, "status": "ok", "prompt": graph, **request.echo()}


def recorded_reply(recorded: bytes) -> dict[str, Any]:
    """Return the body of a 202 for a job as it is recorded."""
    request = PromptRequest.model_validate_json(recorded)
    return accepted_reply(request, request.prompt)


def repeated_reply(stored: StoredResult) -> dict[str, Any]:
    """Return the body of a 202 for an accepted job that has ended meanwhile."""
    meta = stored.meta
    return {"id": stored.id, "status": "ok", "prompt": meta["prompt"], **meta.get("echo", {})}


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


def recorded_request(
    contents: JobContents, folder: Callable[[], Path]
) -> tuple[PromptRequest, dict[str, Uploaded]]:
    """Return a request as it was recorded, and the files that belong to it. Blocks.

    Args:
        folder: Gives the folder for what lies in no file yet.

    Raises:
        OSError, ValueError: The record cannot be read.
    """
    request = PromptRequest.model_validate_json(contents.request.read())
    return request, {n: _as_uploaded(n, c, folder) for n, c in contents.files.items()}


def ending(graph: Mapping[str, Any], outcome: PromptResult | StatelessError) -> dict[str, Any]:
    """Return what is kept of how a job ended, for ``result_of`` and ``error_of``.

    Args:
        graph: As it was prepared.
    """
    if isinstance(outcome, StatelessError):
        return {"prompt": graph, "status": outcome.status, "error": outcome.body()}
    return {
        "prompt": outcome.prompt,
        "outputs": [described(output) for output in outcome.outputs],
        "texts": [{"node_id": text.node_id, "text": text.text} for text in outcome.texts],
        "stats": outcome.stats,
        "echo": outcome.echo,
        "urls": outcome.urls,
    }


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
    """
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


def messages_for(
    request: PromptRequest, graph: Mapping[str, Any], outcome: PromptResult | StatelessError
) -> list[DueMessage]:
    """Return the messages that a job's end makes due.

    Args:
        graph: As it was prepared.
    """
    if request.webhook_v2 is not None:
        return [_signed(request.webhook_v2, _complete_or_failed(request, graph, outcome))]
    if request.webhook is None:
        return []
    if isinstance(outcome, StatelessError):
        failed = {
            "event": "prompt.failed",
            "error": outcome.message,
            "id": request.id,
            "prompt": graph,
        }
        return [_unsigned(request.webhook, [Text(to_json(failed))])]
    return [
        _unsigned(request.webhook, _output_complete(outcome, number))
        for number, _ in enumerate(outcome.outputs)
    ]


def _complete_or_failed(
    request: PromptRequest, graph: Mapping[str, Any], outcome: PromptResult | StatelessError
) -> Body:
    now = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if isinstance(outcome, PromptResult):
        return json_body(outcome, {"type": "prompt.complete", "timestamp": now})
    failed = {"type": "prompt.failed", "timestamp": now, "id": request.id, "prompt": graph}
    return [Text(to_json({**failed, **outcome.body()}))]


def _output_complete(result: PromptResult, number: int) -> Body:
    output = result.outputs[number]
    rest = {
        "id": result.id,
        "filename": output.filename,
        "prompt": result.prompt,
        "stats": result.stats,
    }
    head = b'{"event":"output.complete","image":'
    tail = b"," + to_json(rest)[1:]
    if result.urls is not None:
        return [Text(head + to_json(result.urls[number]) + tail)]
    return [Text(head + b'"'), Base64(output), Text(b'"' + tail)]


def _signed(url: str, body: Body) -> DueMessage:
    return DueMessage(new_message_id(), url, _chunks(body))


def _unsigned(url: str, body: Body) -> DueMessage:
    return DueMessage(new_message_id(), url, _chunks(body), is_signed=False)


def _chunks(body: Body) -> Iterator[bytes]:
    for part in body:
        for chunk in part.chunks():
            yield bytes(chunk)


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
    if path is None:
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
