"""What ComfyUI says of the inputs of its node classes, as JSON values."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from typing import Any

import nodes

from .slots import declared

log = logging.getLogger("comfyui_stateless.host")


def definitions(class_types: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return the definitions of classes; those that are not registered are left out. Blocks.

    Each has ``input`` (``required`` and ``optional``: input name to type and settings),
    ``display_name`` and ``output_node``, as ``GET /object_info`` has them. Inputs inside others,
    such as ``model.file``, stand among the optional ones too.
    """
    found = {}
    for class_type in dict.fromkeys(class_types):
        registered = nodes.NODE_CLASS_MAPPINGS.get(class_type)
        if registered is None:
            continue
        try:
            found[class_type] = _definition(class_type, registered)
        except (Exception, SystemExit):  # which would end the process
            log.warning("The inputs of %s could not be read", class_type, exc_info=True)
    return found


def _definition(class_type: str, registered: Any) -> dict[str, Any]:
    inputs = registered.INPUT_TYPES()
    required = dict(inputs.get("required") or {})
    optional = dict(inputs.get("optional") or {})
    for name, spec in declared(inputs):
        if name not in required:
            optional.setdefault(name, spec)
    names = nodes.NODE_DISPLAY_NAME_MAPPINGS
    said = {
        "input": {"required": required, "optional": optional},
        "display_name": names.get(class_type, class_type),
        "output_node": getattr(registered, "OUTPUT_NODE", False) is True,
    }
    # Packs put types and functions into their definitions.
    return dict(json.loads(json.dumps(said, default=str, skipkeys=True)))
