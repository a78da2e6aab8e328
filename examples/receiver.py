#!/usr/bin/env python3
"""A place for outputs and webhooks, to try the API with: it keeps files and checks messages.

`python3 examples/receiver.py --port 9000 --folder /tmp/received`

GET gives the files of the folder, PUT writes them, POST takes webhooks: it drops repeats, and keeps
each body in the folder under its webhook-id. Where WEBHOOK_SECRET is set, the server's own, it takes
none that is not signed with it.
Needs nothing but Python. Start ComfyUI with HTTP_TRUSTED_ORIGINS=http://127.0.0.1:9000.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import hmac
import json
import os
import re
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import gettempdir

TOLERANCE_S = 300
"""Older messages are refused, so that one that somebody has overheard is of no use to them."""

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def is_genuine(headers: Mapping[str, str], body: bytes, secret: str, now: float) -> bool:
    """Say whether a message was signed with ``secret`` lately, as Standard Webhooks has it.

    Args:
        headers: By their names in lower case.
        body: The bytes as they came: JSON that was parsed and written again has another signature.
        secret: The base64 of WEBHOOK_SECRET, with or without ``whsec_``.
        now: Unix time.
    """
    message_id, sent = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    if not (sent.isascii() and sent.isdigit()) or abs(now - int(sent)) > TOLERANCE_S:
        return False
    encoded = secret.removeprefix("whsec_")
    key = base64.b64decode(encoded + "=" * (-len(encoded) % 4))
    digest = hmac.new(key, f"{message_id}.{sent}.".encode() + body, hashlib.sha256).digest()
    expected = f"v1,{base64.b64encode(digest).decode()}"
    given = headers.get("webhook-signature", "").split(" ")
    return any(hmac.compare_digest(expected.encode(), each.encode()) for each in given)


class Handler(SimpleHTTPRequestHandler):
    """Answers one request.

    Args:
        folder: Where files are; nothing outside it is read or written.
        secret: The base64 of WEBHOOK_SECRET, empty for none.
    """

    protocol_version = "HTTP/1.1"

    def __init__(self, *arguments: object, folder: Path, secret: str) -> None:
        self._folder = folder
        self._secret = secret
        super().__init__(*arguments, directory=str(folder))  # type: ignore[arg-type]  # passed on

    def do_PUT(self) -> None:
        """Write a file."""
        path = Path(self.translate_path(self.path))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self._body())
        self._answer(201)

    def do_POST(self) -> None:
        """Take a webhook, once."""
        body, headers = self._body(), {name.lower(): value for name, value in self.headers.items()}
        message_id = headers.get("webhook-id", "")
        if self._secret and not is_genuine(headers, body, self._secret, time.time()):
            print(f"refused: {message_id} is not signed with WEBHOOK_SECRET, or old", flush=True)
            return self._answer(401)
        if not _ID.fullmatch(message_id):
            return self._answer(400)
        path = self._folder / f"{message_id}.json"
        if path.exists():
            print(f"dropped: {message_id} has come before", flush=True)
        else:
            path.write_bytes(body)
            print(f"webhook: {_summary(body)} ({path.name})", flush=True)
        return self._answer(204)

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()


def _summary(body: bytes) -> str:
    message = json.loads(body)
    said = {name: message.get(name) for name in ("type", "event", "id", "filenames", "code")}
    return ", ".join(f"{name} {value}" for name, value in said.items() if value is not None)


def main(arguments: Sequence[str]) -> int:
    """Serve until Ctrl-C. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=9000)
    parser.add_argument("--folder", type=Path, default=Path(gettempdir(), "received"))
    options = parser.parse_args(arguments)
    options.folder.mkdir(parents=True, exist_ok=True)
    secret = os.environ.get("WEBHOOK_SECRET", "").strip()
    handler = partial(Handler, folder=options.folder.resolve(), secret=secret)
    with ThreadingHTTPServer(("127.0.0.1", options.port), handler) as server:
        where = f"http://127.0.0.1:{server.server_port}"
        print(f"{where} keeps what it gets in {options.folder.resolve()}", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
