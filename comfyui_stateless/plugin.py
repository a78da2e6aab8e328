"""The wiring: settings and engine become services, services an application, mounted in ComfyUI."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from aiohttp import web

from .access import check_secret
from .api.app import create_app, unavailable_app
from .api.state import WORKFLOWS
from .background import Background
from .board import Board, Recent
from .cache import Cache
from .config import LOG_LEVELS, Settings, on_saladcloud, system_metadata, without_effect
from .downloads import Downloads
from .draining import Drain
from .errors import ConfigError
from .host.engine import ComfyEngine
from .host.mount import (
    cors_headers,
    limit_first_requests,
    mount,
    mounted_from,
    prompt_server,
    require_hosts,
    taken_routes,
)
from .inputs import Fetcher
from .jobs import Jobs
from .metrics import Metrics, Tallies
from .outputs import Encoders
from .pipeline import Services
from .readiness import Readiness
from .repositories import Repositories
from .saladcloud import keep_deletion_cost
from .storage.backends import open_backends
from .storage.connections import Client
from .storage.policy import Policy
from .system_events import SystemEvents
from .uploads import Uploads
from .warmup import get_ready

if TYPE_CHECKING:
    from .journal.journal import Journal
    from .webhooks import Webhooks

log = logging.getLogger("comfyui_stateless")

TASKS = web.AppKey("stateless_tasks", list[asyncio.Task[None]])


def load() -> bool:
    """Put the API into this process's ComfyUI; return False where another copy has done so.

    With wrong settings its routes say so and ComfyUI is left as it is.

    Raises:
        RuntimeError: ComfyUI runs no server here.
    """
    if (other := mounted_from()) is not None:
        here = Path(__file__).parents[1]
        log.warning("The stateless API is there from %s; the copy in %s does nothing", other, here)
        return False
    try:
        settings = Settings.load()
    except ConfigError as error:
        log.error("%s", error.message)
        mount(unavailable_app(error, headers=cors_headers()))
        return True
    log.setLevel(LOG_LEVELS[settings.log_level])
    for line in without_effect():
        log.warning("Environment: %s", line)
    try:
        app = _application(settings)
    except ConfigError as error:
        log.error("%s", error.message)
        app = unavailable_app(error, headers=cors_headers())
    mount(app)
    return True


def _application(settings: Settings) -> web.Application:
    """Return the API on this process's ComfyUI, with our hooks in place.

    Raises:
        ConfigError: Settings do not fit together.
    """
    engine = ComfyEngine(prompt_server(), settings.cache_dir)
    events = SystemEvents() if settings.system_webhook_url else None
    tallies = Tallies()
    recent = Recent(pictures=settings.result_ttl_s > 0)
    services = _services(settings, engine, events, tallies, recent)
    background = _background(settings, services)
    if events is not None:
        events.emit = background.emit
        engine.on_status = events.status
    metrics = Metrics(services, background, tallies)
    board = Board(services, background, recent)
    app = create_app(services, background, metrics, board, headers=cors_headers())
    app[TASKS] = []
    app.on_startup.append(partial(_start, services, background, metrics))
    engine.install()
    if settings.hosts:
        require_hosts(settings.hosts)
    limit_first_requests()
    return app


def _services(
    settings: Settings,
    engine: ComfyEngine,
    events: SystemEvents | None,
    tallies: Tallies,
    recent: Recent,
) -> Services:
    access = settings.http
    policy = Policy(access)
    backends = open_backends(settings)
    cache = Cache(
        settings.cache_dir,
        backends.for_url,
        limit_bytes=settings.cache_bytes,
        on_downloaded=events.downloaded if events else None,
        on_deleted=events.deleted if events else None,
    )
    repositories = Repositories(
        settings.cache_dir / "repositories", Client(policy, access.proxies), access.proxies
    )
    return Services(
        settings=settings,
        readiness=Readiness(),
        engine=engine,
        encoders=Encoders(),
        cache=cache,
        repositories=repositories,
        fetcher=Fetcher(cache, repositories, engine),
        downloads=Downloads(cache, engine),
        uploads=Uploads(backends, policy=policy, on_uploaded=events.uploaded if events else None),
        jobs=Jobs(
            engine.queue_depth,
            max_depth=settings.max_queue_depth,
            reject_when_full=settings.reject_when_full,
            result_ttl_s=settings.result_ttl_s,
            on_ended=(tallies.job_ended, recent.job_ended),
        ),
        node_ran=tallies.node_ran,
        system=events.of_run if events else None,
    )


def _background(settings: Settings, services: Services) -> Background:
    secret = settings.webhook_secret
    key = None if secret is None else check_secret(secret.get_secret_value())
    return Background(services, partial(_open_journal, settings), partial(_webhooks, settings, key))


# What comes with these is imported once the server runs: ComfyUI's start need not wait for it.


async def _open_journal(settings: Settings) -> Journal:
    from .journal.journal import Journal, Limits

    limits = Limits(result_ttl_s=settings.result_ttl_s, result_max_bytes=settings.result_max_bytes)
    return await Journal.open(settings.state_dir, limits)


def _webhooks(settings: Settings, key: bytes | None, journal: Journal) -> Webhooks:
    from .webhooks import Options, Signer, SystemWebhook, Webhooks

    url = settings.system_webhook_url
    options = Options(
        signer=Signer(key),
        retries=settings.prompt_webhook_retries,
        system=None
        if url is None
        else SystemWebhook(url.get_secret_value(), settings.system_events, system_metadata()),
        proxies=settings.http.proxies,
    )
    return Webhooks(journal, Policy(settings.http), options)


async def _get_ready(services: Services, background: Background, app: web.Application) -> None:
    if reason := await _taken(app):
        services.readiness.fail(reason)
        return
    workflows = app[WORKFLOWS]
    await get_ready(services, background, workflows.warm_up_with)
    await workflows.edition()  # loads the files, and says in the log what is wrong with them


async def _taken(app: web.Application) -> str | None:
    """Say that other packs answer some of our routes, in the log with their names."""
    try:
        taken = await taken_routes(app)
    except Exception:
        log.exception("Whether another pack has taken a route of the stateless API is not known")
        return None
    if not taken:
        return None
    text = f"Another pack has taken {', '.join(taken)} of the stateless API"
    log.error("%s: %s. Nothing is run until it is removed.", text, ", ".join({*taken.values()}))
    return f"{text}; the log names it."


async def _start(
    services: Services, background: Background, metrics: Metrics, app: web.Application
) -> None:
    # Beside the server, not before it: the probes answer while the warm-up runs.
    metrics.start()
    tasks = app[TASKS]
    tasks.append(asyncio.create_task(_get_ready(services, background, app)))
    Drain(services, background).install()
    if on_saladcloud():
        url = services.settings.salad_metadata_url
        tasks.append(asyncio.create_task(keep_deletion_cost(url, services.jobs.depth)))
