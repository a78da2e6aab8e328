"""ALLOWED_HOSTS on a real ComfyUI, at its own port and at the launcher's."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator

import pytest

from tests.comfyui.conftest import required
from tests.comfyui.graphs import saved
from tests.comfyui.server import Install
from tests.comfyui.test_launcher import START_S, LaunchedComfyUI
from tests.launcher.running import until

LISTED = "api.example.com:8443"
REBOUND = "evil.example"


@pytest.fixture(scope="module")
def launched(
    each_install: Install | None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LaunchedComfyUI]:
    install, folder = required(each_install), tmp_path_factory.mktemp("hosts")
    settings = {"ALLOWED_HOSTS": "api.example.com", "EXPOSE_COMFYUI": "true"}
    with LaunchedComfyUI(install, folder, **settings) as launcher:
        launcher.until_ready(START_S)
        yield launcher


def asked(port: int, path: str, host: str, body: bytes | None = None) -> tuple[int, bytes]:
    """Call a server by some name, as a page of that name would; return status and body."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Host": host, "Origin": f"http://{host}", "Content-Type": "application/json"}
    try:
        connection.request("GET" if body is None else "POST", path, body, headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_a_name_that_is_listed_gets_its_images(launched: LaunchedComfyUI) -> None:
    body = json.dumps({"prompt": saved(1)}).encode()
    status, answer = asked(launched.port, "/prompt", LISTED, body)
    assert (status, len(json.loads(answer)["images"])) == (200, 1)
    assert asked(launched.behind, "/api/stateless/jobs", LISTED)[0] == 200
    assert asked(launched.behind, "/queue", LISTED)[0] == 200


@pytest.mark.parametrize(
    "path", ["/api/stateless/jobs", "/", "/queue", "/api/queue", "/ws", "/view"]
)
def test_a_rebound_page_gets_nothing_of_comfyuis_port(launched: LaunchedComfyUI, path: str) -> None:
    status, answer = asked(launched.behind, path, REBOUND)
    assert (status, json.loads(answer)["code"]) == (421, "wrong_host")


@pytest.mark.parametrize("path", ["/jobs", "/", "/queue", "/api/queue", "/ws", "/view"])
def test_a_rebound_page_gets_nothing_of_the_launchers_port(
    launched: LaunchedComfyUI, path: str
) -> None:
    status, answer = asked(launched.port, path, REBOUND)
    assert (status, json.loads(answer)["code"]) == (421, "wrong_host")


@pytest.mark.parametrize("path", ["/prompt", "/api/prompt"])
def test_a_rebound_page_runs_nothing(launched: LaunchedComfyUI, path: str) -> None:
    body = json.dumps({"prompt": saved(2)}).encode()
    assert asked(launched.port, path, REBOUND, body)[0] == 421
    assert asked(launched.behind, path, REBOUND, body)[0] == 421
    queue = json.loads(asked(launched.behind, "/queue", LISTED)[1])
    assert queue == {"queue_running": [], "queue_pending": []}


def test_the_launchers_port_is_not_called_by_its_address_where_that_is_not_listed(
    launched: LaunchedComfyUI,
) -> None:
    assert asked(launched.port, "/jobs", f"127.0.0.1:{launched.port}")[0] == 421
    until(lambda: asked(launched.port, "/ready", f"127.0.0.1:{launched.port}")[0] == 200, "ready")
