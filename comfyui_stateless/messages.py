"""What a webhook is told of a job's end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from typing import Any

from .bodies import Base64, Body, Text, json_body
from .engine import PromptResult
from .errors import StatelessError
from .journal import DueMessage, new_message_id
from .requests import PromptRequest
from .wire import to_json


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
    given = {} if request.source is None else {"input": request.echo()["input"]}
    return [Text(to_json({**failed, **given, **outcome.body()}))]


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
