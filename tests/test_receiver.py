"""The example receiver: whom it believes, what it keeps, and that nothing leaves its folder."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import datetime, timezone
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from standardwebhooks import Webhook

from examples.receiver import TOLERANCE_S, Handler, is_genuine

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
NOW = datetime.now(timezone.utc)
BODY = b'{"type":"prompt.complete","id":"a"}'


def headers(
    secret: str = SECRET, body: bytes = BODY, message_id: str = "msg_1", now: datetime = NOW
) -> dict[str, str]:
    signature = Webhook(secret).sign(message_id, now, body.decode())
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": signature,
    }


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "received"
    path.mkdir()
    return path


@pytest.fixture
def url(folder: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, folder=folder, secret=SECRET))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def send(method: str, url: str, body: bytes, said: dict[str, str] | None = None) -> int:
    try:
        with urlopen(Request(url, body, said or {}, method=method)) as answer:
            return int(answer.status)
    except HTTPError as error:
        error.close()
        return error.code


@pytest.mark.parametrize("secret", [SECRET, SECRET.removeprefix("whsec_")])
def test_a_signed_message_is_genuine(secret: str) -> None:
    assert is_genuine(headers(), BODY, secret, NOW.timestamp())


def test_one_of_several_signatures_is_enough() -> None:
    signed = headers()
    signed["webhook-signature"] = f"v1,AAAA {signed['webhook-signature']}"
    assert is_genuine(signed, BODY, SECRET, NOW.timestamp())


@pytest.mark.parametrize(
    ("said", "body", "late_s"),
    [
        (headers(), BODY + b" ", 0),
        (headers(secret="whsec_b3RoZXI="), BODY, 0),
        ({**headers(), "webhook-id": "msg_2"}, BODY, 0),
        (headers(), BODY, TOLERANCE_S + 2),
        (headers(), BODY, -TOLERANCE_S - 2),
        ({**headers(), "webhook-timestamp": "soon"}, BODY, 0),
        ({}, BODY, 0),
    ],
    ids=["body", "secret", "id", "old", "from the future", "no time", "no headers"],
)
def test_any_other_message_is_not(said: dict[str, str], body: bytes, late_s: float) -> None:
    assert not is_genuine(said, body, SECRET, NOW.timestamp() + late_s)


def test_a_message_is_kept_once(url: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert [
        send("POST", f"{url}/hook", BODY, headers(now=datetime.now(timezone.utc))) for _ in range(2)
    ] == [204, 204]
    assert (folder / "msg_1.json").read_bytes() == BODY
    assert capsys.readouterr().out.count("webhook: ") == 1


def test_an_unsigned_message_is_refused(url: str, folder: Path) -> None:
    assert send("POST", f"{url}/hook", BODY, {"webhook-id": "msg_1"}) == 401
    assert not list(folder.iterdir())


def test_files_are_written_and_given_and_stay_in_the_folder(url: str, folder: Path) -> None:
    assert send("PUT", f"{url}/a/b.png", b"png") == 201
    with urlopen(f"{url}/a/b.png") as answer:
        assert answer.read() == b"png"
    send("PUT", f"{url}/../../outside.png", b"png")
    outside = {path.name for path in folder.parent.iterdir()}
    assert outside == {"received"}
