from __future__ import annotations

import pytest

from comfyui_stateless.errors import ForeignOrigin
from comfyui_stateless.origins import require_asked, require_own_page
from tests.gateway.conftest import Serve


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("127.0.0.1:3000", "http://127.0.0.1:3000"),
        ("localhost:3000", "http://LOCALHOST:3000"),
        ("localhost", "http://localhost"),
        ("localhost", "http://localhost:80"),
        # Browsers and proxies that leave a port out.
        ("localhost:3000", "http://localhost"),
        ("localhost", "http://localhost:3000"),
        ("[::1]:3000", "http://[::1]:3000"),
        # Names by which this server is called on purpose.
        ("api.example.com", "https://app.example.com"),
        ("10.0.0.5:3000", "https://app.example.com"),
        ("notlocalhost", "https://app.example.com"),
        ("localhost.example.com", "https://app.example.com"),
        ("", "https://app.example.com"),
        ("[", "https://app.example.com"),
    ],
)
def test_own_pages_and_named_servers_pass(host: str, origin: str) -> None:
    require_own_page({"Host": host, "Origin": origin})


@pytest.mark.parametrize(
    ("host", "origin"),
    [
        ("127.0.0.1:3000", "https://evil.example"),
        ("127.0.0.1:3000", "http://localhost:3000"),
        ("127.0.0.1:3000", "http://127.0.0.1:3001"),
        ("127.8.8.8", "https://evil.example"),
        ("localhost:3000", "null"),
        ("localhost:3000", ""),
        ("localhost:3000", "http://localhost.evil.example:3000"),
        ("LocalHost.:3000", "https://evil.example"),
        ("a.localhost", "https://evil.example"),
        ("[::1]:3000", "https://evil.example"),
        ("0.0.0.0:3000", "https://evil.example"),
        ("localhost:3000", "http://localhost:x"),
        ("localhost:3000", "http://[localhost:3000"),
    ],
)
def test_foreign_pages_do_not_reach_this_machine(host: str, origin: str) -> None:
    with pytest.raises(ForeignOrigin):
        require_own_page({"Host": host, "Origin": origin})


def test_a_program_names_no_page() -> None:
    require_own_page({"Host": "127.0.0.1:3000"}, anywhere=True)


def test_where_asked_for_foreign_pages_reach_no_server() -> None:
    with pytest.raises(ForeignOrigin):
        require_own_page(
            {"Host": "api.example.com", "Origin": "https://evil.example"}, anywhere=True
        )
    behind_a_proxy = {"Host": "10.0.0.5:3000", "X-Forwarded-Host": "ui.example.com"}
    require_own_page({**behind_a_proxy, "Origin": "https://ui.example.com"}, anywhere=True)


@pytest.mark.parametrize("expose_comfyui", [False, True])
async def test_a_foreign_page_gets_a_403_and_comfyui_nothing(
    serve: Serve, expose_comfyui: bool
) -> None:
    site = await serve(expose_comfyui=expose_comfyui)
    foreign = {"Origin": "https://evil.example"}
    for path in ("/prompt", "/queue", "/api/prompt") if expose_comfyui else ("/prompt",):
        assert await site.error("POST", path, headers=foreign) == (403, "foreign_origin")
    assert site.comfy.seen == []


async def test_the_origin_is_not_passed_on(serve: Serve) -> None:
    site = await serve()
    own = {"Origin": f"http://127.0.0.1:{site.gateway.port}"}
    async with site.http.post("/prompt", headers=own) as answer:
        assert answer.status == 200
    assert site.comfy.last.all("Origin") == []


PAGE = {"Origin": "https://evil.example", "Host": "192.168.1.5:8188"}


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"Content-Type": "text/plain"},
        {"Content-Type": "Text/Plain; charset=utf-8"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "multipart/form-data; boundary=x"},
        {"Origin": "null", "Content-Type": "text/plain"},
        # What a browser adds by itself, once its user has logged in.
        {"Authorization": "Basic eDp5", "Content-Type": "text/plain"},
    ],
)
def test_a_page_cannot_post_without_having_asked(more: dict[str, str]) -> None:
    with pytest.raises(ForeignOrigin):
        require_asked("POST", {**PAGE, **more})


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("POST", {"Host": "192.168.1.5:8188"}),
        ("POST", {**PAGE, "Origin": "http://192.168.1.5:8188"}),
        ("POST", {**PAGE, "Content-Type": "application/json"}),
        ("POST", {**PAGE, "Content-Type": "text/plain", "X-API-Key": "any"}),
        ("POST", {**PAGE, "Content-Type": "text/plain", "Authorization": "Bearer any"}),
        ("POST", {**PAGE, "X-Forwarded-Host": "evil.example"}),
        ("GET", PAGE),
        ("PUT", PAGE),
    ],
)
def test_programs_own_pages_and_pages_that_asked_may(method: str, headers: dict[str, str]) -> None:
    require_asked(method, headers)


async def test_what_a_page_posts_as_plain_text_does_not_reach_comfyui(serve: Serve) -> None:
    site = await serve()
    plain = {**PAGE, "Content-Type": "text/plain"}
    assert await site.error("POST", "/prompt", headers=plain) == (403, "foreign_origin")
    assert site.comfy.seen == []
    async with site.http.post("/prompt", headers=PAGE, json={}) as answer:
        assert answer.status == 200
