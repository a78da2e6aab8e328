"""The wire model of a request to a workflow endpoint, and the prompt that it becomes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ConfigDict, Field

from ..errors import RequestError
from ..naming import redacted
from ..requests import JobRequest, PromptRequest, parse_json, validate, warn_of_unknown

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S*\Z")


class WorkflowRequest(JobRequest):
    """The body of `POST /workflow/{path}`."""

    model_config = ConfigDict(title="WorkflowRequest")

    input: dict[str, Any] = Field(description="The inputs of the workflow, by their names.")


class WorkflowPrompt(PromptRequest):
    """A prompt that a workflow endpoint has made of its input.

    Attributes:
        workflow: The path of the endpoint.
        input: What replies say of it, so without secrets.
    """

    workflow: str
    input: dict[str, Any]

    @classmethod
    def of(
        cls,
        request: WorkflowRequest,
        workflow: str,
        graph: Mapping[str, Any],
        given: Mapping[str, Any],
    ) -> WorkflowPrompt:
        """Return what ``request`` comes to.

        Args:
            workflow: The path of its endpoint.
            graph: What the endpoint has made, checked.
            given: The input with its defaults.
        """
        fields = {n: getattr(request, n) for n in request.model_fields_set if n != "input"}
        own = {"prompt": dict(graph), "workflow": workflow, "input": without_secrets(given)}
        return cls.model_validate({**fields, "id": request.id, **own})

    @property
    def source(self) -> str | None:
        return f"workflow/{self.workflow}"

    def placed(self, location: str) -> str:
        """Return the input that a place in the graph got its value from, if only one can be it."""
        values = (
            without_secrets(value)
            for node_id, node in self.prompt.items()
            for name, value in node["inputs"].items()
            if location == f"prompt.{node_id}.inputs.{name}"
        )
        for value in values:
            names = [name for name, given in self.input.items() if given == value]
            if len(names) == 1:
                return f"input.{names[0]}"
        return location

    def echo(self) -> dict[str, Any]:
        return {"input": self.input, **super().echo()}


def parse_workflow(body: bytes) -> WorkflowRequest:
    """Turn the body of `POST /workflow/{path}` into its model.

    Raises:
        RequestError: Says which field is wrong and why.
    """
    fields = parse_json(body)
    request = validate(WorkflowRequest, fields)
    for name in sorted(_infinite(request.input)):
        raise RequestError(f"{name} holds a number that is too large.", location=f"input.{name}")
    warn_of_unknown(WorkflowRequest, fields)
    return request


def without_secrets(value: Any) -> Any:
    """Return JSON values with what may be secret in URLs left out."""
    if isinstance(value, Mapping):
        return {name: without_secrets(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [without_secrets(item) for item in value]
    is_address = isinstance(value, str) and _ADDRESS.match(value)
    return redacted(value) if is_address else value


def _infinite(given: Mapping[str, Any]) -> Iterator[str]:
    """Yield the inputs with numbers that JSON can write and a float cannot hold, such as 1e999."""
    return (name for name, value in given.items() if not _is_finite(value))


def _is_finite(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    if isinstance(value, list):
        return all(map(_is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)
