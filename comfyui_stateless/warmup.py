"""From a started server to one that is ready: sweep, warm-up, first collection of garbage."""

from __future__ import annotations

import asyncio
import gc
import logging
from pathlib import Path

from .errors import StatelessError
from .pipeline import Services, run
from .readiness import Phase
from .requests import PromptRequest, check_graph, parse_json, validate

log = logging.getLogger("comfyui_stateless.warmup")


async def get_ready(services: Services) -> None:
    """Bring the server from its start to ready; a failure is recorded as the reason it is not."""
    readiness = services.readiness
    try:
        await services.engine.start()
        if path := services.settings.warmup_prompt_file:
            readiness.enter(Phase.WARMING)
            await warm_up(services, path)
    except StatelessError as error:
        log.error("The server cannot get ready: %s", error.message)
        readiness.fail(error.message)
    except Exception as error:
        log.exception("The server cannot get ready")
        readiness.fail(f"The server cannot get ready: {error}.")
    else:
        _settle_garbage()
        readiness.enter(Phase.READY)
        log.info("The stateless API is ready")


async def warm_up(services: Services, path: Path) -> None:
    """Run the graph in a file and drop what comes out.

    Raises:
        StatelessError: The file holds no graph, or the graph failed.
    """
    request = read_prompt(await asyncio.to_thread(path.read_bytes))
    with services.jobs.open(request) as job:
        async with services.engine.workspace(job.run_id) as workspace:
            await services.jobs.finish(job, lambda: run(request, services, job, workspace))


def read_prompt(content: bytes) -> PromptRequest:
    """Return the request for a warm-up file: a graph in the API format.

    Raises:
        StatelessError: It is none.
    """
    try:
        graph = parse_json(content)
        check_graph(graph)
        return validate(PromptRequest, {"prompt": graph, "id": "warm-up"})
    except StatelessError as error:
        raise StatelessError(
            f"WARMUP_PROMPT_FILE holds no usable graph: {error.message}"
        ) from error


def _settle_garbage() -> None:
    """Keep what was loaded at the start out of later collections.

    ComfyUI collects every ten seconds while prompts run, and walking all modules and nodes stops
    the event loop for half a second each time.
    """
    gc.collect()
    gc.freeze()
