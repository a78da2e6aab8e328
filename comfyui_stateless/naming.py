"""How outputs are named after the caller's id, so that nothing leaves its folder."""

from __future__ import annotations

import os
import posixpath
import re
import time
import unicodedata
from collections.abc import Iterable

MAX_ID_BYTES = 150
"""Bytes of an id that go into a file name: 255 is what file systems take for the whole."""

_PLAIN = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_. -]{0,149}")
"""Ids that are safe as they are, such as UUIDs: most of them."""

_SCHEME = re.compile(r"\s*(?:[A-Za-z][A-Za-z0-9+.-]*:)?//")
_AUTHORITY = re.compile(r"[^/?#]*")
_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[^:@]*)(?::\d{0,5})?")
_FULL_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|localhost|[^:@]*\.[^:@.]+)(?::\d{0,5})?")
"""One that is hardly the end of a password."""

_RESERVED = frozenset('/\\:*?"<>|')
_UNPRINTABLE = frozenset({"Cc", "Cf", "Cn", "Co", "Cs", "Zl", "Zp"})


def safe_id(text: str) -> str:
    """Return ``text`` in a form that is safe in file names.

    Path separators, characters that some file system refuses, and characters that do not print
    become ``_``; so do leading dots. The result has at most ``MAX_ID_BYTES`` bytes of UTF-8.
    """
    if _PLAIN.fullmatch(text):
        return text
    safe = "".join("_" if _is_unsafe(c) else c for c in text)
    dots = len(safe) - len(safe.lstrip("."))
    return _shortened("_" * dots + safe[dots:], MAX_ID_BYTES)


def header_id(text: str) -> str:
    """Return ``text`` in a form that is safe in a header: printable ASCII, as ``safe_id`` has it."""
    safe = safe_id(text)
    return safe if safe.isascii() else "".join(c if c.isascii() else "_" for c in safe)


def output_prefix(prefix: str, safe: str, *, prepend: bool) -> str:
    """Return the ``filename_prefix`` that an output node gets.

    Args:
        prefix: The caller's own, such as ``a/b``.
        safe: The safe form of the caller's id.
        prepend: Whether the id goes in front (``a/<id>_b``) or replaces the prefix (``<id>``).
    """
    if not prepend:
        return safe
    folder, slash, name = prefix.rpartition("/")
    return f"{folder}{slash}{safe}_{name}"


def redacted(url: str) -> str:
    """Return ``url`` without what may be secret: user, password, query and fragment.

    ``…`` stands where a query was left out, and for all behind the scheme where it cannot be told
    where a password ends. For messages, logs and replies.
    """
    start = _SCHEME.match(url)
    scheme = start[0] if start else ""
    place, query, _ = _without_user(url[len(scheme) :]).partition("#")[0].partition("?")
    return f"{scheme}{place}?…" if query else f"{scheme}{place}"


def _without_user(rest: str) -> str:
    """Return what stands behind the user and the password, in which raw slashes may be."""
    found = _AUTHORITY.match(rest)
    authority = found[0] if found else ""
    _, at, host = authority.rpartition("@")
    tail = rest[len(authority) :]
    is_plain = "@" not in tail or (_FULL_HOST if at else _HOST).fullmatch(host)
    return f"{host}{tail}" if is_plain else "…"


def leaves_folder(path: str) -> bool:
    """Say whether a relative path could point outside of the folder that it starts in."""
    parts = path.replace("\\", "/").split("/")
    is_absolute = path.startswith(("/", "\\")) or path[1:3] in (":/", ":\\")
    return is_absolute or ".." in parts or "\0" in path


class UniqueNames:
    """Gives each name once: where it is taken, with another counter (``_00001_``) or stem.

    Args:
        taken: Names that are taken from the first.
    """

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self._taken = set(taken)
        self._onward: dict[str, str] = {}

    def give(self, name: str) -> str:
        """Return ``name``, or the next in its place that has not been given."""
        passed: list[str] = []
        while name in self._taken:
            passed.append(name)
            # What was given in its place the last time, as many may want the same.
            name = self._onward.get(name) or _next_name(name)
        self._onward.update(dict.fromkeys(passed, name))
        self._taken.add(name)
        return name


def _next_name(name: str) -> str:
    stem, dot, extension = name.rpartition(".") if "." in name else (name, "", "")
    return f"{_next_stem(stem)}{dot}{extension}"


def _next_stem(stem: str) -> str:
    core = stem.removesuffix("_")
    head, underscore, digits = core.rpartition("_")
    if underscore and digits.isascii() and digits.isdigit():
        return f"{head}_{int(digits) + 1:0{len(digits)}}{stem[len(core) :]}"
    return f"{stem}_00002"


def _is_unsafe(character: str) -> bool:
    return character in _RESERVED or unicodedata.category(character) in _UNPRINTABLE


def _shortened(text: str, size: int) -> str:
    return text.encode("utf-8", "replace")[:size].decode("utf-8", "ignore")


class ImageNames:
    """Names a job's captured images as ``SaveImage`` does, each name once.

    Names have the form ``<prefix>_00001_.png``; the counter of each prefix starts at 1 in every
    job. ``%width%``, ``%height%``, the parts of the local time and ``%batch_num%`` are filled in,
    as ComfyUI's ``folder_paths.get_save_image_path`` and ``SaveImage`` do.
    """

    def __init__(self) -> None:
        self._counters: dict[str, int] = {}

    def base(self, prefix: str, width: int, height: int) -> str:
        """Return the part of the name before the counter, ``%batch_num%`` still in it.

        Raises:
            ValueError: The prefix leads out of the output folder.
        """
        filled = _filled(prefix, width, height) if "%" in prefix else prefix
        base = posixpath.normpath(filled.replace(os.sep, "/"))
        if leaves_folder(filled) or leaves_folder(base):
            raise ValueError("filename_prefix must be a path inside the output folder.")
        return base

    def next(self, base: str, batch_number: int) -> str:
        """Return the name of the next image with this base."""
        self._counters[base] = count = self._counters.get(base, 0) + 1
        folder, slash, name = base.rpartition("/")
        return f"{folder}{slash}{name.replace('%batch_num%', str(batch_number))}_{count:05}_.png"


def _filled(prefix: str, width: int, height: int) -> str:
    now = time.localtime()
    values = {
        "width": str(width),
        "height": str(height),
        "year": str(now.tm_year),
        "month": f"{now.tm_mon:02}",
        "day": f"{now.tm_mday:02}",
        "hour": f"{now.tm_hour:02}",
        "minute": f"{now.tm_min:02}",
        "second": f"{now.tm_sec:02}",
    }
    for name, value in values.items():
        prefix = prefix.replace(f"%{name}%", value)
    return prefix
