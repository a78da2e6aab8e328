"""The runs that ComfyUI has of ours, and what each of them has come to."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import nodes
from comfy_execution.utils import get_executing_context

from ..engine import CapturedImage, Execution, NodeText, Observer
from ..errors import ExecutionInterrupted, StatelessError
from ..naming import ImageNames
from .ahead import Loads
from .capture import Metadata, to_uint8
from .collect import Files, shown, texts
from .failures import BLOCKED, blocked, failure, without, worker_death
from .files import RunFolder
from .previews import PICTURE, PICTURE_OF_NODE, Previews, picture
from .sent import Sent
from .strays import Stray, Strays
from .submit import Accepted, QueueItem
from .times import Times
from .translation import Translation

log = logging.getLogger("comfyui_stateless.host")

NO_METADATA = Metadata(None, None)

CLIENT = "stateless-"
"""What our synthetic client ids begin with; with one, ComfyUI broadcasts nothing of a run."""


class Run:
    """One prompt of ours inside ComfyUI.

    The thread that runs nodes records what happens; the loop's thread waits for the end.

    Args:
        ended: Called on the loop's thread when ComfyUI is done with the prompt.

    Attributes:
        prompt_id: ComfyUI's id of the prompt.
        loads: What is loaded ahead for it.
        item: What lies in ComfyUI's queue.
        was_there: ComfyUI's queue has had it; another pack may hold it back before.
        finishing: ComfyUI is about to report the end, so the prompt is in no queue.
        stopping: The run is not wanted any more.
        repeats: How many more parts of it lie in ComfyUI's queue: nodes that work in batches put
            their prompt there again.
        secrets: Texts that nobody but its nodes may see.
        writers: Classes whose nodes wrote files, which go with the run, and which ComfyUI would not
            run the next time.
        node_id: The node that runs now.
    """

    def __init__(
        self,
        accepted: Accepted,
        folder: RunFolder,
        loads: Loads,
        strays: Strays,
        observer: Observer,
        ended: Callable[[], None],
    ) -> None:
        self._strays = strays
        self.prompt_id = accepted.prompt_id
        self.loads = loads
        self.plan = accepted.plan
        self._shown = accepted.shown
        self.item: tuple[Any, ...] = ()
        self.was_there = False
        self.finishing = False
        self.stopping = False
        self.repeats = 0
        self.writers: set[str] = set()
        self._is_resumed = False
        self.node_id: str | None = None
        self._folder = folder
        self._observer = observer
        self.secrets = accepted.secrets()
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[Execution] = self._loop.create_future()
        self._over = False
        self._is_finished = False
        self._names = ImageNames()
        self._metadata: dict[bool, Metadata] = {}
        self._presented: dict[str, Any] | None = None
        self._outputs: dict[str, Any] = {}
        self._blocked: tuple[NodeText, ...] = ()
        self._times = Times()
        self._files: Files | None = None
        self._translation = Translation(accepted.caller_id, self.plan, folder.name, self.secrets)
        self._previews = Previews(self._show)
        self._sent = Sent(self.plan.free | self.plan.folders.keys())
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
            self._presented = self.plan.presented()
        return self._presented

    def wants(self, event: str) -> bool:
        """Say whether anybody wants events of this name."""
        return event in self._translation and self._observer.wants(event)

    def record(self, event: Any, data: Any) -> None:
        """Note an event of ComfyUI's, and pass it on; called on any thread, and never raises."""
        self._safely(self._record, event, data)

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
            self._translation.note_image(real_id, name, temp=temp)
            self._observer.image(CapturedImage(real_id, name, temp, to_uint8(image), metadata))

    def repeated(self, item: Sequence[Any]) -> tuple[Any, ...]:
        """Note that a node puts another part of the run into the queue; return it as the run's own."""
        number, _, graph, *rest = item
        self.item = QueueItem((number, self.prompt_id, graph, *rest))
        self.plan.graph.update(graph)  # the nodes see what the part before has written into it
        self._presented = None
        self.repeats += 1
        return self.item

    def part_is_done(self) -> None:
        """Note that a part is done and another is to come."""
        self.repeats -= 1
        self._is_resumed = True
        self.finishing = False

    def die(self, error: BaseException) -> None:
        """Note that the run's node has ended the thread that runs nodes."""
        self._death = worker_death(error, self.node_id, self.plan, self.secrets)

    def finish(self, history: Mapping[str, Any], status: Any) -> None:
        """Settle the run with what ComfyUI says of it; called on the thread that runs nodes.

        Files that lie among ComfyUI's own are taken now, before the next prompt can write there.
        Said again, it changes nothing: we may hear it twice where packs have wrapped us.
        """
        if self._is_finished:
            return
        self._is_finished = True
        self._times.end()
        self._previews.close()
        # ComfyUI says so a little later, when the run may be forgotten already.
        self._safely(self._tell, "executing", {"node": None})
        outcome: Execution | StatelessError
        try:
            outcome = self._outcome(history, status)
        except Exception:
            # Raising would end ComfyUI's worker thread, and with it everybody's prompts.
            log.exception("The outputs of run %s could not be collected", self.prompt_id)
            outcome = StatelessError(
                "The outputs could not be collected; the server's log says why."
            )
        strays = self._strays.end(self._class_types(), self._folder)
        if strays and isinstance(outcome, Execution):
            files = self._finder().with_strays(outcome.files, strays)
            outcome = outcome._replace(files=tuple(files))
        self.writers = set(self._writers(strays))
        self._loop.call_soon_threadsafe(self._settle, outcome)

    def drop(self) -> None:
        """Settle a run that never started and never will; called on the loop's thread."""
        self._previews.close()
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
        del self._ended  # it refers to this run: a cycle would keep the images in memory for long

    def _safely(self, work: Callable[[Any, Any], None], event: Any, data: Any) -> None:
        try:
            work(event, data)
        except Exception:
            # Raising would fail the node that runs, or end ComfyUI's worker thread.
            log.exception("An event of run %s could not be passed on", self.prompt_id)

    def _record(self, event: Any, data: Any) -> None:
        if event in (PICTURE, PICTURE_OF_NODE):
            sender = self._sender()
            self._sent.note(sender, event, data)
            self._preview(event, data, sender)
        elif event == "executing":
            self._enter(data)
        else:
            self._note(event, data)
            if not self._is_between(event):
                self._tell(event, data)

    def _is_between(self, event: Any) -> bool:
        """Say whether an event is of a part that is not the last, or not the first."""
        is_start = event == "execution_start" and self._is_resumed
        return is_start or (event == "execution_success" and self.repeats > 0)

    def _enter(self, data: Mapping[str, Any]) -> None:
        """Note that a node begins; one that was made by a node of the caller's counts as that."""
        node_id = None if data["node"] is None else self.plan.shown_id(data["node"])
        if node_id is None:
            return
        if self.plan.free or self.plan.folders:
            self._strays.enter(node_id)
        is_news, self.node_id = node_id != self.node_id, node_id
        self._times.enter(node_id)
        if is_news:
            self._tell("executing", data)

    def _note(self, event: Any, data: Any) -> None:
        if event == "executed" and data.get("output"):
            self._outputs[data["node"]] = data["output"]
            for image in self._sent.outputs(self.plan.real_id(data["node"]), data["output"]):
                self.take(data["node"], None, [image], NO_METADATA, temp=False)
            self._give_early(data["node"], data["output"])
        elif event == "execution_cached":
            self.plan.take_nonces_back()
            self.loads.note_cached(data["nodes"])
            self._times.cached(filter(None, map(self.plan.shown_id, data["nodes"])))
        elif event == "execution_error" and data.get("exception_type") == BLOCKED:
            self._blocked += (blocked(data, self.plan, self.secrets),)
        elif event == "execution_start":
            if self.stopping:
                nodes.interrupt_processing(True)  # another pack held it back when it was stopped
            if self._is_resumed:
                return
            self._times.start()
            self._strays.begin(self._class_types())
            self._observer.started()

    def _tell(self, event: Any, data: Mapping[str, Any]) -> None:
        if self.wants(event):
            told = self._translation(event, data)
            if told is not None:
                self._observer.event(event, told)

    def _sender(self) -> str | None:
        """Return the node that sends something now: asynchronous ones run at the same time."""
        context = get_executing_context()
        if context is None or context.prompt_id != self.prompt_id:
            return self.node_id  # on a thread of its own
        return self.plan.shown_id(context.node_id)

    def _preview(self, event: int, data: Any, sender: str | None) -> None:
        if self._observer.wants("preview"):
            shown = picture(event, data, sender)
            if shown is not None:
                self._previews.add(shown)

    def _show(self, node_id: str, jpeg: bytes) -> None:
        shown = {"node": self.plan.real_id(node_id), "media_type": "image/jpeg", "image": jpeg}
        self._observer.event("preview", shown)

    def _give_early(self, node_id: str, output: Mapping[str, Any]) -> None:
        """Give the files of a node that is done, so that they are on their way at once."""
        if node_id in self.plan.graph:
            for file in self._finder().early(node_id, output):
                self._observer.file(file)

    def _writers(self, strays: Iterable[Stray]) -> Iterator[str]:
        # Not those that only show a preview: they may be samplers, and dear.
        wrote = {file.node_id for file in self._finder().collected if not file.temp}
        wrote |= {stray.node_id for stray in strays if stray.node_id is not None}
        outputs = self.plan.free | self.plan.folders.keys() | self.plan.captured
        for node_id in wrote - outputs:
            if node_id in self.plan.graph:
                yield self.plan.class_type(node_id)

    def _cleaned(self, found: Iterable[NodeText]) -> Iterator[NodeText]:
        for node_id, text in found:
            yield NodeText(node_id, without(text, self.secrets))

    def _finder(self) -> Files:
        if self._files is None:
            self._files = Files(self.plan, self._folder, self._times.started / 1000)
        return self._files

    def _class_types(self) -> dict[str, str]:
        return {node_id: node["class_type"] for node_id, node in self.plan.graph.items()}

    def _outcome(self, history: Mapping[str, Any], status: Any) -> Execution | StatelessError:
        outputs = shown(self.plan, history.get("outputs") or self._outputs)
        # A failed run's files are collected too: its folder is what gets deleted.
        files = self._finder().collect(outputs)
        if error := self._death or failure(status, self.plan, self.secrets):
            return error
        return Execution(
            prompt=self._shown,
            started=self._times.started,
            ended=self._times.ended,
            nodes=self._times.nodes(self.plan.graph),
            files=tuple(files),
            texts=(*self._cleaned(texts(outputs)), *self._blocked),
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

    def executing(self, graph: Any, prompt_id: Any) -> Run | None:
        """Return the run whose graph this is: the very object, or a pack's copy of it.

        Args:
            prompt_id: That of the prompt which ComfyUI executes now.
        """
        run = self._by_graph.get(id(graph)) or self._by_prompt.get(prompt_id)
        return run if run is not None and run.plan.graph.keys() <= graph.keys() else None

    def all(self) -> list[Run]:
        """Return the runs of this moment."""
        return list(self._by_prompt.values())

    def secrets(self) -> tuple[str, ...]:
        """Return the texts that are secret at this moment; on any thread."""
        return tuple(secret for run in self.all() for secret in run.secrets)
