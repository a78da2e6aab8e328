"""The launcher is killed under load, with all that it started; the next one goes on."""

from __future__ import annotations

import random
import threading
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.checker import no_process_is_left, until_none
from tests.chaos.traffic import colour
from tests.comfyui.graphs import counted, pixels
from tests.comfyui.receiver import SECRET, Receiver, receiving
from tests.comfyui.server import Install, Reply
from tests.comfyui.test_launcher import START_S, LaunchedComfyUI

KILLS = 2
CLIENTS = 4


@dataclass
class Senders:
    """Clients that send accepted jobs until they are stopped.

    Attributes:
        accepted: The numbers of the jobs that were answered with 202, by their ids.
        sent: Those of all.
    """

    launched: LaunchedComfyUI
    receiver: Receiver
    runs: Path
    accepted: dict[str, int] = field(default_factory=dict)
    sent: dict[str, int] = field(default_factory=dict)
    refused: list[Reply] = field(default_factory=list)

    @contextmanager
    def sending(self) -> Iterator[None]:
        stop = threading.Event()
        threads = [
            threading.Thread(target=self._send, args=(n, stop)) for n in range(1, CLIENTS + 1)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            stop.set()
            for thread in threads:
                thread.join()

    def _send(self, client: int, stop: threading.Event) -> None:
        number = client * 10_000 + len(self.sent)
        while not stop.wait(0.02):
            number += 1
            job_id = f"job {number}"
            self.sent[job_id] = number
            graph = counted(self.runs, job_id, number, 0.02)
            try:
                hook = f"{self.receiver.origin}/hook"
                reply = self.launched.prompt(graph, id=job_id, webhook_v2=hook)
            except OSError:
                stop.wait(0.2)
                continue
            if reply.status == 202:
                self.accepted[job_id] = number
            else:
                self.refused.append(reply)

    def missing(self) -> set[str]:
        return set(self.accepted) - {message.id for message in list(self.receiver.messages)}


def test_the_launcher_is_killed_again_and_again(
    install: Install, tmp_path: Path, chance: random.Random
) -> None:
    with receiving() as receiver:
        launched = LaunchedComfyUI(
            install, tmp_path, HTTP_TRUSTED_ORIGINS=receiver.origin, WEBHOOK_SECRET=SECRET
        )
        senders = Senders(launched, receiver, tmp_path / "runs")
        for _ in range(KILLS):
            with launched:
                launched.until_ready(START_S)
                with senders.sending():
                    time.sleep(chance.uniform(1.0, 2.0))
                    launched.process.kill()
        with launched:
            launched.until_ready(START_S)
            until_none(senders.missing, 60)
            require_own_outcomes(senders)
        no_process_is_left(tmp_path)
    folders = [tmp_path / "base" / kind for kind in ("input", "output", "temp")]
    assert [path for folder in folders for path in folder.rglob("*") if path.is_file()] == []


def require_own_outcomes(senders: Senders) -> None:
    assert len(senders.accepted) > 10
    assert {reply.status for reply in senders.refused} <= {502, 503}
    assert {frozenset(reply.json) - {"location"} for reply in senders.refused} <= {
        frozenset({"error", "code", "details"})
    }
    assert senders.receiver.forged == []
    for message in senders.receiver.messages:
        if message.body["type"] == "prompt.complete":
            (image,) = message.body["images"]
            found = pixels(b64decode(image))
            assert (found == colour(senders.sent[message.id])).all(), message.id
        else:
            assert message.body["code"] == "crashed"
