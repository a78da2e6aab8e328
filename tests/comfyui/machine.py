"""What clients do to a real server, in any order, with a model of what has to come of it.

Every job makes a picture of a color of its own, so that a result that is another's shows.
"""

from __future__ import annotations

import base64
import http.client
import itertools
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.cache.origin import Origin
from tests.comfyui.colors import color_of, frames_of, painted, rounded, slow
from tests.comfyui.graphs import failing
from tests.comfyui.receiver import Receiver
from tests.comfyui.server import ComfyServer, Reply
from tests.metrics.scraping import TEXT, read

P = "/api/stateless"
RANKS = {"preparing": 0, "queued": 1, "running": 2, "delivering": 3}
ENDS = ("succeeded", "failed", "interrupted")
OUTCOMES = (*ENDS, "timeout")
SLOW_S = 0.3
SAID = {"succeeded": "prompt.complete", "failed": "prompt.failed", "interrupted": "prompt.failed"}
ORDER = ("queued", "started", "node", "output", "succeeded")


@dataclass
class World:
    """A server, and what it reaches; its numbers are never used twice.

    Attributes:
        models: What was downloaded, which stays.
    """

    server: ComfyServer
    receiver: Receiver
    origin: Origin
    numbers: Any = field(default_factory=lambda: itertools.count(1))
    models: set[str] = field(default_factory=set)


@dataclass
class Posted:
    """A job: what it has to make, and how far it was when it was last seen."""

    id: str
    color: int
    body: dict[str, Any]
    ends: tuple[str, ...]
    rank: int = -1
    ended: str | None = None

    def see(self, state: str) -> None:
        """Note a state: they only go forward, and the last is one that may be."""
        if self.ended is not None:
            assert state == self.ended, self
        rank = RANKS.get(state, 9)
        assert rank >= self.rank, (self, state)
        self.rank = rank
        if state in ENDS:
            assert state in self.ends, (self, state)
            self.ended = state


