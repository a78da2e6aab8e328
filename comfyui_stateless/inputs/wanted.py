"""What a graph names that is not a local name: found, without fetching any of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ..engine import FileForm, FileInput, Graph, MediaInput, ModelInput
from ..errors import InvalidInput, StatelessError, StorageError
from ..inline import is_inline

UPLOAD = "upload://"

WRAPPED = "__value__"
"""How ComfyUI's editor wraps a value that is no link; a list would be taken for one."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_FETCHED = ("http", "https", "s3")

_FOLDERS = (FileForm.FOLDER, FileForm.FOLDER_PATH)


class Wanted(NamedTuple):
    """An input whose value is not a local name.

    Attributes:
        slot: What kind of input it is.
        values: Addresses, data, names of uploads, or of files that are there.
        is_list: Whether they stood in a list, as for folders of media and several models at once.
    """

    node_id: str
    name: str
    slot: FileInput
    values: tuple[str, ...]
    is_list: bool = False

    @property
    def location(self) -> str:
        """Where in the request it stands."""
        return f"prompt.{self.node_id}.inputs.{self.name}"


def is_address(value: str) -> bool:
    """Say whether a text is the URL of something that we can fetch."""
    scheme = _SCHEME.match(value)
    return scheme is not None and scheme[1].lower() in _FETCHED


def find(
    graph: Graph,
    file_inputs: Callable[[str], Mapping[str, FileInput]],
    find_file: Callable[[str], Path | None],
) -> tuple[Wanted, ...]:
    """Return what a graph's nodes need to have fetched or put in place.

    Raises:
        InvalidInput: An input names a file that it may not, or text that is no file at all.
    """
    return tuple(_find(graph, file_inputs, find_file))


def _find(
    graph: Graph,
    file_inputs: Callable[[str], Mapping[str, FileInput]],
    find_file: Callable[[str], Path | None],
) -> Iterator[Wanted]:
    for node_id, node in graph.items():
        slots = file_inputs(node["class_type"])
        for name, slot in slots.items():
            values, is_list = texts(node["inputs"].get(name), slot)
            wanted = Wanted(node_id, name, slot, values, is_list)
            # All of them are looked at: one that is refused is refused whatever the others are.
            if sum(_is_wanted(wanted, value, find_file) for value in values):
                yield wanted


def named_models(
    graph: Graph, file_inputs: Callable[[str], Mapping[str, FileInput]]
) -> Iterator[tuple[str, str]]:
    """Yield the folder and the name of each model that may be there under a local name."""
    for node in graph.values():
        for name, slot in file_inputs(node["class_type"]).items():
            if isinstance(slot, ModelInput):
                for value in texts(node["inputs"].get(name), slot)[0]:
                    yield from ((folder, value) for folder in slot.folders if "://" not in value)


def texts(value: Any, slot: FileInput) -> tuple[tuple[str, ...], bool]:
    """Return the texts in an input's value, none for any other value, and whether it is a list."""
    if isinstance(value, dict):
        value = value.get(WRAPPED)
    if isinstance(value, str):
        return ((value,) if value else ()), False
    is_folder = isinstance(slot, MediaInput) and slot.form in _FOLDERS
    takes_many = is_folder or isinstance(slot, ModelInput)
    if takes_many and isinstance(value, list) and all(isinstance(v, str) for v in value):
        return tuple(value), True
    return (), False


def _is_wanted(wanted: Wanted, value: str, find_file: Callable[[str], Path | None]) -> bool:
    scheme = _SCHEME.match(value)
    if scheme is not None and not is_address(value) and not value.startswith(UPLOAD):
        if isinstance(wanted.slot, MediaInput) and not wanted.slot.is_marked:
            return False
        raise refused(wanted, f"{scheme[1]}:// addresses are not fetched; use http, https or s3")
    if not isinstance(wanted.slot, MediaInput):
        return _is_wanted_model(wanted, value)
    return _is_wanted_media(wanted, wanted.slot, value, find_file)


def _is_wanted_model(wanted: Wanted, value: str) -> bool:
    if value.startswith(UPLOAD):
        raise refused(wanted, "a model cannot come with the request; give its URL")
    return is_address(value)


def _is_wanted_media(
    wanted: Wanted, slot: MediaInput, value: str, find_file: Callable[[str], Path | None]
) -> bool:
    if is_address(value) or value.startswith((UPLOAD, "data:")):
        return True
    if find_file(value) is not None:
        return wanted.is_list or slot.form in (FileForm.PATH, FileForm.FOLDER_PATH)
    if is_inline(value):
        return True
    if not slot.is_marked or value in slot.options:
        return False
    raise refused(
        wanted,
        "this is no file in ComfyUI's folders, no URL that can be fetched, no data URL, and no "
        "base64 of a file of a known type",
    )


def failed(wanted: Wanted, error: StorageError | InvalidInput) -> StatelessError:
    """Return the error for an input, with its place: the request's, or else the server's own."""
    if isinstance(error, StorageError) and error.is_servers:
        error.location = wanted.location
        return error
    return refused(wanted, error.message, error.code, error.details)


def refused(
    wanted: Wanted,
    reason: str,
    code: str = InvalidInput.code,
    details: Mapping[str, Any] | None = None,
) -> InvalidInput:
    """Return the error for an input that cannot be had, with its place.

    Args:
        code: Of the error that is the reason.
        details: Of the same.
    """
    return InvalidInput(
        f"Node {wanted.node_id}, {wanted.name}: {reason.rstrip('.')}.",
        location=wanted.location,
        details={"reason": code, **(details or {})},
    )
