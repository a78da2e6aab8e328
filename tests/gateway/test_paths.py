from __future__ import annotations

import re

import pytest

from comfyui_stateless.api.app import ROUTES
from comfyui_stateless.launcher.paths import PREFIX, is_plain, target_of
from tests.gateway.conftest import Serve


def test_every_route_of_the_api_is_reached() -> None:
    paths = {re.sub(r"\{[^}]*\}", "a", route.path) for route in ROUTES}
    assert {path for path in paths if target_of(path) != PREFIX + path} == {"/health", "/ready"}


@pytest.mark.parametrize(
    "path",
    [
        "/prompt", "/prompt/a", "/prompt/a%2Fb", "/prompt/a/events", "/prompt/", "/prompt/a//b",
        "/workflow", "/workflow/flux/txt2img", "/docs", "/docs/", "/docs/json", "/docs/swagger.css",
        "/jobs", "/jobs/a/thumbnail", "/events", "/status", "/metrics", "/openapi.json", "/prompt/..a", "/prompt/%2e%2ea",
    ],
)  # fmt: skip
def test_a_path_of_the_api_keeps_its_spelling(path: str) -> None:
    assert target_of(path) == PREFIX + path


@pytest.mark.parametrize(
    "path",
    [
        "/", "", "/view", "/queue", "/history", "/system_stats", "/upload/image", "/internal/logs",
        "/api/prompt", "/api/stateless/prompt", "/object_info", "/userdata", "/ws", "/extensions",
        "/prompts", "/interrupt/", "/models/loras", "/download/x", "/docs/a/en.md", "//prompt",
        "/PROMPT", "/%70rompt", "/prompt\n/x\n/../..", "prompt", "/openapi_json", "/metrics/",
    ],
)  # fmt: skip
def test_any_other_path_is_none_of_the_api(path: str) -> None:
    assert target_of(path) is None


@pytest.mark.parametrize(
    "path",
    [
        "/prompt/..", "/prompt/../queue", "/prompt/%2e%2e/queue", "/prompt/.%2E", "/workflow/./a",
        "/docs/..", "/prompt/%2e/events", "/prompt/../../../queue",
    ],
)  # fmt: skip
def test_a_path_that_climbs_is_none_of_the_api(path: str) -> None:
    assert not is_plain(path)
    assert target_of(path) is None


@pytest.mark.parametrize("path", ["/", "/view", "/api/stateless/prompt", "/prompt/../queue"])
async def test_comfyui_s_own_routes_do_not_appear(serve: Serve, path: str) -> None:
    site = await serve()
    answer = await site.raw(
        f"POST {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode()
    )
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert b'"code":"not_found"' in answer
    assert site.comfy.seen == []


@pytest.mark.parametrize(
    "target", ["/prompt/a%2Fb%20c?x=%2F+%C3%BC&x=2&&", "/prompt/%E2%82%AC?", "/prompt/a;b,c=d?e?f"]
)
async def test_the_target_arrives_as_it_was_sent(serve: Serve, target: str) -> None:
    site = await serve()
    head = f"GET {target} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    assert (await site.raw(head.encode())).startswith(b"HTTP/1.1 200 ")
    assert site.comfy.last.target == PREFIX + target.removesuffix("?")


async def test_a_target_with_a_host_means_its_path(serve: Serve) -> None:
    site = await serve()
    head = b"GET http://other.example/prompt/a?b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    assert (await site.raw(head)).startswith(b"HTTP/1.1 200 ")
    assert site.comfy.last.target == f"{PREFIX}/prompt/a?b"


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"])
async def test_any_method_is_passed_on(serve: Serve, method: str) -> None:
    site = await serve()
    async with site.http.request(method, "/prompt") as answer:
        assert answer.status == 200
    assert site.comfy.last.method == method


@pytest.mark.parametrize("target", ["other.example:443", "/prompt"])
async def test_it_is_no_proxy(serve: Serve, target: str) -> None:
    site = await serve(expose_comfyui=True)
    answer = await site.raw(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
    assert answer.startswith((b"HTTP/1.1 405 ", b"HTTP/1.1 400 "))
    assert site.comfy.seen == []


async def test_an_asterisk_is_no_route(serve: Serve) -> None:
    site = await serve(expose_comfyui=True)
    answer = await site.raw(b"OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    assert answer.startswith((b"HTTP/1.1 404 ", b"HTTP/1.1 400 "))
    assert site.comfy.seen == []
