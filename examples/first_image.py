#!/usr/bin/env python3
"""Post a graph to the stateless API and write the images that come back to files.

A small client: `python3 examples/first_image.py http://127.0.0.1:8188 graph.json -o out.png`;
the file is a graph as ComfyUI exports it for its API, or a whole request: {"prompt": graph, …}.
With --start (`make run`) it gets a ComfyUI ready, starts it, and keeps it until Ctrl-C.
Needs nothing but Python.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

EXAMPLES = Path(__file__).resolve().parent
SETUP = EXAMPLES.parent / "docker" / "comfyui.py"
PREFIX = "/api/stateless"
POLL_S = 0.5
REPORT_S = 10.0
STOP_S = 10.0
# The address is one that the user runs or knows: a proxy of the environment is not on the way.
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def main(arguments: Sequence[str]) -> int:
    """Run the command line. Returns the exit status."""
    options = parse(arguments)
    try:
        return start_and_keep(options) if options.start else post_and_write(options)
    except KeyboardInterrupt:
        return 130


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Read the command line; PORT, LISTEN and API_KEYS are what the server's own are."""
    listen = (os.environ.get("LISTEN") or "127.0.0.1").split(",")[0]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address", nargs="?", help="of ComfyUI; default: http://127.0.0.1:PORT")
    parser.add_argument("graph", nargs="?", type=Path, default=EXAMPLES / "first_image.json")
    parser.add_argument("-o", "--output", type=Path, default=Path("first-image.png"))
    parser.add_argument("--start", action="store_true", help="start a ComfyUI, and keep it")
    parser.add_argument("--port", type=int, default=os.environ.get("PORT") or "8188")
    parser.add_argument("--api-key", default=(os.environ.get("API_KEYS") or "").split(",")[0])
    parser.add_argument("--serve-args", default="", help="more arguments for ComfyUI's main.py")
    options = parser.parse_args(arguments)
    options.host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(listen, listen)  # noqa: S104
    host = f"[{options.host}]" if ":" in options.host else options.host
    options.address = (options.address or f"http://{host}:{options.port}").rstrip("/")
    return options


def post_and_write(options: argparse.Namespace) -> int:
    """Post the graph, write its images, say how to do it with curl. Returns the exit status."""
    try:
        body = json.loads(options.graph.read_text(encoding="utf-8"))
        started = time.monotonic()
        answer = post(options, body if "prompt" in body else {"prompt": body})
        took = time.monotonic() - started
        written = write_outputs(answer, options.output)
    except urllib.error.HTTPError as exc:
        return failed(f"the server answered {exc.code}: {exc.read().decode(errors='replace')}")
    except (OSError, ValueError) as exc:
        return failed(f"{options.graph} could not be run at {options.address}: {exc}")
    print(f"\nThe graph's outputs came back after {took:.1f} s:")
    for path, output in written:
        size = f"{output['width']} x {output['height']}, " if "width" in output else ""
        print(f"  {path.resolve()} ({size}{path.stat().st_size:,} bytes)")
    if written and "prompt" in body:
        print_curl(options, written[0][1]["media_type"])
    return 0


def post(options: argparse.Namespace, body: dict[str, Any]) -> dict[str, Any]:
    """Return the answer of `POST /prompt`, decoded. Raises HTTPError, URLError or ValueError."""
    headers = {"Content-Type": "application/json"}
    if options.api_key:
        headers["X-API-Key"] = options.api_key
    url = f"{options.address}{PREFIX}/prompt"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with OPENER.open(request) as response:
        answer: dict[str, Any] = json.load(response)
    return answer


def write_outputs(answer: dict[str, Any], first: Path) -> list[tuple[Path, dict[str, Any]]]:
    """Write each output beside the first one, with its own extension. Returns paths and facts."""
    first.parent.mkdir(parents=True, exist_ok=True)
    written = []
    rows = zip(answer["images"], answer["outputs"], strict=True)
    for number, (image, output) in enumerate(rows, start=1):
        stem = first.stem if number == 1 else f"{first.stem}-{number}"
        path = first.with_name(stem + Path(output["filename"]).suffix)
        path.write_bytes(base64.b64decode(image))
        written.append((path, output))
    return written


