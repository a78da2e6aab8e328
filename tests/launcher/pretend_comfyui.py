"""A program that stands in for ComfyUI with the extension: quick to start, and badly behaved.

The variable PRETEND holds a JSON object: ``die`` (exit code at the start), ``forks`` (a process in
its group), ``strays`` (one in a session of its own), ``deaf`` (SIGTERM is ignored), ``silent``
(listens nowhere), ``bytes`` (of output in one line at the start), ``lines`` (of output), ``orphans``
(short-lived processes whose parent is gone). The file ``state`` in its ``folder`` is the
state that the probe tells, ``ready`` where there is none; ``full`` is one that is ready, with a
queue at its limit, ``foreign`` is another program, and ``login`` one that wants a login. Its processes are in the file ``pids``.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from aiohttp import web

ASKED: dict[str, Any] = json.loads(os.environ["PRETEND"])
FOLDER = Path(ASKED["folder"])


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def sleeper(**options: Any) -> int:
    program = [sys.executable, "-c", "import time; time.sleep(600)"]
    return subprocess.Popen(program, **options).pid


def started() -> dict[str, Any]:
    """Do what is asked for at the start; return what is told of this process."""
    say("pretending")
    for key in sorted(ASKED):
        sys.stderr.write(f"WARNING: asked for {key}\n")
    if "bytes" in ASKED:
        say("x" * ASKED["bytes"])
    sys.stdout.writelines(f"{number:0100}\n" for number in range(ASKED.get("lines", 0)))
    for _ in range(ASKED.get("orphans", 0)):
        subprocess.run(["sh", "-c", "sleep 0.01 &"], check=True)
    if "die" in ASKED:
        sys.exit(ASKED["die"])
    pids = [os.getpid()]
    if ASKED.get("forks"):
        pids.append(sleeper())
    if ASKED.get("strays"):
        pids.append(sleeper(start_new_session=True))
    with (FOLDER / "pids").open("a") as file:
        file.writelines(f"{pid}\n" for pid in pids)
    return {"pids": pids, "argv": sys.argv[1:], "environment": dict(os.environ)}


def state() -> str:
    file = FOLDER / "state"
    return file.read_text() if file.exists() else "ready"


async def ready(request: web.Request) -> web.Response:
    now = state()
    body = {"version": "0", "status": now}
    if now != "ready":
        body["reason"] = f"It is {now}."
    if now == "login":
        raise web.HTTPUnauthorized
    told = {"foreign": {}, "full": {"Stateless-State": "ready"}}
    headers = told.get(now, {"Stateless-State": now})
    return web.json_response(body, status=200 if now == "ready" else 503, headers=headers)


async def prompt(request: web.Request) -> web.Response:
    (FOLDER / "running").touch()
    while "held" in request.query and not (FOLDER / "released").exists():  # noqa: ASYNC110
        await asyncio.sleep(0.01)  # the test is another process
    return web.json_response({"id": "done"})


async def serve(told: dict[str, Any]) -> None:
    async def models(request: web.Request) -> web.Response:
        return web.json_response(told)

    app = web.Application()
    app.router.add_get("/api/stateless/ready", ready)
    app.router.add_get("/api/stateless/models", models)
    app.router.add_post("/api/stateless/prompt", prompt)
    runner = web.AppRunner(app, shutdown_timeout=30)
    await runner.setup()
    ending = asyncio.Event()
    for number in () if ASKED.get("deaf") else (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ending.set)
    port = int(os.environ["COMFYUI_PORT_HOST"])
    await web.TCPSite(runner, os.environ["DIRECT_ADDRESS"], port, reuse_address=True).start()
    await ending.wait()
    say("draining")
    await runner.cleanup()


def main() -> None:
    told = started()
    if ASKED.get("deaf"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    if ASKED.get("silent"):
        time.sleep(600)
    asyncio.run(serve(told))


if __name__ == "__main__":
    main()
