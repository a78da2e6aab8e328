"""From a started server to one that is ready: sweep, warm-up, first collection of garbage."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from itertools import chain, repeat
from pathlib import Path
from types import ModuleType

from .background import Background
from .cache import Cache
from .config import Settings
from .engine import Graph
from .errors import (
    FolderFailed,
    JournalBusy,
    NoSpace,
    StatelessError,
    StorageError,
    TransferFailed,
    WrongContent,
)
from .pipeline import Services, run
from .readiness import Phase, Readiness
from .requests import PromptRequest, build_models, check_graph, parse_json, validate
from .storage.backends import open_backends
from .storage.base import Backend, Cancel

log = logging.getLogger("comfyui_stateless.warmup")

BUFFER_BYTES = 64 * 1024

RETRY_DELAYS_S = (1.0, 3.0)
"""Seconds before each further try to read WARMUP_PROMPT_URL."""

JOURNAL_DELAYS_S = (1.0, 2.0, 5.0)
"""Seconds before the journal is tried again; the last holds for ever."""

Note = Callable[[Graph], None]
"""Is told the graph of the warm-up."""


def _forget(graph: Graph) -> None:
    """Note nothing."""


async def get_ready(services: Services, background: Background, note: Note = _forget) -> None:
    """Bring the server from its start to ready; a failure is recorded as the reason it is not."""
    readiness = services.readiness
    try:
        await asyncio.to_thread(build_models)
        await services.engine.start()
        await _open(services.cache)
        await services.repositories.start()
        await _patiently(background.open, readiness)
        if services.settings.has_warmup:
            readiness.enter(Phase.WARMING)
            await warm_up(services, note)
        _settle_garbage()
        await _resume(background, readiness)
    except StatelessError as error:
        readiness.fail(error.message)
        log.error("The server cannot get ready: %s", error.message)
    except Exception as error:
        reason = _unusable_folder(error) or _unusable_code(error)
        # First, as a stream without UTF-8 may take no log of it.
        readiness.fail(f"The server cannot get ready: {reason or f'{error}.'}")
        if reason is None:
            log.exception("The server cannot get ready")
        else:
            log.error("The server cannot get ready: %s", reason)
    else:
        readiness.enter(Phase.READY)
        log.info("The stateless API is ready")


async def _open(cache: Cache) -> None:
    try:
        await cache.start()
    except OSError as error:
        raise FolderFailed(
            f"CACHE_DIR ({cache.folder}) cannot be used: {error.strerror or error}."
        ) from error


def _unusable_folder(error: Exception) -> str | None:
    """Return, in a line, which file or folder cannot be used; None if the error is of another kind."""
    if not isinstance(error, OSError) or error.filename is None:
        return None
    return f"{error.filename} cannot be used: {error.strerror}."


def _unusable_code(error: Exception) -> str | None:
    """Return, in a line, which module cannot be used; None if the error is of another kind.

    Some are imported only now: a pack may have put its own in their place, or uninstalled one.
    """
    is_module = isinstance(error, AttributeError) and isinstance(error.obj, ModuleType)
    if not is_module and not isinstance(error, (ImportError, SyntaxError)):
        return None
    place = getattr(error, "filename", None) or getattr(error, "path", None)
    if is_module and isinstance(error, AttributeError):
        place = getattr(error.obj, "__file__", None)
    said = " ".join(f"{type(error).__name__}: {error}".split())
    needed = Path(__file__).resolve().parents[1] / "requirements.txt"
    return (
        f"{said}{f' ({place})' if place else ''}. A pack may have changed or hidden it. "
        f"Get what is needed: {sys.executable} -m pip install -r {needed}"
    )


async def _resume(background: Background, readiness: Readiness) -> None:
    try:
        await _patiently(background.resume, readiness)
    except StatelessError as error:
        log.error("What the last process left cannot be taken up: %s", error.message)


async def _patiently(work: Callable[[], Awaitable[None]], readiness: Readiness) -> None:
    """Do what needs the journal, however long another program holds it or its disk is full.

    Raises:
        StatelessError: It can be done neither now nor later.
    """
    for delay_s in chain(JOURNAL_DELAYS_S, repeat(JOURNAL_DELAYS_S[-1])):
        reason = await _hindered(work)
        readiness.wait(reason)
        if reason is None:
            return
        log.error("The server waits for its journal: %s", reason)
        await asyncio.sleep(delay_s)


async def _hindered(work: Callable[[], Awaitable[None]]) -> str | None:
    """Do what needs the journal; return what is in the way for now, None if it is done."""
    try:
        await work()
    except (JournalBusy, NoSpace) as error:
        return error.message
    return None


async def warm_up(services: Services, note: Note = _forget) -> None:
    """Run the graph that the settings name and drop what comes out.

    Args:
        note: Is told the graph.

    Raises:
        StatelessError: There is no graph, or it failed.
    """
    request = await asyncio.to_thread(_warmup_request, services.settings)
    note(request.prompt)
    with services.jobs.open(request) as job:
        async with services.engine.workspace(job.run_id) as workspace:
            await services.jobs.finish(job, lambda: run(request, services, job, workspace))


def _warmup_request(settings: Settings) -> PromptRequest:
    if settings.warmup_prompt_file:
        return read_prompt(settings.warmup_prompt_file.read_bytes(), "WARMUP_PROMPT_FILE")
    assert settings.warmup_prompt_url is not None
    url = settings.warmup_prompt_url.get_secret_value()
    backends = open_backends(settings, trusting=True)
    try:
        content = _read_patiently(
            backends.for_url(url), url, settings.max_body_bytes, RETRY_DELAYS_S
        )
    except StorageError as error:
        raise StatelessError(f"WARMUP_PROMPT_URL cannot be read: {error.message}") from error
    finally:
        backends.close()
    return read_prompt(content, "WARMUP_PROMPT_URL")


def _read_patiently(backend: Backend, url: str, limit: int, delays_s: Sequence[float]) -> bytes:
    """Do as ``_read``, again after failures that may pass."""
    try:
        return _read(backend, url, limit)
    except TransferFailed as error:
        if not delays_s:
            raise
        log.warning("WARMUP_PROMPT_URL is tried again in %g s: %s", delays_s[0], error.message)
        time.sleep(delays_s[0])
    return _read_patiently(backend, url, limit, delays_s[1:])


def _read(backend: Backend, url: str, limit: int) -> bytes:
    """Return the whole object at ``url``, at most ``limit`` bytes."""
    content, buffer = bytearray(), memoryview(bytearray(BUFFER_BYTES))
    with backend.open(url, None, None, Cancel()) as download:
        while count := download.readinto(buffer):
            content += buffer[:count]
            if len(content) > limit:
                raise WrongContent(f"it has more than the {limit} bytes of MAX_BODY_SIZE_MB.")
    return bytes(content)


def read_prompt(content: bytes, variable: str) -> PromptRequest:
    """Return the request for a warm-up: a graph in the API format.

    Args:
        variable: Where the content comes from, for the message.

    Raises:
        StatelessError: It is none.
    """
    try:
        graph = parse_json(content)
        check_graph(graph)
        return validate(PromptRequest, {"prompt": graph, "id": "warm-up"})
    except StatelessError as error:
        raise StatelessError(f"{variable} holds no usable graph: {error.message}") from error


def _settle_garbage() -> None:
    """Keep what was loaded at the start out of later collections.

    ComfyUI collects every ten seconds while prompts run, and walking all modules and nodes stops
    the event loop for half a second each time.
    """
    gc.collect()
    gc.freeze()
