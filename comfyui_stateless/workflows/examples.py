"""An example for a JSON Schema: what the schema itself says, or the plainest value that fits."""

from __future__ import annotations

from typing import Any

TEXT = "a lighthouse at dusk"
"""Stands for any text."""


MAX_DEPTH = 20
"""Schemas within schemas that are followed; they may hold themselves."""


class NoExample(Exception):
    """There is no plain value for a schema."""


def example_of(schema: Any) -> dict[str, Any] | None:
    """Return an example of an object, None if its required members have no plain values."""
    try:
        found = _example(schema, schema, 0)
    except NoExample:
        return None
    return found if isinstance(found, dict) else None


def _example(schema: Any, root: Any, depth: int) -> Any:
    if not isinstance(schema, dict) or depth > MAX_DEPTH:
        raise NoExample
    if schema.get("examples"):
        return schema["examples"][0]
    if "default" in schema and schema["default"] in schema.get("enum", [schema["default"]]):
        return schema["default"]
    if schema.get("enum"):
        return schema["enum"][0]
    for name in ("example", "default", "const"):
        if name in schema:
            return schema[name]
    if "$ref" in schema:
        return _example(_referenced(schema["$ref"], root), root, depth + 1)
    choices = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf")
    return _example(choices[0], root, depth + 1) if choices else _of_type(schema, root, depth)


def _of_type(schema: dict[str, Any], root: Any, depth: int) -> Any:
    kind = schema.get("type")
    if kind == "object":
        members = schema.get("properties") or {}
        required = schema.get("required") or ()
        wanted = {n: m for n, m in members.items() if n in required or "default" in m}
        return {name: _example(member, root, depth + 1) for name, member in wanted.items()}
    if kind == "string":
        return TEXT[: schema.get("maxLength", len(TEXT))]
    if kind in ("integer", "number"):
        return schema.get("minimum", 1)
    if kind == "boolean":
        return False
    if kind == "array":
        count = schema.get("minItems", 0)
        return [_example(schema.get("items"), root, depth + 1)] * count
    raise NoExample


def _referenced(reference: str, root: Any) -> Any:
    found = root
    for part in reference.removeprefix("#").strip("/").split("/"):
        name = part.replace("~1", "/").replace("~0", "~")
        if not isinstance(found, dict) or name not in found:
            raise NoExample
        found = found[name]
    return found
