"""A process that accepts and finishes jobs until it is killed, and says what it was promised."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from comfyui_stateless.journal import DueMessage, NewJob
from comfyui_stateless.journal.journal import Journal, Limits

LARGE = b"0123456789" * 5000


def say(what: str, run_id: str) -> None:
    """Print a line in one write, so that it is there whole or not at all."""
    sys.stdout.write(f"{what} {run_id}\n")
    sys.stdout.flush()


async def life(journal: Journal, run_id: str) -> None:
    """Accept a job, and finish it unless its number says otherwise."""
    body = LARGE + run_id.encode()
    await journal.accept(NewJob(run_id, run_id, body, files={"shared": LARGE}))
    say("accepted", run_id)
    await journal.begin_attempt(run_id)
    if not run_id.endswith("3"):
        message = DueMessage(f"msg_{run_id}", "https://receiver.example", body)
        await journal.finish(run_id, {"run": run_id}, [message], {"output": iter([body])})
        say("finished", run_id)
    if run_id.endswith("7"):
        await journal.delivered(f"msg_{run_id}")
        say("delivered", run_id)


async def main(folder: Path, name: str) -> None:
    journal = await Journal.open(folder, Limits(result_ttl_s=1e9))
    number = 0
    while True:
        await asyncio.gather(*(life(journal, f"{name}-{number + n}") for n in range(10)))
        number += 10


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
