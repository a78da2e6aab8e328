"""Jobs of every kind, sent by many clients for as long as a fault lasts."""

from __future__ import annotations

import base64
import hashlib
import io
import random
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from tests.chaos.arena import Arena
from tests.comfyui.graphs import Graph, node, pixels
from tests.comfyui.server import Reply
from tests.comfyui.test_fetching import loading, reading, weights

CLIENTS = 6
MODELS = 4
MODEL_BYTES = 600_000

MADE, FETCHED, READ = "made", "fetched", "read"
SYNC, HOOK, UPLOADED, SYNC_UPLOADED = "sync", "hook", "uploaded", "sync uploaded"

KINDS = (
    (MADE, SYNC), (MADE, HOOK), (MADE, UPLOADED), (MADE, SYNC_UPLOADED),
    (FETCHED, SYNC), (FETCHED, HOOK), (FETCHED, UPLOADED), (READ, SYNC), (READ, HOOK),
)  # fmt: skip


def picture(number: int) -> npt.NDArray[np.uint8]:
    """Return the pixels of a job: what is fetched is noise of its own."""
    return np.random.default_rng(number).integers(0, 256, (32, 32, 3), np.uint8)


def png(number: int) -> bytes:
    """Return that picture as a file."""
    buffer = io.BytesIO()
    Image.fromarray(picture(number)).save(buffer, "PNG")
    return buffer.getvalue()


def colour(number: int) -> list[int]:
    """Return the colour of a picture that is made."""
    return [number >> 16, number >> 8 & 255, number & 255]


@dataclass
class Sent:
    """A job, and what was answered to it: None where the connection broke."""

    number: int
    kind: str
    way: str
    id: str
    reply: Reply | None = None

    def is_own(self, content: bytes) -> bool:
        """Say whether a picture is this job's."""
        found = pixels(content)
        if self.kind == FETCHED:
            return bool(np.array_equal(found, picture(self.number)))
        return found.shape == (8, 8, 3) and bool((found == colour(self.number)).all())


def _path(job: Sent) -> str:
    return f"/{job.id.partition('/')[2]}.png"


@dataclass
class Traffic:
    """What clients send, and what they hear.

    Attributes:
        kinds: Of jobs, with the ways in which they are answered.
        faults: Gives how the next picture that is fetched is served badly.
        digests: Of the models, by their numbers.
    """

    arena: Arena
    kinds: tuple[tuple[str, str], ...] = KINDS
    faults: Callable[[], dict[str, Any]] = dict
    sent: list[Sent] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._chance = random.Random(self.arena.seed)
        self._next = 0
        self._lock = threading.Lock()
        # Few secrets: each is looked for in all that is there.
        new = self.arena.vault.new
        self._token = new("credentials of a request")
        self._query = new("signed query of a model")
        self._hook = f"/hook?token={new('allowed: address of a webhook')}"
        self._models = [self._model(n) for n in range(MODELS)]

    @contextmanager
    def flowing(self, clients: int = CLIENTS) -> Iterator[None]:
        """Have clients send one job after the other for the block; wait for all answers."""
        stop = threading.Event()
        threads = [threading.Thread(target=self._client, args=(stop,)) for _ in range(clients)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    def send(self, kind: str, way: str) -> Sent:
        """Send a job."""
        with self._lock:
            self._next += 1
            number = self._next
        job = Sent(number, kind, way, f"{kind} {way} {number}/{uuid.uuid4().hex[:8]}")
        self.sent.append(job)
        try:
            job.reply = self.arena.server.post("/api/stateless/prompt", self._body(job), 60)
        except (OSError, ValueError):
            job.reply = None  # the process is down, or died under it
        return job

    def place(self, job: Sent) -> str:
        """Return what the URLs of a job's outputs begin with."""
        return f"{self.arena.uploads_net.origin}/{job.number}/"

    def uploaded(self, url: str) -> bytes | None:
        """Return what was uploaded to a URL."""
        return self.arena.receiver.uploaded(url)

    @property
    def accepted(self) -> list[Sent]:
        return [job for job in self.sent if job.reply is not None and job.reply.status == 202]

    def _client(self, stop: threading.Event) -> None:
        while not stop.is_set():
            job = self.send(*self._chance.choice(self.kinds))
            stop.wait(0.2 if job.reply is None else 0.01)

    def _body(self, job: Sent) -> dict[str, Any]:
        arena = self.arena
        body: dict[str, Any] = {"prompt": self._graph(job), "id": job.id}
        if job.kind == FETCHED:
            self._serve_picture(job)
            auth = {"type": "bearer", "token": self._token}
            body["credentials"] = [{"url_pattern": f"{arena.files_net.origin}/**", "auth": auth}]
        if job.way in (HOOK, UPLOADED):
            body["webhook_v2"] = f"{arena.hooks_net.origin}{self._hook}"
        if job.way in (UPLOADED, SYNC_UPLOADED):
            body |= self._target(job)
        return body

    def _target(self, job: Sent) -> dict[str, Any]:
        """Return the field of a request that says where its outputs go."""
        where = {"url_prefix": self.place(job).rstrip("/"), "async": job.way == UPLOADED}
        return {"http_upload": where}

    def _address(self, job: Sent) -> str:
        """Return where a job's picture is fetched from."""
        return f"{self.arena.files_net.origin}{_path(job)}"

    def _graph(self, job: Sent) -> Graph:
        if job.kind == READ:
            return reading(self._models[job.number % MODELS])
        if job.kind == FETCHED:
            return loading(self._address(job))
        wait = 0.3 if job.number % 10 == 0 else 0.01
        return {
            "1": node("EmptyImage", width=8, height=8, batch_size=1, color=job.number),
            "2": node("TestWaits", image=["1", 0], seconds=wait, stubborn=False, nonce=job.id),
            "9": node("SaveImage", images=["2", 0], filename_prefix="made"),
        }

    def _serve_picture(self, job: Sent) -> None:
        """Put a job's picture where it is fetched from."""
        how = {"authorization": f"Bearer {self._token}", **self.faults()}
        self._serve(_path(job), png(job.number), **how)

    def _model(self, number: int) -> str:
        content = weights(number, MODEL_BYTES)
        self.digests.append(hashlib.sha256(content).hexdigest())
        path = f"/model-{number}-{uuid.uuid4().hex[:8]}.safetensors"
        self._serve(path, content)
        return f"{self.arena.files_net.origin}{path}?sig={self._query}"

    def _serve(self, path: str, content: bytes, **how: Any) -> None:
        digest = base64.b64encode(hashlib.sha256(content).digest()).decode()
        headers = {"Repr-Digest": f"sha-256=:{digest}:"}
        self.arena.origin.put(path, content, headers=headers, **how)
