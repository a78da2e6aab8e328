"""The wiring: settings and engine become services, services an application, mounted in ComfyUI."""

from __future__ import annotations

import asyncio
import logging
from functools import partial

from aiohttp import web

from .api.app import create_app, unavailable_app
from .config import Settings, without_effect
from .errors import ConfigError
from .host.engine import ComfyEngine
from .host.mount import cors_headers, mount, prompt_server
from .jobs import Jobs
from .outputs import Encoders
from .pipeline import Services
from .readiness import Readiness
from .warmup import get_ready

log = logging.getLogger("comfyui_stateless")

READY_TASK = web.AppKey("ready_task", list[asyncio.Task[None]])

_LEVELS = {
    "trace": logging.DEBUG,
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warn": logging.WARNING,
    "error": logging.ERROR,
    "fatal": logging.CRITICAL,
}


def load() -> None:
    """Put the API into this process's ComfyUI.

    With wrong settings its routes say so and ComfyUI is left as it is.

    Raises:
        RuntimeError: ComfyUI runs no server here.
    """
    try:
        settings = Settings.load()
    except ConfigError as error:
        log.error("%s", error.message)
        mount(unavailable_app(error, headers=cors_headers()))
        return
    log.setLevel(_LEVELS[settings.log_level])
    for line in without_effect():
        log.warning("Environment: %s", line)
    engine = ComfyEngine(prompt_server())
    services = Services(
        settings=settings,
        readiness=Readiness(),
        engine=engine,
        encoders=Encoders(),
        jobs=Jobs(
            engine.queue_depth,
            max_depth=settings.max_queue_depth,
            reject_when_full=settings.reject_when_full,
        ),
    )
    app = create_app(services, headers=cors_headers())
    app[READY_TASK] = []
    app.on_startup.append(partial(_get_ready, services))
    engine.install()
    mount(app)


async def _get_ready(services: Services, app: web.Application) -> None:
    # Beside the server, not before it: the probes answer while the warm-up runs.
    app[READY_TASK].append(asyncio.create_task(get_ready(services)))
