"""From captured images and written files to outputs that can be delivered.

Images are encoded, and converted, while later nodes still run: the thread that runs nodes only
hands them over. Nothing large stays in memory: what a job has encoded beyond a bound goes to its
workspace.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple, Protocol, TypeVar

from .engine import CapturedImage, Execution, NodeFile, OutputFile, Workspace
from .errors import StatelessError
from .images import ConvertOutput, Frame, convert_file, encode
from .media import image_size, kind, media_type
from .naming import UniqueNames

MAX_PENDING_BYTES = 512 * 1024 * 1024
"""Bytes of pixels that may wait for an encoder before the thread that made them has to wait."""

MAX_JOB_MEMORY = 64 * 1024 * 1024
"""Bytes of encoded outputs that one job keeps in memory; what comes after goes to its folder."""

SMALL_BYTES = 64 * 1024
"""Bytes of pixels up to which an image costs less to encode than to hand to another thread."""

MAX_SMALL = 8
"""Small images of a job that are encoded by the one who collects; all together take 2 ms."""

T = TypeVar("T")


class Encoders:
    """The threads that encode images. Work waits in memory only up to ``MAX_PENDING_BYTES``."""

    def __init__(self, threads: int | None = None) -> None:
        self._pool = ThreadPoolExecutor(
            max_workers=threads or max(2, os.cpu_count() or 2),
            thread_name_prefix="stateless-encoder",
        )
        self._room = threading.Condition()
        self._pending = 0

    def submit(self, size: int, work: Callable[[], T]) -> Future[T]:
        """Have ``work`` done by an encoder thread.

        Args:
            size: Bytes that ``work`` holds; the call blocks while too many wait already.
        """
        with self._room:
            self._room.wait_for(
                lambda: self._pending == 0 or self._pending + size <= MAX_PENDING_BYTES
            )
            self._pending += size
        future = self._pool.submit(work)
        future.add_done_callback(lambda _: self._release(size))
        return future

    def _release(self, size: int) -> None:
        with self._room:
            self._pending -= size
            self._room.notify_all()


class _Encoded(NamedTuple):
    """An output with its place: which node it came from, and whether others outrank it."""

    output: OutputFile
    temp: bool


class Listener(Protocol):
    """What wants to hear of a job's run."""

    @property
    def wants_outputs(self) -> bool:
        """Whether outputs are wanted as soon as they are there, not only at the end."""

    def started(self) -> None:
        """Note that the run has left ComfyUI's queue; on any thread."""

    def wants(self, event: str) -> bool:
        """Say whether events of this name are wanted now; on any thread."""

    def event(self, name: str, data: Mapping[str, Any]) -> None:
        """Note an event of the run, in ComfyUI's own terms; on any thread."""

    def output(self, output: OutputFile) -> None:
        """Note an output that will be in the result; on the loop's thread."""


