"""What nodes change of their process and leave so; it is put back when their prompt is over.

All of these hold for the whole process: a working directory that is gone, a mask that makes files
unreadable, or a closed stream would fail the jobs behind, whatever they are.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import json
import locale
import logging
import os
import socket
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from PIL import Image

log = logging.getLogger("comfyui_stateless.host")


class Setting:
    """One thing that a whole process has.

    Args:
        name: What it is called in the log.
        get: Returns what it is now.
        put: Makes it what is given.
        harms: Tells, of what it is and what it was, whether the change is to be put back.
        at_first: What it is on a new thread, where each thread has its own.
    """

    def __init__(
        self,
        name: str,
        get: Callable[[], Any],
        put: Callable[[Any], Any],
        harms: Callable[[Any, Any], bool] = lambda now, known: True,
        *,
        at_first: Any = None,
    ) -> None:
        self._name = name
        self._get = get
        self._put = put
        self._harms = harms
        self.is_known = at_first is not None
        self._known = at_first

    def remember(self) -> None:
        """Note what it is; what this system does not have is left alone from then on."""
        with contextlib.suppress(Exception):
            self._known = self._get()
            self.is_known = True

    def put_back(self) -> None:
        """Make it what it was. It never raises."""
        if not self.is_known:
            return
        try:
            now = self._get()
            if now == self._known:
                return
            if not self._harms(now, self._known):
                self._known = now
                return
        except Exception:  # noqa: BLE001  a working directory that was deleted has no name
            log.debug("The process's %s cannot be told", self._name)
        try:
            self._put(self._known)
            log.warning("A node has changed the process's %s; it is put back", self._name)
        except Exception as error:  # noqa: BLE001  the worker thread would end with it
            log.warning("A node has changed the process's %s: %s", self._name, error)
        self.remember()  # where that cannot be had again, what there is will do


class Process:
    """Knows what the process was like before any prompt ran."""

    def __init__(self) -> None:
        self._settings = tuple(_settings())
        self._strict: list[Any] = []
        self._umask: int | None = None

    def remember(self) -> None:
        """Note how the process is now. Call it once all packs are loaded."""
        self._umask = os.umask(0o077)
        os.umask(self._umask)
        self._strict = _strict()
        for setting in self._settings:
            if not setting.is_known:
                setting.remember()
        for stream in (sys.stdout, sys.stderr):
            _let_write(stream)

    def put_back(self) -> None:
        """Make the process what it was; called on the thread that runs nodes. It never raises."""
        if self._umask is None:
            return
        os.umask(self._umask)  # it cannot be asked for without being set
        for added in [each for each in _strict() if each not in self._strict]:
            with contextlib.suppress(ValueError):
                warnings.filters.remove(added)  # type: ignore[attr-defined]  # a list, where it is used
        for setting in self._settings:
            setting.put_back()


def _settings() -> Iterator[Setting]:
    # First what a warning in the log needs.
    yield Setting("limit of recursion", sys.getrecursionlimit, sys.setrecursionlimit)
    for stream in ("stdout", "stderr"):
        yield Setting(stream, partial(_stream, stream), partial(_set_stream, stream))
    yield Setting("level of disabled logs", lambda: logging.root.manager.disable, logging.disable)
    yield Setting("working directory", os.getcwd, os.chdir)
    yield Setting("timeout of sockets", socket.getdefaulttimeout, socket.setdefaulttimeout)
    yield Setting(
        "folder of temporary files",
        lambda: tempfile.tempdir,
        partial(setattr, tempfile, "tempdir"),
    )
    yield Setting("locale", partial(locale.setlocale, locale.LC_ALL), _set_locale)
    yield Setting("interval between threads", sys.getswitchinterval, sys.setswitchinterval)
    yield Setting("size of stacks", threading.stack_size, threading.stack_size)
    yield Setting("tracing of threads", threading.gettrace, threading.settrace)
    yield Setting("profiling of threads", threading.getprofile, threading.setprofile)
    for owner in (threading, sys):  # without them no thread can be made
        hook = partial(setattr, owner, "excepthook")
        yield Setting(f"{owner.__name__}.excepthook", partial(getattr, owner, "excepthook"), hook)
    most = "MAX_IMAGE_PIXELS"
    yield Setting("largest image", partial(getattr, Image, most), partial(setattr, Image, most))
    yield Setting("start of threads", lambda: threading.Thread.start, _set_start)
    for name in ("dumps", "loads"):  # ComfyUI's savers and its routes use them
        put = partial(setattr, json, name)
        yield Setting(f"json.{name}", partial(getattr, json, name), put)
    yield Setting(
        "collection of garbage", gc.isenabled, lambda on: gc.enable() if on else gc.disable()
    )
    yield Setting("event loop policy", asyncio.get_event_loop_policy, asyncio.set_event_loop_policy)
    yield Setting("default type of tensors", torch.get_default_dtype, torch.set_default_dtype)
    if hasattr(torch, "get_default_device"):  # since torch 2.3
        yield Setting(
            "default device of tensors",
            torch.get_default_device,
            lambda _: torch.set_default_device(None),
            at_first=torch.device("cpu"),
        )
    yield from _limits()


def _limits() -> Iterator[Setting]:
    try:
        resource: Any = importlib.import_module("resource")
    except ImportError:  # there are none on Windows
        return
    for name in ("NOFILE", "FSIZE", "AS"):
        kind = getattr(resource, f"RLIMIT_{name}")
        get = partial(resource.getrlimit, kind)
        yield Setting(f"limit {name}", get, partial(resource.setrlimit, kind), _is_lower)


def _is_lower(now: tuple[int, int], known: tuple[int, int]) -> bool:
    """Say whether a limit allows less than before; operators may raise those of a process that runs."""
    unlimited = 1 << 64  # where there is no limit it is said to be -1
    return any(a % unlimited < b % unlimited for a, b in zip(now, known, strict=True))


def _stream(name: str) -> Any:
    stream = getattr(sys, name)
    return None if getattr(stream, "closed", False) else stream


def _set_stream(name: str, known: Any) -> None:
    is_closed = getattr(known, "closed", False)
    setattr(sys, name, open(os.devnull, "w") if is_closed else known)  # noqa: SIM115, PTH123


def _let_write(stream: Any) -> None:
    """Have what has no form in a stream's encoding written in another, as stderr does by itself.

    ComfyUI logs what a node raises: half a character in that would end the thread that runs nodes.
    """
    if getattr(stream, "errors", None) == "strict" and hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="backslashreplace")


def _set_start(known: Any) -> None:
    threading.Thread.start = known  # type: ignore[method-assign]


def _set_locale(known: str) -> None:
    locale.setlocale(locale.LC_ALL, known)


def _strict() -> list[Any]:
    """Return the filters that make errors of warnings."""
    return [each for each in tuple(warnings.filters) if each[0] == "error"]
