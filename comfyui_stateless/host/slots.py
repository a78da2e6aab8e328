"""Which inputs of a node class take files, read off what its ``INPUT_TYPES`` gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol

from ..engine import FileForm, FileInput, MediaInput, ModelInput, RepositoryInput

Inputs = Mapping[str, Any]
"""What ``INPUT_TYPES`` gives: sections, of input names, of specs."""

Spec = Sequence[Any]
"""What it says of one input: a type, mostly with a dict of settings behind it."""

MEDIA_NAMES = frozenset({"image", "video", "audio", "file"})
"""Inputs that are taken for files by their name, whatever else they may be."""

PATH_EXTENSIONS = "vhs_path_extensions"
"""What VideoHelperSuite marks inputs with that take paths: the extensions, none for folders."""


class Marks(Protocol):
    """Finds the model folders of made-up names in a text."""

    def files(self, text: str) -> list[str]: ...

    def folders(self, text: str) -> list[str]: ...


def file_inputs(
    inputs: Inputs, probed: Inputs, marks: Marks, listed: Callable[[str], Sequence[str]]
) -> dict[str, FileInput]:
    """Return the inputs that name files, by the names that prompts give them.

    Args:
        inputs: What the class says of its inputs.
        probed: The same, with made-up files in every model folder.
        listed: Gives the files of a model folder.
    """
    options: dict[str, list[str]] = {}
    for name, spec in declared(inputs):
        options.setdefault(name, []).extend(_options(spec) or ())
    found: dict[str, FileInput] = {}
    for name, spec in declared(probed):
        slot = _model(spec, marks) or _media(name, spec)
        if slot is not None:
            found[name] = _merged(found.get(name), slot)
    return {
        name: _with_options(slot, options.get(name, ()), listed) for name, slot in found.items()
    }


def has_marks(inputs: Inputs, marks: Marks) -> bool:
    """Say whether made-up names stand among the options of any input."""
    return any(_model(spec, marks) for _, spec in declared(inputs))


def declared(inputs: Inputs) -> Iterator[tuple[str, Spec]]:
    """Yield all inputs with their specs, those inside others under names such as ``model.file``."""
    for section in ("required", "optional"):
        for name, spec in (inputs.get(section) or {}).items():
            if isinstance(spec, (tuple, list)) and spec:
                yield name, spec
                for inner in _inner(spec):
                    yield from ((f"{name}.{below}", s) for below, s in declared(inner))


def _inner(spec: Spec) -> Iterator[Inputs]:
    """Yield the inputs inside a dynamic combo, a dynamic slot or a growing list of inputs."""
    if not (isinstance(spec[0], str) and spec[0].startswith("COMFY_")):
        return
    settings = _settings(spec)
    for option in (settings, *(settings.get("options") or ())):
        if isinstance(option, dict) and isinstance(option.get("inputs"), dict):
            yield option["inputs"]
    template = settings.get("template") or {}
    for member in [s for _, s in declared(template.get("input") or {})][:1]:
        names = template.get("names") or [
            f"{template.get('prefix', '')}{number}" for number in range(template.get("max") or 0)
        ]
        yield {"optional": dict.fromkeys(names, member)}


def _settings(spec: Spec) -> Mapping[str, Any]:
    return spec[1] if len(spec) > 1 and isinstance(spec[1], dict) else {}


def _options(spec: Spec) -> list[str] | None:
    """Return the texts that an input offers, None for an input that offers no choice."""
    choice = _settings(spec).get("options") if spec[0] == "COMBO" else spec[0]
    return list(_texts(choice)) if isinstance(choice, (list, tuple)) else None


def _texts(value: Any) -> Iterator[str]:
    """Yield the texts in an option; packs wrap file names into dicts to show pictures of them."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _texts(part)
    elif isinstance(value, dict):
        yield from _texts(list(value.values()))


def _model(spec: Spec, marks: Marks) -> ModelInput | RepositoryInput | None:
    options = _options(spec) or []
    files = dict.fromkeys(folder for option in options for folder in marks.files(option))
    if files:
        return ModelInput(tuple(files))
    folders = [folder for option in options for folder in marks.folders(option)]
    return RepositoryInput(folders[0]) if folders else None


def _media(name: str, spec: Spec) -> MediaInput | None:
    settings = _settings(spec)
    if any(key.endswith("_upload") and value is True for key, value in settings.items()):
        return MediaInput(FileForm.NAME, is_marked=True)
    if PATH_EXTENSIONS in settings:
        form = FileForm.PATH if settings[PATH_EXTENSIONS] else FileForm.FOLDER_PATH
        return MediaInput(form, is_marked=True)
    is_choice = _options(spec) is not None
    last = name.rpartition(".")[2]
    if last in MEDIA_NAMES and (is_choice or spec[0] in ("STRING", "COMBO")):
        return MediaInput(FileForm.NAME, is_marked=False)
    if last == "directory" and is_choice:
        return MediaInput(FileForm.FOLDER, is_marked=False)
    return None


def _merged(known: FileInput | None, slot: FileInput) -> FileInput:
    """Return what an input takes that has one name in several options of a dynamic combo."""
    if isinstance(known, ModelInput) and isinstance(slot, ModelInput):
        return ModelInput(tuple(dict.fromkeys((*known.folders, *slot.folders))))
    return known or slot


def _with_options(
    slot: FileInput, options: Sequence[str], listed: Callable[[str], Sequence[str]]
) -> FileInput:
    if isinstance(slot, MediaInput):
        return replace(slot, options=frozenset(o for o in options if "." not in o))
    if not isinstance(slot, ModelInput):
        return slot
    files = {s for folder in slot.folders for file in listed(folder) for s in _spellings(file)}
    others = frozenset(option for option in options if option.lower() not in files)
    return ModelInput(slot.folders, others)


def _spellings(file: str) -> Iterator[str]:
    """Yield how packs may show a file: with or without folder and extension."""
    path = file.lower()
    for spelling in (path, path.replace("\\", "/").rpartition("/")[2]):
        yield spelling
        yield spelling.rpartition(".")[0] or spelling
