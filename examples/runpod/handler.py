#!/usr/bin/env python3
"""A worker for a queue of RunPod's serverless: it starts the launcher, and hands each job to it.

The job's input is the body of `POST /prompt`; what the job gives back is the answer's JSON. Needs
`pip install runpod`. docs/runpod.md says how an image is made of it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, Request, build_opener

LAUNCHER = ("comfyui-stateless", "--host", "127.0.0.1")
POLL_S = 0.2

# The launcher is on this machine, wherever a proxy of the environment leads.
_open = build_opener(ProxyHandler({})).open


def address() -> str:
    """Return where the launcher answers."""
    return f"http://127.0.0.1:{os.environ.get('PORT') or 3000}"


def handle(job: Mapping[str, Any]) -> dict[str, Any]:
    """Run a job; return the answer, or what RunPod takes for a failure."""
    body = {"id": job["id"], **job["input"]}
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    if keys := os.environ.get("API_KEYS"):
        headers["X-API-Key"] = keys.split(",")[0].strip()
    request = Request(f"{address()}/prompt", json.dumps(body).encode(), headers)
    try:
        with _open(request) as response:
            answer: dict[str, Any] = json.load(response)
            return answer
    except HTTPError as error:
        with error:
            return {"error": error.read().decode(errors="replace")}


def wait_until_healthy(launcher: subprocess.Popen[bytes]) -> None:
    """Wait for models and the warm-up; end with the launcher where that ends first."""
    while not is_healthy():
        if launcher.poll() is not None:
            sys.exit(launcher.returncode or 1)
        time.sleep(POLL_S)


def is_healthy() -> bool:
    """Say whether prompts would be taken."""
    try:
        with _open(f"{address()}/health") as response:
            return int(response.status) == HTTPStatus.OK
    except (HTTPError, URLError, OSError):
        return False


def end_with(launcher: subprocess.Popen[bytes]) -> None:
    """End this worker when the launcher ends, so that RunPod replaces it."""
    os._exit(launcher.wait() or 1)


def main() -> None:
    """Start the launcher, and take jobs once it is warm."""
    import runpod

    launcher = subprocess.Popen(LAUNCHER)
    wait_until_healthy(launcher)
    threading.Thread(target=end_with, args=(launcher,), daemon=True).start()
    try:
        runpod.serverless.start({"handler": handle})
    finally:
        launcher.terminate()


if __name__ == "__main__":
    main()
