"""What has to hold after every fault: the invariants of the design, asked of all that is there."""

from __future__ import annotations

import hashlib
import json
import time
from base64 import b64decode
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.chaos.arena import RESULT_BYTES, Arena
from tests.chaos.disks import BALLAST
from tests.chaos.traffic import READ, SYNC_UPLOADED, UPLOADED, Sent, Traffic

SETTLE_S = 150.0
"""Long enough for a message's third retry."""

READY_S = 1.0
ENDED = {"succeeded", "failed", "interrupted"}
UI_ROUTES = ("/", "/queue", "/history", "/system_stats", "/object_info/SaveImage", "/prompt")
SIDE_ENDINGS = (".meta", ".lock", ".part")
MADE_BY_COMFYUI = {"input/3d"}
NEVER_LOGGED = ("never retrieved", "was never awaited", "Unclosed ", "ResourceWarning")


class Checker:
    """Knows how an arena was when it was idle, and what may be different after a fault."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._before = self._lying()
        self._log_began = len(arena.server.log)

    def require(self, traffic: Traffic, errors: set[str], *, hit_uploads: bool = False) -> None:
        """Check all invariants, once the fault is over.

        Args:
            errors: The codes that jobs may have failed with.
            hit_uploads: Whether what was uploaded may have been changed on its way.
        """
        self._arena.up()
        self.nothing_is_lost(traffic)
        self.nothing_is_mixed(traffic, hit_uploads=hit_uploads)
        self.only_these_errors(traffic, errors)
        self.nothing_is_left()
        self.files_are_whole()
        self.no_secret_is_told(traffic)
        self.comfyui_is_itself()

    def nothing_is_lost(self, traffic: Traffic) -> None:
        """Every job that was accepted ends in a message, or can be asked for."""
        waiting = {job.id for job in traffic.accepted}

        def lost() -> set[str]:
            waiting.difference_update(self._told())
            waiting.difference_update([id_ for id_ in waiting if self._state(id_) in ENDED])
            return waiting

        until_none(lost, SETTLE_S)

    def nothing_is_mixed(self, traffic: Traffic, *, hit_uploads: bool = False) -> None:
        """Whatever was given out is what its job made."""
        jobs = {job.id: job for job in traffic.sent}
        for job in traffic.sent:
            if job.reply is not None and job.reply.status == 200:
                self._is_own(traffic, job, job.reply.json, hit_uploads=hit_uploads)
        for message in list(self._arena.receiver.messages):
            if message.id in jobs and message.body["type"] == "prompt.complete":
                self._is_own(traffic, jobs[message.id], message.body, hit_uploads=hit_uploads)
        ids: dict[str, set[str]] = {}
        for message in list(self._arena.receiver.messages):
            ids.setdefault(message.id, set()).add(message.message_id)
        assert [job_id for job_id, found in ids.items() if len(found) > 1] == []

    def only_these_errors(self, traffic: Traffic, errors: set[str]) -> None:
        """What failed has failed for a reason that the fault can have, in our one shape."""
        found: dict[str, Any] = {}
        for job in traffic.sent:
            if job.reply is not None and job.reply.status not in (200, 202):
                said = job.reply.json
                assert set(said) <= {"error", "code", "location", "details"}, said
                found[said["code"]] = (job.id, said)
        mine = {job.id for job in traffic.sent}
        for message in list(self._arena.receiver.messages):
            if message.id in mine and message.body["type"] == "prompt.failed":
                found[message.body["code"]] = (message.id, message.body["error"])
        unexpected = {code: said for code, said in found.items() if code not in errors}
        assert not unexpected, unexpected

    def nothing_is_left(self) -> None:
        """ComfyUI's folders hold what they held, the state's what its bounds allow."""
        until_none(lambda: self._lying() - self._before, 30)
        until_none(lambda: {} if self._state_bytes() <= 2 * RESULT_BYTES else {"bytes"}, 60)
        cache = self._arena.folder("cache").resolve()
        for link in self._arena.folder("models").rglob("*"):
            assert link.is_dir() or (link.is_symlink() and link.resolve().parent == cache), link

    def files_are_whole(self) -> None:
        """What has its final name is what an origin serves; what has not can be gone on with."""
        known = {hashlib.sha256(f.content).hexdigest() for f in self._arena.origin.files.values()}
        for path in self._arena.folder("cache").iterdir():
            if path.is_file() and path.suffix not in SIDE_ENDINGS and path.name != BALLAST:
                assert hashlib.sha256(path.read_bytes()).hexdigest() in known, path
        until_none(self._useless_parts, 30)

    def no_secret_is_told(self, traffic: Traffic) -> None:
        """What clients have put in is nowhere else."""
        arena, vault = self._arena, self._arena.vault
        replies = [job.reply.body for job in traffic.sent if job.reply is not None]
        messages = [json.dumps(message.body).encode() for message in arena.receiver.messages]
        assert vault.found_in(b"\n".join([*replies, *messages])) <= {
            "allowed: address of a webhook"
        }
        assert vault.found_in(self._log.encode()) == set()
        for name in ("input", "output", "temp", "cache", "user"):
            for path in filter(Path.is_file, arena.folder(name).rglob("*")):
                assert vault.found_in(path.read_bytes() + str(path).encode()) == set(), path
        for path in filter(Path.is_file, arena.folder("state").rglob("*")):
            assert all(what.startswith("allowed") for what in vault.found_in(path.read_bytes()))

    def comfyui_is_itself(self) -> None:
        """The probes are quick, ComfyUI's own routes answer, and its log has no loose ends."""
        server = self._arena.server
        until_none(lambda: [] if self._ready_s() < READY_S else ["/ready is slow"], 20)
        for path in UI_ROUTES:
            assert server.get(path).status == 200, path
        made = server.plain({"1": {"class_type": "TestSays", "inputs": {"text": "alive"}}})
        assert made["status"]["status_str"] == "success"
        assert [words for words in NEVER_LOGGED if words in self._log] == []

    @property
    def _log(self) -> str:
        return self._arena.server.log[self._log_began :]

    def _is_own(
        self, traffic: Traffic, job: Sent, said: dict[str, Any], *, hit_uploads: bool
    ) -> None:
        if job.kind == READ:
            text = said["texts"][0]["text"]
            assert text == traffic.digests[job.number % len(traffic.digests)], job.id
            return
        (image,) = said["images"]
        if job.way not in (UPLOADED, SYNC_UPLOADED):
            assert job.is_own(b64decode(image)), job.id
            return
        content = traffic.uploaded(image)
        assert image.startswith(traffic.place(job)), (job.id, image)
        assert hit_uploads or (content is not None and job.is_own(content)), job.id

    def _told(self) -> set[str]:
        return {message.id for message in list(self._arena.receiver.messages)}

    def _state(self, job_id: str) -> str | None:
        reply = self._arena.server.get(f"/api/stateless/prompt/{quote(job_id, safe='')}")
        return str(reply.json.get("state")) if reply.status in (200, 410) else None

    def _lying(self) -> set[str]:
        files = self._arena.server.files()
        names = {f"{kind}/{name}" for kind in ("input", "output", "temp") for name in files[kind]}
        return {name for name in names - MADE_BY_COMFYUI if not name.endswith(BALLAST)}

    def _state_bytes(self) -> int:
        state = self._arena.folder("state")
        return sum(path.stat().st_size for path in state.rglob("*") if path.is_file())

    def _useless_parts(self) -> list[str]:
        names = {path.name for path in self._arena.folder("cache").iterdir()}
        parts = {n for n in names if n.endswith(".part") and not n.endswith(".state.part")}
        return [n for n in parts if n.removesuffix(".part") + ".state.part" not in names]

    def _ready_s(self) -> float:
        began = time.monotonic()
        assert self._arena.server.get("/api/stateless/ready").status == 200
        return time.monotonic() - began


def no_process_is_left(base: Path) -> None:
    """No process knows of a folder any more."""
    until_none(lambda: processes_of(base), 15)


def processes_of(base: Path) -> list[str]:
    """Return the command lines of processes with a folder in their environment."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if str(base).encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
    return [line for line in found if line]  # a zombie has none


def until_none(find: Callable[[], Any], within_s: float) -> None:
    """Wait until what ``find`` gives is empty."""
    deadline = time.monotonic() + within_s
    while left := find():
        assert time.monotonic() < deadline, left
        time.sleep(0.1)
