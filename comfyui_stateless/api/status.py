"""`GET /prompt/{id}`: what is known of a job, while it lives and for some time after."""

from __future__ import annotations

from functools import partial

from aiohttp import web

from ..background import Background
from ..bodies import json_body
from ..engine import PromptResult
from ..errors import NotFound, Unavailable
from ..jobs import Job, JobState
from ..journal import StoredResult
from ..recording import error_of, result_of
from .described import described_job, described_wait
from .events import follow, outcome_of, tell_outcome, wants_previews
from .responses import json_response
from .state import BACKGROUND, SERVICES
from .streams import respond


async def status(request: web.Request) -> web.StreamResponse:
    """Tell the state of the newest job of an id."""
    found = await _found(request)
    if isinstance(found, StoredResult):
        return await _kept(request, found)
    if found is None:
        return json_response(described_wait(request.match_info["id"]))
    return json_response(described_job(found, request.app[SERVICES].jobs.position(found)))


async def events(request: web.Request) -> web.StreamResponse:
    """Stream what happens to the newest job of an id."""
    previews = wants_previews(request)
    found = await _found(request)
    if isinstance(found, StoredResult):
        return await tell_outcome(request, found.run_id, partial(outcome_of, found))
    if found is None:
        raise Unavailable("The job waits to be run again.", headers={"Retry-After": "5"})
    outcome = partial(_outcome, found, request.app[BACKGROUND])
    return await follow(request, found, outcome, previews=previews)


async def _found(request: web.Request) -> Job | StoredResult | None:
    """Return the job of the request's id, or what is kept of it, whichever says more.

    None stands for one that was accepted, and waits for the server to take it up again.

    Raises:
        NotFound: No such job is known.
        Unavailable: None lives, and the journal is not open.
    """
    caller_id, background = request.match_info["id"], request.app[BACKGROUND]
    job = request.app[SERVICES].jobs.find(caller_id)
    if job is not None:
        is_kept = job.state.is_terminal and background.is_open
        return (await background.result_of_run(job.run_id) if is_kept else None) or job
    if await background.waits(caller_id):
        return None
    stored = await background.result(caller_id)
    if stored is None:
        raise NotFound("There is no job of this id here, or it ended longer than RESULT_TTL_S ago.")
    return stored


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
    return None if stored is None else result_of(stored)
