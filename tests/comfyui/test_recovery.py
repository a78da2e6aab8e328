"""What was answered with 202 ends in a message, whenever the process is killed.

``STATELESS_TEST_KILLS`` and ``STATELESS_TEST_KILL_JOBS`` make it a longer trial, and
``STATELESS_TEST_SEED`` repeats one.
"""

from __future__ import annotations

import os
import random
import re
import time
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from tests.comfyui.graphs import counted, pixels
from tests.comfyui.receiver import SECRET, Message, Receiver, now_and_then, receiving
from tests.comfyui.server import ComfyServer, Install, Reply

KILLS = int(os.environ.get("STATELESS_TEST_KILLS", "5"))
JOBS = int(os.environ.get("STATELESS_TEST_KILL_JOBS", "200"))
SEED = int(os.environ.get("STATELESS_TEST_SEED", random.randrange(10**6)))

CLIENTS = 8
LONG_S = 15.0
MAX_ATTEMPTS = 2


def environment(receiver: Receiver) -> dict[str, str]:
    return {
        "WEBHOOK_SECRET": SECRET,
        "HTTP_TRUSTED_ORIGINS": receiver.origin,
        "MAX_ATTEMPTS": str(MAX_ATTEMPTS),
        "PROMPT_WEBHOOK_RETRIES": "9",
        "RESULT_TTL_S": "0",
    }


@dataclass
class Trial:
    """Jobs that are sent while the server is killed again and again.

    Attributes:
        unsent: The numbers of the jobs that nobody has accepted yet.
        accepted: The numbers of those that were answered with 202, by their ids.
        unsure: The same of those whose answer did not come; they are sent again, as others.
    """

    server: ComfyServer
    receiver: Receiver
    runs: Path
    unsent: list[int] = field(default_factory=lambda: list(range(JOBS)))
    accepted: dict[str, int] = field(default_factory=dict)
    unsure: dict[str, int] = field(default_factory=dict)

    def send(self, number: int) -> None:
        job_id = f"job {number}/{uuid.uuid4().hex[:6]}"
        try:
            reply = self._post(job_id, number)
        except OSError:
            self.unsure[job_id] = number
            self.unsent.append(number)
            return
        assert reply.status == 202, reply.body
        self.accepted[job_id] = number

    def take(self, count: int) -> list[int]:
        taken, self.unsent = self.unsent[:count], self.unsent[count:]
        return taken

    def _post(self, job_id: str, number: int) -> Reply:
        body: dict[str, Any] = {
            "prompt": counted(self.runs, job_id, number, seconds_of(number)),
            "id": job_id,
            "webhook_v2": f"{self.receiver.origin}/hook",
        }
        if is_uploaded(number):
            body["http_upload"] = {"url_prefix": f"{self.receiver.origin}/{number}"}
        return self.server.post("/api/stateless/prompt", body)

    def missing(self) -> set[str]:
        return set(self.accepted) - {message.id for message in self.receiver.messages}

    def __str__(self) -> str:
        failed = sum(m.body["type"] == "prompt.failed" for m in self.receiver.messages)
        again = sum(count > 1 for count in self.counts().values())
        return (
            f"{len(self.unsure)} answers lost, {again} jobs run again, {failed} given up, "
            f"{len(self.receiver.messages)} messages"
        )

    def counts(self) -> Counter[str]:
        return Counter(self.runs.read_text().splitlines() if self.runs.exists() else ())


def seconds_of(number: int) -> float:
    """How long a job runs; the first is under way when the process is killed."""
    return LONG_S if number == 0 else 0.02 if number % 5 else 0.15


def is_uploaded(number: int) -> bool:
    return number % 4 == 0


