"""What the registered node classes are: which are output nodes, which take a filename prefix."""

from __future__ import annotations

import logging
from typing import Any

import nodes

from ..engine import NodeClass
from .capture import PREFIX

log = logging.getLogger("comfyui_stateless.host")


class Catalog:
    """Answers questions about node classes; what it found out is kept per class object."""

    def __init__(self) -> None:
        self._known: dict[type, NodeClass] = {}

    def node_class(self, class_type: str) -> NodeClass | None:
        """Return what is known of a class, None if no such class is registered."""
        registered = nodes.NODE_CLASS_MAPPINGS.get(class_type)
        if registered is None:
            return None
        if registered not in self._known:
            self._known[registered] = _described(registered)
        return self._known[registered]


def _described(registered: Any) -> NodeClass:
    is_output = getattr(registered, "OUTPUT_NODE", False) is True
    spec = _prefix_spec(registered) if is_output else None
    options = spec[1] if spec and len(spec) > 1 and isinstance(spec[1], dict) else {}
    default = options.get("default")
    return NodeClass(
        is_output=is_output,
        has_prefix=spec is not None,
        default_prefix=default if isinstance(default, str) else None,
    )


def _prefix_spec(registered: Any) -> Any:
    try:
        inputs = registered.INPUT_TYPES()
    except Exception:
        log.warning("INPUT_TYPES of %s failed", registered, exc_info=True)
        return None
    declared = {**inputs.get("optional", {}), **inputs.get("required", {})}
    return declared.get(PREFIX)