class Collector:
    """Collects the outputs of one job: images and files as they are made, the rest at the end.

    It observes the run; ``collect`` gives what came out. Outputs are named in the order in which
    they come. Make it on the loop's thread.
    """

    def __init__(
        self,
        encoders: Encoders,
        convert: ConvertOutput | None,
        workspace: Workspace,
        listener: Listener,
    ) -> None:
        self._encoders = encoders
        self._convert = convert
        self._listener = listener
        self._closed = False
        self._taken: list[Future[_Encoded] | CapturedImage] = []
        self._named: list[_Encoded] = []
        self._names = UniqueNames()
        self._small = 0
        self._store = _Store(workspace)
        self._loop = asyncio.get_running_loop()
        self._naming = asyncio.Lock()
        self._early: asyncio.Task[None] | None = None

    def __enter__(self) -> Collector:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        if self._early is not None:
            self._early.cancel()
        for taken in self._taken:
            if isinstance(taken, Future):
                taken.cancel()  # of a job that failed or was stopped: nobody wants the rest

    def image(self, captured: CapturedImage) -> None:
        """Take a captured image; called by the thread that runs nodes."""
        if self._closed:
            return  # of a run that has not stopped yet
        size = captured.pixels.nbytes
        if self._convert is None and size <= SMALL_BYTES and self._small < MAX_SMALL:
            self._small += 1
            self._taken.append(captured)
        else:
            self._taken.append(self._encoders.submit(size, partial(self._encode, captured)))
        self._come()

    def file(self, file: NodeFile) -> None:
        """Take a file that will not change any more; called by the thread that runs nodes."""
        if not self._closed:
            self._taken.append(self._encoders.submit(0, partial(self._read, file)))
            self._come()

    def started(self) -> None:
        """Note that the run has left ComfyUI's queue; called by the thread that runs nodes."""
        self._listener.started()

    def wants(self, event: str) -> bool:
        """Say whether events of this name are wanted now; called on any thread."""
        return not self._closed and self._listener.wants(event)

    def event(self, name: str, data: Mapping[str, Any]) -> None:
        """Pass an event of the run on; called on any thread."""
        if not self._closed:
            self._listener.event(name, data)

    async def collect(self, execution: Execution) -> tuple[OutputFile, ...]:
        """Return the outputs in the order of the graph's nodes.

        Files of type temp are left out where there is any other.

        Raises:
            ConversionError: An image could not be converted.
        """
        for file in execution.files:
            self._taken.append(self._encoders.submit(0, partial(self._read, file)))
        await self._name()
        found = [encoded for encoded in self._named if not encoded.temp]
        if not found:
            found = self._named
            for encoded in found:
                self._listener.output(encoded.output)
        order = {node_id: index for index, node_id in enumerate(execution.prompt)}
        outputs = [encoded.output for encoded in found]
        return tuple(sorted(outputs, key=lambda output: order.get(output.node_id, len(order))))

    def _come(self) -> None:
        """See that what has come is named, and told of, before the end if anybody wants that."""
        if self._listener.wants_outputs:
            self._loop.call_soon_threadsafe(self._name_early)

    def _name_early(self) -> None:
        if not self._closed and (self._early is None or self._early.done()):
            self._early = asyncio.ensure_future(self._name_quietly())

    async def _name_quietly(self) -> None:
        with suppress(StatelessError):  # ``collect`` raises it
            await self._name()

    async def _name(self) -> None:
        async with self._naming:
            while len(self._named) < len(self._taken):
                encoded = await self._encoded(self._taken[len(self._named)])
                encoded = self._with_own_name(encoded)
                self._named.append(encoded)
                if not encoded.temp:
                    self._listener.output(encoded.output)

    def _with_own_name(self, encoded: _Encoded) -> _Encoded:
        name = self._names.give(encoded.output.filename)
        if name == encoded.output.filename:
            return encoded
        return encoded._replace(output=encoded.output._replace(filename=name))

    async def _encoded(self, taken: Future[_Encoded] | CapturedImage) -> _Encoded:
        if isinstance(taken, CapturedImage):
            return self._encode(taken)
        return taken.result() if taken.done() else await asyncio.wrap_future(taken)

    def _encode(self, captured: CapturedImage) -> _Encoded:
        frame = Frame(captured.pixels, captured.metadata())
        height, width = captured.pixels.shape[:2]
        name = _renamed(captured.filename, self._convert)
        body = self._store.keep(encode(frame, self._convert))
        return _Encoded(
            OutputFile(
                node_id=captured.node_id,
                filename=name,
                kind="image",
                media_type=media_type(name),
                body=body.content,
                size=body.size,
                width=width,
                height=height,
            ),
            captured.temp,
        )

    def _read(self, file: NodeFile) -> _Encoded:
        converted = convert_file(file.path, self._convert) if self._convert else None
        if converted is None:
            return _Encoded(_as_written(file), file.temp)
        name = _renamed(file.filename, self._convert)
        size = image_size(converted)
        body = self._store.keep(converted)
        output = _as_written(file)._replace(
            filename=name,
            media_type=media_type(name),
            body=body.content,
            size=body.size,
            width=size[0] if size else None,
            height=size[1] if size else None,
        )
        return _Encoded(output, file.temp)


def described(output: OutputFile) -> dict[str, Any]:
    """Return what replies say of an output beside its bytes."""
    said: dict[str, Any] = {
        "node_id": output.node_id,
        "filename": output.filename,
        "type": output.kind,
        "media_type": output.media_type,
        "size_bytes": output.size,
    }
    if output.width is not None and output.height is not None:
        said |= {"width": output.width, "height": output.height}
    return said


class _Body(NamedTuple):
    content: bytes | Path
    size: int


class _Store:
    """Keeps the encoded outputs of a job: the first in memory, what is too much in its folder."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._lock = threading.Lock()
        self._held = 0
        self._spooled = 0

    def keep(self, content: bytes) -> _Body:
        with self._lock:
            fits = self._held + len(content) <= MAX_JOB_MEMORY
            self._held += len(content) if fits else 0
            self._spooled += 0 if fits else 1
            number = self._spooled
        if fits:
            return _Body(content, len(content))
        path = self._workspace.folder() / f"encoded-{number}"
        path.write_bytes(content)
        return _Body(path, len(content))


def _as_written(file: NodeFile) -> OutputFile:
    with file.path.open("rb") as stream:
        found = media_type(file.filename, stream.read(64))
    size = image_size(file.path) if found.startswith("image/") else None
    return OutputFile(
        node_id=file.node_id,
        filename=file.filename,
        kind=kind(found),
        media_type=found,
        body=file.path,
        size=file.path.stat().st_size,
        width=size[0] if size else None,
        height=size[1] if size else None,
    )


def _renamed(filename: str, convert: ConvertOutput | None) -> str:
    if convert is None:
        return filename
    return str(PurePosixPath(filename).with_suffix(f".{convert.extension}"))