def until_none(find: object, within_s: float) -> None:
    """Wait until what ``find`` gives is empty."""
    assert callable(find)
    deadline = time.monotonic() + within_s
    while left := find():
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def test_every_accepted_job_ends_in_a_message_whenever_the_process_is_killed(
    install: Install, tmp_path: Path
) -> None:
    print(f"STATELESS_TEST_SEED={SEED}")  # noqa: T201  pytest shows it with a failure
    chance = random.Random(SEED)
    with receiving(now_and_then(SEED, 0.05)) as receiver:
        server = ComfyServer(install, tmp_path / "comfyui", environment(receiver))
        trial = Trial(server, receiver, tmp_path / "runs")
        with server, ThreadPoolExecutor(CLIENTS) as pool:
            # ComfyUI makes that folder when its classes are asked for their inputs.
            before = lying(server) | {"input/3d"}
            server.wait_until_ready()
            list(pool.map(trial.send, trial.take(1)))
            until_none(lambda: not trial.counts(), 20)
            for _ in range(KILLS):
                server.wait_until_ready()
                sending = [pool.submit(trial.send, n) for n in trial.take(JOBS // KILLS)]
                time.sleep(chance.uniform(0.0, 0.8))
                server.stop()
                for sent in sending:
                    sent.result()
                if chance.random() < 0.3:
                    server.launch()
                    time.sleep(chance.uniform(2.0, 5.0))
                    server.stop()
                server.start()
            server.wait_until_ready()
            while trial.unsent:
                list(pool.map(trial.send, trial.take(JOBS)))
            until_none(trial.missing, 60 + JOBS / 5)
            print(trial)  # noqa: T201  as above
            require_all_ended_well(trial)
            until_none(lambda: lying(server) - before, 10)


def require_all_ended_well(trial: Trial) -> None:
    assert len(trial.accepted) == JOBS
    receiver, known = trial.receiver, {**trial.accepted, **trial.unsure}
    assert receiver.forged == []
    ids: dict[str, set[str]] = {}
    for message in receiver.messages:
        ids.setdefault(message.id, set()).add(message.message_id)
        require_own_outcome(receiver, message, known[message.id])
    assert [job_id for job_id, found in ids.items() if len(found) != 1] == []
    assert max(trial.counts().values()) <= MAX_ATTEMPTS
    assert set(trial.counts()) <= set(known)


def require_own_outcome(receiver: Receiver, message: Message, number: int) -> None:
    body = message.body
    if body["type"] == "prompt.failed":
        assert (body["code"], body["details"]["attempts"]) == ("crashed", MAX_ATTEMPTS)
        return
    assert body["type"] == "prompt.complete"
    (image,) = body["images"]
    if is_uploaded(number):
        assert image.startswith(f"{receiver.origin}/{number}/")
        content = receiver.uploads[unquote(image.removeprefix(receiver.origin))]
    else:
        content = Reply(200, {}, b'{"images": ["%b"]}' % image.encode()).images[0]
    assert pixels(content)[0, 0].tolist() == [number >> 16, number >> 8 & 255, number & 255]


def lying(server: ComfyServer) -> set[str]:
    """Return what lies in ComfyUI's folders, and what the journal keeps in files."""
    folders = server.files()
    found = {f"{kind}/{name}" for kind in ("input", "output", "temp") for name in folders[kind]}
    files = server.base / "state" / "files"
    return found | {str(path) for path in files.rglob("*") if path.is_file()}


def test_a_message_whose_receiver_is_down_is_sent_by_the_next_process(
    install: Install, tmp_path: Path
) -> None:
    with (
        receiving() as receiver,
        ComfyServer(install, tmp_path / "comfyui", environment(receiver)) as server,
    ):
        server.wait_until_ready()
        receiver.stop()
        hook, graph = f"{receiver.origin}/hook", counted(tmp_path / "runs", "one")
        assert server.prompt(graph, id="one", webhook_v2=hook).status == 202
        until_none(lambda: "tried again in" not in server.log, 20)
        (message_id,) = set(re.findall(r"Webhook (msg_\S+) to", server.log))
        server.stop()
        server.launch()
        receiver.start()
        message = receiver.wait_for("one", 60)
        assert message.message_id == message_id
        assert message.body["type"] == "prompt.complete"
        assert (tmp_path / "runs").read_text() == "one\n"
        server.stop()
