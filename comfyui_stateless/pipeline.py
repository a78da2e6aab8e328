"""The way of a prompt from its request to its result: every stage once, in reading order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .cache import Cache
from .config import Settings
from .delivery import check_target, deliver
from .downloads import Downloads
from .engine import Engine, PromptResult, Workspace
from .inputs import Fetcher, Uploaded
from .jobs import UNRECORDED, Job, Jobs, JobState, Record
from .outputs import Collector, Encoders
from .prepare import NO_UPLOADS, prepare
from .readiness import Readiness, Verdict
from .report import NodeRan, Report, Sink
from .repositories import Repositories
from .requests import PromptRequest
from .uploads import Uploads


@dataclass(frozen=True, slots=True)
class Services:
    """What the stages work with, built once when the extension is loaded.

    Attributes:
        system: Takes the events of all jobs' runs, None where nobody wants them.
        node_ran: Takes the nodes that have run, None where nobody wants them.
    """

    settings: Settings
    readiness: Readiness
    engine: Engine
    encoders: Encoders
    cache: Cache
    repositories: Repositories
    fetcher: Fetcher
    downloads: Downloads
    uploads: Uploads
    jobs: Jobs
    system: Sink | None = None
    node_ran: NodeRan | None = None

    def verdict(self) -> Verdict:
        """Say whether a prompt would be taken and run now, and why not."""
        return self.readiness.ready(
            trouble=self.engine.trouble(),
            depth=self.jobs.depth(),
            max_depth=self.settings.max_queue_depth,
        )


async def run(
    request: PromptRequest,
    services: Services,
    job: Job,
    workspace: Workspace,
    uploads: Mapping[str, Uploaded] = NO_UPLOADS,
    record: Record = UNRECORDED,
) -> PromptResult:
    """Run a request. The files of its result live as long as ``workspace`` does.

    Args:
        uploads: The files that came with the request, by the name of their part.
        record: Writes down how far the job is.

    Raises:
        StatelessError: What went wrong, in whichever stage.
    """
    watch, jobs, engine = job.watch, services.jobs, services.engine
    with watch.stage("preprocess_time"):
        await check_target(request, services.uploads)
        prepared = await prepare(
            request,
            job.run_id,
            engine,
            services.fetcher,
            workspace,
            job.preparing,
            uploads=uploads,
            prepend_filenames=services.settings.prepend_filenames,
        )
        runnable = await engine.validate(prepared, workspace)
        await record.accepted(prepared)
        del prepared  # what is needed of it is elsewhere, and a job may wait for long
        runnable.load_ahead()
    async with services.uploads.job(request.target) as uploading:
        begin_upload = None if request.target is None else uploading.begin
        job.uploaded = None if request.target is None else lambda: uploading.uploaded
        report = Report(job, request.prompt, begin_upload, services.system, services.node_ran)
        with Collector(services.encoders, request.convert_output, workspace, report) as collector:
            with watch.stage("comfy_round_trip_time"):
                turn = await jobs.turn(job, record.begun)
                execution = await runnable.run(collector, turn.release)
            job.state = JobState.DELIVERING
            with watch.stage("postprocess_time"):
                outputs = await collector.collect(execution)
        return await deliver(request, execution, outputs, uploading, watch)
