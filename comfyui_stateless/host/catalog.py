"""What the registered node classes are: output nodes, prefixes, and the inputs that name files."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Mapping, Sequence
from typing import Any

import folder_paths
import nodes

from ..engine import FileInput, MediaInput, NodeClass
from .capture import PREFIX
from .nonce import NONCE
from .probe import Probe
from .slots import Inputs, declared, file_inputs, has_marks

log = logging.getLogger("comfyui_stateless.host")

MAX_TOLD = 300
"""Characters of what a class says in the log: it may say anything."""

_DECODES = re.compile(r"base64|b64", re.IGNORECASE)
"""Names of classes that take base64 themselves."""

_PLACE = re.compile(r"(.*_)?(path|(sub)?(folder|dir|directory))(_name)?", re.IGNORECASE)
"""Names of inputs that say where files go: their nodes take the prefix for a name without a folder."""


class Catalog:
    """Answers questions about node classes; what it found out is kept per class object."""

    def __init__(self) -> None:
        self._known: dict[type, NodeClass] = {}
        self._broken: dict[type, str] = {}
        self._inputs: dict[type, Mapping[str, FileInput]] = {}
        self._probe = Probe()
        self._learning = asyncio.Lock()
        self._learned = 0

    def node_class(self, class_type: str) -> NodeClass | None:
        """Return what is known of a class, None if no such class is registered, or it is broken."""
        registered = nodes.NODE_CLASS_MAPPINGS.get(class_type)
        if registered is None:
            return None
        if registered not in self._known:
            self._broken.pop(registered, None)
            try:
                self._known[registered] = _described(registered)
            except (Exception, SystemExit) as error:  # noqa: BLE001  a pack's; it may pass
                said = str(error)[:MAX_TOLD].rstrip(".")
                self._broken[registered] = f"{type(error).__name__}: {said}"
                return None
        return self._known[registered]

    def trouble(self, class_type: str) -> str | None:
        """Return what a class says in place of what it is, None if it can be used."""
        self.node_class(class_type)
        return self._broken.get(nodes.NODE_CLASS_MAPPINGS.get(class_type))

    async def learn_inputs(self) -> None:
        """See that ``file_inputs`` knows all classes that are registered now.

        A thread asks the classes: some list folders when they are asked.
        """
        # Asked by each request: a class that has taken another's place is learned when it is met.
        if len(nodes.NODE_CLASS_MAPPINGS) == self._learned:
            return
        async with self._learning:
            registered = list(nodes.NODE_CLASS_MAPPINGS.values())
            await asyncio.to_thread(self._learn, registered)
            self._learned = len(registered)

    def file_inputs(self, class_type: str) -> Mapping[str, FileInput]:
        """Return the inputs of a class that name files, by input name; empty if it has none."""
        registered = nodes.NODE_CLASS_MAPPINGS.get(class_type)
        if not isinstance(registered, type):
            return {}
        if registered not in self._inputs:
            self._learn([registered])
        return self._inputs[registered]

    def _learn(self, registered: Sequence[Any]) -> None:
        new = [c for c in registered if isinstance(c, type) and c not in self._inputs]
        # Asked once before: a class that keeps its first answer for good then keeps a true one.
        answers = {c: _inputs_of(c) for c in dict.fromkeys(new)}
        with self._probe.shown():
            probed = {c: _inputs_of(c, logged=False) or answers[c] for c in answers}
        for node_class, inputs in answers.items():
            self._inputs[node_class] = self._found(node_class, inputs, probed[node_class])

    def _found(self, node_class: type, inputs: Inputs, probed: Inputs) -> Mapping[str, FileInput]:
        try:
            found = file_inputs(inputs, probed, self._probe, _listed)
        except Exception:
            log.warning("The inputs of %s could not be read", node_class, exc_info=True)
            return {}
        if _DECODES.search(getattr(node_class, "__name__", "")):
            found = {name: slot for name, slot in found.items() if not _is_guess(slot)}
        if any(not isinstance(slot, MediaInput) for slot in found.values()):
            return found if self._has_forgotten(node_class) else {}
        return found

    def _has_forgotten(self, node_class: type) -> bool:
        if not has_marks(_inputs_of(node_class, logged=False), self._probe):
            return True
        log.warning(
            "%s keeps the model files that it has seen; URLs are not taken for its inputs",
            node_class,
        )
        return False


def _is_guess(slot: FileInput) -> bool:
    """Say whether only its name speaks for an input's taking files."""
    return isinstance(slot, MediaInput) and not slot.is_marked


def _inputs_of(node_class: Any, *, logged: bool = True) -> Inputs:
    try:
        inputs = node_class.INPUT_TYPES()
    except (Exception, SystemExit) as error:  # noqa: BLE001  a pack's; it would end the process
        if logged:
            log.warning("INPUT_TYPES of %s failed: %s", node_class, ascii(error)[:MAX_TOLD])
        return {}
    return inputs if isinstance(inputs, dict) else {}


def _listed(folder: str) -> Sequence[str]:
    return folder_paths.get_filename_list(folder)  # type: ignore[no-any-return]  # untyped module


def _described(registered: Any) -> NodeClass:
    is_output = getattr(registered, "OUTPUT_NODE", False) is True
    inputs = _inputs_of(registered) if is_output else {}
    spec = _prefix_spec(inputs)
    options = spec[1] if spec and len(spec) > 1 and isinstance(spec[1], dict) else {}
    default = options.get("default")
    return NodeClass(
        is_output=is_output,
        has_prefix=spec is not None,
        default_prefix=default if isinstance(default, str) else None,
        takes_any_input=_takes_any(registered, inputs),
        has_place=any(_PLACE.fullmatch(name) for name, _ in declared(inputs)),
    )


def _prefix_spec(inputs: Inputs) -> Any:
    for group in (inputs.get("required"), inputs.get("optional")):
        if isinstance(group, dict) and PREFIX in group:
            return group[PREFIX]
    return None


def _takes_any(registered: Any, inputs: Inputs) -> bool:
    if getattr(registered, "ACCEPT_ALL_INPUTS", False) is True:
        return True
    return any(isinstance(group, dict) and _has_all(group) for group in inputs.values())


def _has_all(group: Mapping[str, Any]) -> bool:
    """Say whether a group of inputs is a pack's kind of dict that claims to have every name."""
    return NONCE in group
