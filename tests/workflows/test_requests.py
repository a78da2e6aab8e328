"""A request to an endpoint as a prompt: what is written down of it, and told of its end."""

from __future__ import annotations

import json
from typing import Any

import pytest

from comfyui_stateless.engine import PreparedPrompt
from comfyui_stateless.errors import ExecutionError, RequestError
from comfyui_stateless.messages import messages_for
from comfyui_stateless.recording import accepted_reply, new_job, recorded_request
from comfyui_stateless.workflows.requests import WorkflowPrompt, parse_workflow
from tests.workflows.definitions import small_graph

URL = "https://user:hush@example.com/a.png?signature=hush"
SAID = {"picture": "https://example.com/a.png?…", "width": 64}


def prompt(**fields: Any) -> WorkflowPrompt:
    body = {
        "input": {"picture": URL},
        "id": "mine",
        "webhook_v2": "https://example.com/h",
        **fields,
    }
    request = parse_workflow(json.dumps(body).encode())
    return WorkflowPrompt.of(request, "a/b", small_graph(), {"picture": URL, "width": 64})


def test_an_accepted_job_is_run_again_as_one_of_its_endpoint() -> None:
    request = prompt(
        credentials=[{"url_pattern": "**", "auth": {"type": "bearer", "token": "hush"}}]
    )
    prepared = PreparedPrompt("run", "mine", request.prompt, "mine_")
    recorded = new_job(request, prepared, None).request
    assert b"hush" not in recorded
    again = recorded_request(recorded).request
    assert isinstance(again, WorkflowPrompt)
    assert (again.source, again.input, again.id) == ("workflow/a/b", SAID, "mine")
    assert accepted_reply(again, {}) == accepted_reply(request, {})
    assert again.echo()["input"] == SAID


def test_a_failure_is_announced_with_the_input() -> None:
    (message,) = messages_for(prompt(), {}, ExecutionError("It broke."))
    assert not isinstance(message.body, (bytes, str))
    said = json.loads(b"".join(message.body))  # type: ignore[arg-type]  # chunks here
    assert (said["type"], said["input"], said["error"]) == ("prompt.failed", SAID, "It broke.")


@pytest.mark.parametrize("number", ["1e999", "-1e999"])
@pytest.mark.parametrize("place", ["{}", "[1, {}]", '{{"a": [{}]}}'])
def test_a_number_that_no_float_holds_is_refused(number: str, place: str) -> None:
    body = f'{{"input": {{"width": {place.format(number)}}}}}'
    with pytest.raises(RequestError, match="too large") as caught:
        parse_workflow(body.encode())
    assert caught.value.location == "input.width"


def test_a_prompt_beside_the_input_is_ignored(caplog: pytest.LogCaptureFixture) -> None:
    parse_workflow(b'{"input": {}, "prompt": {}}')
    assert "['prompt']" in caplog.text
