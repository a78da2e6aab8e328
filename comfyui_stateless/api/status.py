"""`GET /prompt/{id}`: what is known of a job, while it lives and for some time after."""

from __future__ import annotations

from functools import partial

from aiohttp import web

from ..background import Background
from ..bodies import json_body
from ..engine import PromptResult
from ..errors import NotFound
from ..jobs import Job, JobState
from ..journal import StoredResult
from ..recording import error_of, result_of
from .described import described_job
from .events import follow, tell_outcome, wants_previews
from .responses import json_response
from .state import BACKGROUND, SERVICES
from .streams import respond


async def status(request: web.Request) -> web.StreamResponse:
    """Tell the state of the newest job of an id."""
    job, stored = await _found(request)
    if stored is not None:
        return await _kept(request, stored)
    assert job is not None
    return json_response(described_job(job, request.app[SERVICES].jobs.position(job)))


async def events(request: web.Request) -> web.StreamResponse:
    """Stream what happens to the newest job of an id."""
    job, stored = await _found(request)
    previews = wants_previews(request)
    if job is not None:
        return await follow(
            request, job, partial(_outcome, job, request.app[BACKGROUND]), previews=previews
        )
    assert stored is not None
    return await tell_outcome(request, partial(_stored, stored))


async def _found(request: web.Request) -> tuple[Job | None, StoredResult | None]:
    """Return the job of the request's id, or what is kept of it, whichever says more.

    Raises:
        NotFound: Neither is known.
    """
    caller_id, background = request.match_info["id"], request.app[BACKGROUND]
    job = request.app[SERVICES].jobs.find(caller_id)
    if job is not None and not job.state.is_terminal:
        return job, None
    stored = None
    if background.is_open:
        known = background.result_of_run(job.run_id) if job else background.result(caller_id)
        stored = await known
    if job is None and stored is None:
        raise NotFound("There is no job of this id here, or it ended longer than RESULT_TTL_S ago.")
    return job, stored


async def _kept(request: web.Request, stored: StoredResult) -> web.StreamResponse:
    error = error_of(stored)
    if error is not None:
        is_interruption = error.code == "interrupted"
        state = JobState.INTERRUPTED if is_interruption else JobState.FAILED
        return json_response({"id": stored.id, "state": state.value, "error": error.body()})

    async def nothing() -> None:
        """The files are the journal's, and stay."""

    head = {"state": JobState.SUCCEEDED.value, "progress": 1.0}
    body = json_body(result_of(stored), head)
    return await respond(request, body, "application/json; charset=utf-8", {}, nothing)


async def _outcome(job: Job, background: Background) -> PromptResult | None:
    """Return the result of a job that has ended, as it is kept."""
    stored = await background.result_of_run(job.run_id) if background.is_open else None
    return None if stored is None else await _stored(stored)


async def _stored(stored: StoredResult) -> PromptResult | None:
    if error := error_of(stored):
        raise error
    return result_of(stored)
