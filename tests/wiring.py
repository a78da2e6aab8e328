"""Services on a scripted engine: everything else is real, in a folder of the test's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aiohttp import web

from comfyui_stateless.api.app import create_app
from comfyui_stateless.background import Background
from comfyui_stateless.board import Board, Recent
from comfyui_stateless.cache import Cache
from comfyui_stateless.config import Settings
from comfyui_stateless.downloads import Downloads
from comfyui_stateless.inputs import Fetcher
from comfyui_stateless.jobs import Jobs
from comfyui_stateless.journal.journal import Journal, Limits
from comfyui_stateless.metrics import Metrics, Tallies
from comfyui_stateless.outputs import Encoders
from comfyui_stateless.pipeline import Services
from comfyui_stateless.readiness import Phase, Readiness
from comfyui_stateless.repositories import Repositories
from comfyui_stateless.storage.backends import open_backends
from comfyui_stateless.storage.connections import Client
from comfyui_stateless.storage.policy import Policy
from comfyui_stateless.system_events import SystemEvents
from comfyui_stateless.uploads import Uploads
from comfyui_stateless.webhooks import Options, Signer, Webhooks
from tests.fakes import FakeEngine

ENCODERS = Encoders(threads=2)


def settings_in(folder: Path, **chosen: Any) -> Settings:
    """Return settings whose folders lie in ``folder``; this machine's addresses are trusted."""
    defaults = {
        "cache_dir": folder / "cache",
        "state_dir": folder / "state",
        "http_trusted_origins": "*",
    }
    return Settings(**{**defaults, **chosen})


def services_for(
    engine: FakeEngine,
    folder: Path,
    phase: Phase = Phase.READY,
    *,
    events: SystemEvents | None = None,
    tallies: Tallies | None = None,
    recent: Recent | None = None,
    **chosen: Any,
) -> Services:
    settings = settings_in(folder, **chosen)
    readiness = Readiness()
    readiness.enter(phase)
    access = settings.http
    policy, backends = Policy(access), open_backends(settings)
    cache = Cache(
        settings.cache_dir,
        backends.for_url,
        limit_bytes=settings.cache_bytes,
        retry_delays=(0.01, 0.01),
        on_downloaded=events.downloaded if events else None,
        on_deleted=events.deleted if events else None,
    )
    repositories = Repositories(
        settings.cache_dir / "repositories", Client(policy, access.proxies), access.proxies
    )
    return Services(
        settings=settings,
        readiness=readiness,
        engine=engine,
        encoders=ENCODERS,
        cache=cache,
        repositories=repositories,
        fetcher=Fetcher(cache, repositories, engine),
        downloads=Downloads(cache, engine),
        uploads=Uploads(
            backends,
            retry_delays=(0.01, 0.01),
            policy=policy,
            on_uploaded=events.uploaded if events else None,
        ),
        jobs=Jobs(
            engine.queue_depth,
            max_depth=settings.max_queue_depth,
            reject_when_full=settings.reject_when_full,
            result_ttl_s=settings.result_ttl_s,
            on_ended=[each.job_ended for each in (tallies, recent) if each is not None],
        ),
        node_ran=tallies.node_ran if tallies else None,
        system=events.of_run if events else None,
    )


def background_for(
    services: Services,
    *,
    key: bytes | None = None,
    journal: type[Journal] = Journal,
    **options: Any,
) -> Background:
    """Return what runs accepted jobs.

    Args:
        key: Of the signatures.
        options: More options of the sender of webhooks.
    """
    settings = services.settings
    limits = Limits(result_ttl_s=settings.result_ttl_s, result_max_bytes=settings.result_max_bytes)
    chosen = Options(signer=Signer(key), retries=settings.prompt_webhook_retries, **options)
    return Background(
        services,
        lambda: journal.open(settings.state_dir, limits),
        lambda opened: Webhooks(opened, Policy(settings.http), chosen),
    )


NO_HEADERS: Mapping[str, str] = {}


def app_for(
    services: Services, background: Background, *, headers: Mapping[str, str] = NO_HEADERS
) -> web.Application:
    """Return the API for tests that look at neither metrics nor all jobs."""
    metrics = Metrics(services, background, Tallies())
    board = Board(services, background, Recent())
    return create_app(services, background, metrics, board, headers=headers)


async def end(services: Services) -> None:
    """Give up what services hold."""
    services.uploads.close()
    await services.cache.close()
