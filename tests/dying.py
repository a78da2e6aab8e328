"""A server that can be killed: the whole API on a scripted engine, run as a program.

It says where it listens on its first line. What a graph does stands in its first node: ``hold`` runs
for ever, ``kill`` ends the process; anything else gives an image. Every run that begins is a line of
the file ``ran``.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from aiohttp import web

from tests.accepting import loading_engine, soon
from tests.fakes import Play
from tests.wiring import app_for, background_for, services_for


class Acts:
    """Does what the graph says."""

    def __init__(self, folder: Path) -> None:
        self._ran = folder / "ran"

    async def __call__(self, play: Play) -> None:
        with self._ran.open("a") as file:
            file.write(f"{play.prompt.id}\n")
        act = play.prompt.graph["1"]["inputs"].get("act")
        if act == "hold":
            await asyncio.Event().wait()
        if act == "kill":
            await asyncio.sleep(0.05)
            os.kill(os.getpid(), signal.SIGKILL)
        await asyncio.sleep(0.002)
        play.image()


async def main(folder: Path) -> None:
    engine = loading_engine(Acts(folder))
    services = services_for(engine, folder, prompt_webhook_retries=100)
    background = background_for(services, sleep=soon)
    await background.open()
    runner = web.AppRunner(app_for(services, background), access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    sys.stdout.write(f"http://127.0.0.1:{runner.addresses[0][1]}\n")
    sys.stdout.flush()
    await background.resume()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