def print_curl(options: argparse.Namespace, media_type: str) -> None:
    """Print the same request as commands for a shell."""
    graph = shlex.quote(os.path.relpath(options.graph))
    output = options.output.name
    key = " -H 'X-API-Key: …'" if options.api_key else ""
    curl = f"curl -fsS {options.address}{PREFIX}/prompt -H 'Content-Type: application/json'{key}"
    decode = f'json.load(sys.stdin)["images"][0]); open("{output}", "wb").write(image)'
    print(
        "\nThe same with curl, the file alone:\n"
        f"  {curl} \\\n    -H 'Accept: {media_type}' --data @{graph} -o {shlex.quote(output)}\n"
        "or out of the whole answer, in which it is base64 beside names, sizes and times:\n"
        f"  {curl} --data @{graph} \\\n"
        f"    | python3 -c 'import base64, json, sys; image = base64.b64decode({decode}'",
        flush=True,
    )


def start_and_keep(options: argparse.Namespace) -> int:
    """Start a ComfyUI, post the graph to it, and keep it until Ctrl-C or its own end."""
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), end)
    if is_taken(options.host, options.port):
        return failed(f"port {options.port} is in use: choose another, as in `make run PORT=8189`")
    with child("prepare", stdout=subprocess.DEVNULL) as setup:
        if setup.wait() != 0:
            return failed("ComfyUI could not be made ready")
    more = ["--", *shlex.split(options.serve_args)]
    with child("serve", "--exit-with-parent", "--port", str(options.port), *more) as server:
        problem = wait_until_ready(options.address, server)
        if problem:
            return failed(problem)
        status = post_and_write(options)
        return status or keep(options.address, server)


@contextmanager
def child(*arguments: str, stdout: int | None = None) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command of docker/comfyui.py, and end it when the block is left.

    It has a session of its own: Ctrl-C comes to this process alone, which ends it once.
    """
    command = [sys.executable, str(SETUP), *arguments]
    own_session = os.name == "posix"
    with subprocess.Popen(command, stdout=stdout, start_new_session=own_session) as process:
        try:
            yield process
        finally:
            stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a child: as Ctrl-C does, and if it takes long or Ctrl-C comes again, at once."""
    if process.poll() is not None:
        return
    if os.name == "posix":
        process.send_signal(signal.SIGINT)
    else:
        process.terminate()
    try:
        process.wait(STOP_S)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        process.kill()
        process.wait()


def wait_until_ready(address: str, server: subprocess.Popen[bytes]) -> str:
    """Wait for the probe's 200. Returns what is wrong if that cannot come, else nothing."""
    started = reported = time.monotonic()
    while (status := server.poll()) is None:
        answered = probe(address)
        if answered == 200:
            return ""
        if answered == 404:
            return "ComfyUI is up without the extension: its log above says why"
        if time.monotonic() - reported >= REPORT_S:
            reported = time.monotonic()
            print(f"still starting ({reported - started:.0f} s) …", flush=True)
        time.sleep(POLL_S)
    return f"ComfyUI ended with exit code {status} while it was starting: its log is above"


def probe(address: str) -> int:
    """Return the status of the readiness probe, 0 where nothing answers yet."""
    try:
        with OPENER.open(f"{address}{PREFIX}/ready", timeout=5) as response:
            return int(response.status)
    except urllib.error.HTTPError as exc:
        return exc.code
    except OSError:
        return 0


def keep(address: str, server: subprocess.Popen[bytes]) -> int:
    """Serve until Ctrl-C (status 0) or until the server ends by itself (1)."""
    print(f"\nServing at {address}, documentation at {address}{PREFIX}/docs. Ctrl-C ends it.")
    sys.stdout.flush()
    try:
        status = server.wait()
    except KeyboardInterrupt:
        print("\nStopping.", flush=True)
        stop(server)
        return 0
    return failed(f"ComfyUI ended with exit code {status}")


def is_taken(host: str, port: int) -> bool:
    """Tell whether something listens on the port."""
    try:
        socket.create_connection((host, port), timeout=1).close()
    except OSError:
        return False
    return True


def failed(reason: str) -> int:
    """Print the reason. Returns the exit status for it."""
    print(f"error: {reason}", file=sys.stderr, flush=True)
    return 1


def end(number: int, _frame: FrameType | None) -> None:
    """Leave every block in order, so that the child ends too, when this process is told to."""
    # Told twice, as make and a process group do at once, it must not leave the leaving.
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    sys.exit(128 + number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