class Machine(RuleBasedStateMachine):
    """A client, or many."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self.world, self.server = world, world.server
        self.accepted: list[Posted] = []
        self.synchronous: Counter[str] = Counter()
        self.published: dict[str, int] = {}
        self.repeatable: list[tuple[str, Posted, str]] = []

    @initialize()
    def look(self) -> None:
        self.before = self.server.files()
        self.counted = self._counted()
        self.place = f"w{next(self.world.numbers)}"

    # Jobs whose caller waits

    @rule(kind=st.sampled_from(["plain", "slow", "failing"]), form=st.sampled_from(["json", "png"]))
    def run(self, kind: str, form: str) -> None:
        posted = self._new(kind)
        accept = {"json": "application/json", "png": "image/png"}[form]
        reply = self._post(posted, Accept=accept)
        self._note(posted, reply, form)

    @rule(count=st.integers(2, 5), same_id=st.booleans(), kinds=st.data())
    def run_at_once(self, count: int, same_id: bool, kinds: st.DataObject) -> None:
        choice = st.sampled_from(["plain", "slow", "failing"])
        all_ = [self._new(kinds.draw(choice)) for _ in range(count)]
        for posted in all_ if same_id else ():
            posted.id = posted.body["id"] = all_[0].id
        with ThreadPoolExecutor(count) as pool:
            replies = list(pool.map(self._post, all_))
        for posted, reply in zip(all_, replies, strict=True):
            self._note(posted, reply, "json")

    @rule()
    def run_what_is_wrong(self) -> None:
        posted = self._new("plain")
        posted.body["prompt"]["9"]["inputs"]["images"] = ["1", 7]
        assert self._post(posted).status == 400
        self.synchronous["failed"] += 1

    @rule(seen=st.integers(0, 9))
    def run_with_events(self, seen: int) -> None:
        posted = self._new("plain")
        frames = frames_of(self._post(posted, Accept="text/event-stream"))
        names = [name for _, name, _ in frames]
        assert names == sorted(names, key=ORDER.index), names
        self._require_own(posted, frames[-1][2])
        self.synchronous["succeeded"] += 1
        self._come_back(posted, frames, seen)

    @rule()
    def run_with_a_key(self) -> None:
        posted, key = self._new("plain"), f"key {next(self.world.numbers)}"
        self._note(posted, self._post(posted, Idempotency_Key=key), "json")
        self.repeatable.append((key, posted, "sync"))

    @rule()
    def hang_up(self) -> None:
        posted = self._new("endless")
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=20)
        connection.request("POST", f"{P}/prompt", json.dumps(posted.body))
        self._until(lambda: self._state(posted) in ("queued", "running"), posted)
        connection.close()
        self._until(lambda: self._state(posted) == "interrupted", posted)
        self.synchronous["interrupted"] += 1

    # Jobs that are accepted

    @rule(kind=st.sampled_from(["plain", "slow", "failing"]))
    def accept(self, kind: str) -> None:
        self._accept(self._new(kind))

    @rule()
    def accept_with_a_key(self) -> None:
        posted, key = self._new("plain"), f"key {next(self.world.numbers)}"
        self._accept(posted, Idempotency_Key=key)
        self.repeatable.append((key, posted, "accepted"))

    @precondition(lambda self: self.repeatable)
    @rule(data=st.data(), same=st.booleans())
    def repeat(self, data: st.DataObject, same: bool) -> None:
        key, posted, mode = data.draw(st.sampled_from(self.repeatable))
        if not same:
            other = {**posted.body, "priority": 3}
            headers = {"Idempotency-Key": key}
            assert self.server.request("POST", f"{P}/prompt", other, headers).status == 422
            return
        reply = self._post(posted, Idempotency_Key=key)
        if mode == "accepted":
            assert (reply.status, reply.json["id"]) == (202, posted.id), reply.body
        else:
            self._require_own(posted, reply.json)

    @precondition(lambda self: self.accepted)
    @rule(data=st.data())
    def poll(self, data: st.DataObject) -> None:
        posted = data.draw(st.sampled_from(self.accepted))
        said = self._said(posted)
        posted.see(said["state"])
        if posted.ended == "succeeded" and "images" in said:
            self._require_own(posted, said)

    @precondition(lambda self: self.accepted)
    @rule(data=st.data(), seen=st.integers(0, 9))
    def follow(self, data: st.DataObject, seen: int) -> None:
        posted = data.draw(st.sampled_from(self.accepted))
        path = f"{P}/prompt/{quote(posted.id, safe='')}/events"
        frames = frames_of(self.server.request("GET", path, None, {}))
        if frames[-1][1] == "succeeded":
            self._require_own(posted, frames[-1][2])
        self._come_back(posted, frames, seen)

    @precondition(lambda self: self.accepted)
    @rule(data=st.data(), by_run=st.booleans())
    def interrupt(self, data: st.DataObject, by_run: bool) -> None:
        posted = data.draw(st.sampled_from(self.accepted))
        if by_run:
            run = next(job["run"] for job in self._jobs() if job["id"] == posted.id)
            reply = self.server.request("POST", f"{P}/jobs/{run}/interrupt", None, {})
        else:
            reply = self.server.post(f"{P}/interrupt", {"id": posted.id})
        stopped = reply.status == 200
        assert reply.json == {"id": posted.id, "interrupted": "success" if stopped else "failed"}
        if stopped:
            assert posted.ended is None, posted
            posted.ends = (*posted.ends, "interrupted")
        else:
            assert self._state(posted) in ENDS
            posted.see(self._state(posted))

    @rule()
    def interrupt_nothing(self) -> None:
        reply = self.server.post(f"{P}/interrupt", {"id": f"nobody {next(self.world.numbers)}"})
        assert reply.status == 404

    # What makes no job

    @rule(kind=st.sampled_from(["plain", "wrong"]))
    def validate(self, kind: str) -> None:
        posted = self._new("plain")
        if kind == "wrong":
            posted.body["prompt"]["9"]["inputs"]["images"] = ["1", 7]
        reply = self.server.post(f"{P}/validate", posted.body)
        assert reply.status == 200, reply.body
        assert reply.json["valid"] == (kind == "plain")
        assert self.server.get(f"{P}/prompt/{quote(posted.id, safe='')}").status == 404

    @rule(number=st.integers(0, 2))
    def download(self, number: int) -> None:
        name = f"model-{number}.safetensors"
        url = self.world.origin.put(f"/machine/{name}", b"\0" * (1000 + number))
        body = {"url": url, "model_type": "loras", "filename": name, "wait": True}
        reply = self.server.post(f"{P}/download", body)
        assert (reply.status, reply.json["size"]) == (200, 1000 + number), reply.body
        self.world.models.add(f"loras/{name}")
        assert name in self.server.get(f"{P}/models").json["loras"]

    @rule(name=st.sampled_from("ab"))
    def publish(self, name: str) -> None:
        posted = self._new("plain")
        graph = {**posted.body["prompt"]}
        inputs = {"color": {"node": 1, "input": "color"}}
        body = {"graph": graph, "inputs": inputs}
        reply = self.server.request("PUT", f"{P}/workflow/{self.place}{name}", body, {})
        assert reply.status == (200 if name in self.published else 201), reply.body
        self.published[name] = posted.color

    @rule(name=st.sampled_from("ab"), own=st.booleans())
    def call(self, name: str, own: bool) -> None:
        posted = self._new("plain")
        body = {"id": posted.id, "input": {"color": posted.color} if own else {}}
        reply = self.server.post(f"{P}/workflow/{self.place}{name}", body)
        if name not in self.published:
            assert reply.status == 404
            return
        posted.color = posted.color if own else self.published[name]
        self._note(posted, reply, "json")

    @rule(name=st.sampled_from("ab"))
    def remove(self, name: str) -> None:
        reply = self.server.request("DELETE", f"{P}/workflow/{self.place}{name}", None, {})
        assert reply.status == (200 if name in self.published else 404), reply.body
        self.published.pop(name, None)

    @rule(limit=st.integers(1, 500))
    def read(self, limit: int) -> None:
        listed = self.server.get(f"{P}/jobs?limit={limit}").json["jobs"]
        assert len(listed) <= limit
        by_id = {job["id"]: job for job in listed}
        for posted in self.accepted:
            if posted.id in by_id:
                posted.see(by_id[posted.id]["state"])
        status = self.server.get(f"{P}/status").json
        assert 0 <= status["queue"]["running"] <= 1
        paths = {w["path"] for w in self.server.get(f"{P}/workflow").json["workflows"]}
        assert {p for p in paths if p.startswith(self.place)} == {
            f"{self.place}{name}" for name in self.published
        }

    def teardown(self) -> None:
        """See that all has ended as it may, is counted once, and has left nothing."""
        if not hasattr(self, "before"):
            return
        for name in list(self.published):
            self.remove(name)
        for posted in self.accepted:
            self._until(lambda posted=posted: self._state(posted) in ENDS, posted)  # type: ignore[misc]
            posted.see(self._state(posted))
            self._require_told(posted)
        self._until(lambda: self._due() == 0, "messages are due")
        ended = Counter(p.ended for p in self.accepted)
        wanted = {("accepted", o): ended[o] for o in OUTCOMES}
        wanted |= {("synchronous", o): self.synchronous[o] for o in OUTCOMES}
        assert {k: v - self.counted[k] for k, v in self._counted().items()} == wanted
        left = {**self.before, "models": sorted({*self.before["models"], *self.world.models})}
        left["models"] = sorted({*left["models"], *(["loras"] if self.world.models else [])})
        self._until(lambda: self.server.files() == left, (left, self.server.files()))
        assert self.server.get(f"{P}/ready").status == 200

    def _new(self, kind: str) -> Posted:
        number = next(self.world.numbers)
        # Far apart: a color may lose a little on its way through ComfyUI's fractions.
        color = sum(((number >> 6 * place) % 64 * 4) << 8 * place for place in range(3))
        nonce = f"{number} {kind}"
        graph = {
            "plain": lambda: painted(color),
            "slow": lambda: slow(color, SLOW_S, nonce),
            "endless": lambda: slow(color, 20, nonce),
            "failing": lambda: failing("ValueError", nonce),
        }[kind]()
        ends = {"failing": ("failed",), "endless": ("interrupted",)}.get(kind, ("succeeded",))
        caller_id = f"m {number}/é"
        return Posted(caller_id, color, {"prompt": graph, "id": caller_id}, ends)

    def _post(self, posted: Posted, **headers: str) -> Reply:
        return self.server.request("POST", f"{P}/prompt", posted.body, headers, 60)

    def _accept(self, posted: Posted, **headers: str) -> None:
        posted.body["webhook_v2"] = f"{self.world.receiver.origin}/hook"
        reply = self._post(posted, **headers)
        assert (reply.status, reply.json["id"]) == (202, posted.id), reply.body
        self.accepted.append(posted)

    def _note(self, posted: Posted, reply: Reply, form: str) -> None:
        """Take the answer to a synchronous request."""
        if posted.ends == ("failed",):
            assert (reply.status, reply.json["code"]) == (500, "execution_error"), reply.body
        elif form == "png":
            assert color_of(reply.body) == rounded(posted.color)
        else:
            assert reply.status == 200, reply.body
            self._require_own(posted, reply.json)
        self.synchronous[posted.ends[0]] += 1

    def _require_own(self, posted: Posted, said: Mapping[str, Any]) -> None:
        assert said["id"] == posted.id, (posted, said)
        assert [color_of(base64.b64decode(i)) for i in said["images"]] == [rounded(posted.color)]

    def _require_told(self, posted: Posted) -> None:
        """See that the one message came that says how a job ended."""
        self.world.receiver.wait_for(posted.id)
        told = {m.message_id: m.body for m in self.world.receiver.of(posted.id)}
        assert [body["type"] for body in told.values()] == [SAID[posted.ended or ""]], told
        if posted.ended == "succeeded":
            self._require_own(posted, next(iter(told.values())))

    def _come_back(self, posted: Posted, frames: list[tuple[str, str, Any]], seen: int) -> None:
        """Follow a job that has ended again, from one of its events on."""
        seen = min(seen, len(frames) - 1)
        path = f"{P}/prompt/{quote(posted.id, safe='')}/events"
        headers = {"Last-Event-ID": frames[seen][0]}
        reply = self.server.request("GET", path, None, headers)
        if seen == len(frames) - 1:
            assert reply.status == 204, reply.body
            return
        again = [(i, name) for i, name, _ in frames_of(reply)]
        rest = [(i, name) for i, name, _ in frames[seen + 1 :]]
        assert again in (rest, rest[-1:]), (again, rest)  # of what is kept only the end is known

    def _said(self, posted: Posted) -> dict[str, Any]:
        reply = self.server.get(f"{P}/prompt/{quote(posted.id, safe='')}")
        assert reply.status == 200, reply.body
        return dict(reply.json)

    def _state(self, posted: Posted) -> str:
        reply = self.server.get(f"{P}/prompt/{quote(posted.id, safe='')}")
        return str(reply.json["state"]) if reply.status == 200 else ""

    def _jobs(self) -> list[dict[str, Any]]:
        return list(self.server.get(f"{P}/jobs").json["jobs"])

    def _due(self) -> int:
        return int(self.server.get(f"{P}/status").json["webhooks"]["due"])

    def _counted(self) -> dict[tuple[str, str], float]:
        scrape = read(self.server.get(f"{P}/metrics", Accept=TEXT).body.decode(), TEXT)
        return {
            (mode, outcome): scrape.value("jobs_total", mode=mode, outcome=outcome)
            for mode in ("synchronous", "accepted")
            for outcome in OUTCOMES
        }

    @staticmethod
    def _until(is_so: Callable[[], bool], what: object) -> None:
        deadline = time.monotonic() + 30
        while not is_so():
            assert time.monotonic() < deadline, what
            time.sleep(0.01)
