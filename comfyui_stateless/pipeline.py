"""The way of a prompt from its request to its result: every stage once, in reading order."""

from __future__ import annotations

from dataclasses import dataclass

from .config import Settings
from .delivery import deliver
from .engine import Engine, PromptResult, Workspace
from .jobs import Job, Jobs, JobState
from .outputs import Collector, Encoders
from .prepare import prepare
from .readiness import Readiness
from .requests import PromptRequest


@dataclass(frozen=True, slots=True)
class Services:
    """What the stages work with, built once when the extension is loaded."""

    settings: Settings
    readiness: Readiness
    engine: Engine
    encoders: Encoders
    jobs: Jobs


async def run(
    request: PromptRequest, services: Services, job: Job, workspace: Workspace
) -> PromptResult:
    """Run a request. The files of its result live as long as ``workspace`` does.

    Raises:
        StatelessError: What went wrong, in whichever stage.
    """
    watch, jobs, engine = job.watch, services.jobs, services.engine
    with watch.stage("preprocess_time"):
        prepared = prepare(
            request,
            job.run_id,
            engine.node_class,
            prepend_filenames=services.settings.prepend_filenames,
        )
        runnable = await engine.validate(prepared, workspace)
    with Collector(services.encoders, request.convert_output, workspace, job.started) as collector:
        with watch.stage("comfy_round_trip_time"):
            turn = await jobs.turn(job)
            execution = await runnable.run(collector, turn.release)
        job.state = JobState.DELIVERING
        with watch.stage("postprocess_time"):
            outputs = await collector.collect(execution)
    return deliver(request, execution, outputs, watch)
