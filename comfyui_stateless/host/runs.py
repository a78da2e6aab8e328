"""The runs that ComfyUI has of ours, and what each of them has come to."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

from ..engine import CapturedImage, Execution, Observer
from ..errors import ExecutionInterrupted, StatelessError
from ..naming import ImageNames
from .capture import Metadata, to_uint8
from .collect import Files, shown, texts
from .failures import failure, worker_death
from .files import RunFolder
from .plan import Plan
from .times import Times

log = logging.getLogger("comfyui_stateless.host")

CLIENT = "stateless-"
"""What our synthetic client ids begin with; with one, ComfyUI broadcasts nothing of a run."""


class Run:
    """One prompt of ours inside ComfyUI.

    The thread that runs nodes records what happens; the loop's thread waits for the end.

    Args:
        prompt_id: ComfyUI's id of the prompt.
        secrets: Texts that no message may hold.
        ended: Called on the loop's thread when ComfyUI is done with the prompt.

    Attributes:
        item: What lies in ComfyUI's queue.
        finishing: ComfyUI is about to report the end, so the prompt is in no queue.
        stopping: The run is not wanted any more.
        node_id: The node that runs now.
    """

    def __init__(
        self,
        prompt_id: str,
        plan: Plan,
        folder: RunFolder,
        observer: Observer,
        secrets: tuple[str, ...],
        ended: Callable[[], None],
    ) -> None:
        self.prompt_id = prompt_id
        self.plan = plan
        self.item: tuple[Any, ...] = ()
        self.finishing = False
        self.stopping = False
        self.node_id: str | None = None
        self._folder = folder
        self._observer = observer
        self._secrets = secrets
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[Execution] = self._loop.create_future()
        self._over = False
        self._names = ImageNames()
        self._metadata: dict[bool, Metadata] = {}
        self._presented: dict[str, Any] | None = None
        self._outputs: dict[str, Any] = {}
        self._times = Times()
        self._death: StatelessError | None = None

    @property
    def client_id(self) -> str:
        """The client that ComfyUI sends the run's events to; nobody is connected as it."""
        return f"{CLIENT}{self.prompt_id}"

    @property
    def is_over(self) -> bool:
        """Whether ComfyUI is done with the prompt."""
        return self._over

    async def result(self) -> Execution:
        """Wait for the run to end; cancelling the wait leaves the run as it is.

        Only one may wait.
        """
        return await self._future

    def presented(self) -> dict[str, Any]:
        """Return the graph for nodes that embed it in files: in the caller's classes and names."""
        if self._presented is None:
            self._presented = self.plan.presented(with_is_changed=True)
        return self._presented

    def record(self, event: Any, data: Any) -> None:
        """Note an event of ComfyUI's; called on any thread."""
        if event == "executing" and data.get("node") is not None:
            self.node_id = self.plan.real_id(data["node"])
            self._times.enter(self.node_id)
        elif event == "executed" and data.get("output"):
            self._outputs[data["node"]] = data["output"]
        elif event == "execution_cached":
            self._times.cached(data["nodes"])
        elif event == "execution_start":
            self._times.start()
            self._observer.started()

    def take(
        self, node_id: str, prefix: str | None, images: Any, metadata: Metadata, *, temp: bool
    ) -> None:
        """Take the images that a saver of ours was given; called on the thread that runs nodes."""
        real_id = self.plan.real_id(node_id)
        if real_id in self.plan.discarded or len(images) == 0:
            return
        metadata = self._metadata.setdefault(metadata.is_empty, metadata)
        height, width = images[0].shape[:2]
        if prefix is None:
            prefix = f"{self.plan.name_prefix}ComfyUI{'_temp' if temp else ''}"
        base = self._names.base(prefix, width, height)
        for number, image in enumerate(images):
            name = self._names.next(base, number)
            self._observer.image(CapturedImage(real_id, name, temp, to_uint8(image), metadata))

    def die(self, error: BaseException) -> None:
        """Note that the run's node has ended the thread that runs nodes."""
        self._death = worker_death(error, self.node_id, self.plan, self._secrets)

    def finish(self, history: Mapping[str, Any], status: Any) -> None:
        """Settle the run with what ComfyUI says of it; called on the thread that runs nodes.

        Files that lie among ComfyUI's own are taken now, before the next prompt can write there.
        """
        self._times.end()
        outcome: Execution | StatelessError
        try:
            outcome = self._outcome(history, status)
        except Exception:
            # Raising would end ComfyUI's worker thread, and with it everybody's prompts.
            log.exception("The outputs of run %s could not be collected", self.prompt_id)
            outcome = StatelessError(
                "The outputs could not be collected; the server's log says why."
            )
        self._loop.call_soon_threadsafe(self._settle, outcome)

    def drop(self) -> None:
        """Settle a run that never started and never will; called on the loop's thread."""
        self._settle(ExecutionInterrupted("The job was interrupted."))

    def _settle(self, outcome: Execution | StatelessError) -> None:
        if self._over:
            return
        self._over = True
        if self._future.cancelled():
            log.debug("Run %s ended after nobody waited for it any more", self.prompt_id)
        elif isinstance(outcome, StatelessError):
            self._future.set_exception(outcome)
        else:
            self._future.set_result(outcome)
        self._ended()

    def _outcome(self, history: Mapping[str, Any], status: Any) -> Execution | StatelessError:
        outputs = shown(self.plan, history.get("outputs") or self._outputs)
        # A failed run's files are collected too: its folder is what gets deleted.
        files = Files(self.plan, self._folder, self._times.started / 1000).collect(outputs)
        if error := self._death or failure(status, self.plan, self._secrets):
            return error
        return Execution(
            prompt=self.plan.presented(),
            started=self._times.started,
            ended=self._times.ended,
            nodes=self._times.nodes(),
            files=tuple(files),
            texts=tuple(texts(outputs)),
        )


class Runs:
    """The runs of ours that ComfyUI is not done with, by prompt id, and by the graph it executes."""

    def __init__(self) -> None:
        self._by_prompt: dict[str, Run] = {}
        self._by_graph: dict[int, Run] = {}

    def add(self, run: Run) -> None:
        """Begin to know a run."""
        self._by_prompt[run.prompt_id] = run
        self._by_graph[id(run.plan.graph)] = run

    def remove(self, run: Run) -> None:
        """Forget a run."""
        self._by_prompt.pop(run.prompt_id, None)
        self._by_graph.pop(id(run.plan.graph), None)

    def get(self, prompt_id: Any) -> Run | None:
        """Return the run with this prompt id, None for prompts of others."""
        return self._by_prompt.get(prompt_id)

    def executing(self, graph: Any) -> Run | None:
        """Return the run whose graph this very object is."""
        return self._by_graph.get(id(graph))

    def all(self) -> list[Run]:
        """Return the runs of this moment."""
        return list(self._by_prompt.values())
