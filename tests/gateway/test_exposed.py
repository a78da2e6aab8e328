from __future__ import annotations

import base64

import pytest

from tests.gateway.conftest import Serve

KEYS = ("first-key", "s\u00e9cond")


def basic(password: str, user: str = "any") -> dict[str, str]:
    text = base64.b64encode(f"{user}:{password}".encode()).decode()
    return {"Authorization": f"Basic {text}"}


@pytest.mark.parametrize("path", ["/", "/view?filename=a", "/api/prompt", "/docs/a/en.md"])
async def test_comfyui_s_own_routes_appear_when_asked_for(serve: Serve, path: str) -> None:
    site = await serve(expose_comfyui=True)
    async with site.http.get(path) as answer:
        assert answer.status == 200
    assert site.comfy.last.target == path


async def test_the_root_is_still_ours(serve: Serve) -> None:
    site = await serve(expose_comfyui=True)
    async with site.http.post("/prompt"):
        pass
    assert site.comfy.last.target == "/api/stateless/prompt"


@pytest.mark.parametrize("path", ["/view/../queue", "/%2e%2E/queue", "/."])
async def test_a_path_that_climbs_does_not_pass(serve: Serve, path: str) -> None:
    site = await serve(expose_comfyui=True)
    answer = await site.raw(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 404 ")
    assert site.comfy.seen == []


@pytest.mark.parametrize("path", ["/", "/queue", "/ws", "/api/stateless/prompt"])
async def test_they_need_a_key_where_there_are_keys(serve: Serve, path: str) -> None:
    site = await serve(expose_comfyui=True, keys=KEYS)
    wrong: tuple[dict[str, str], ...] = (
        {},
        {"X-API-Key": "wrong"},
        basic("wrong"),
        basic(""),
        {"Authorization": "Basic =,"},
    )
    for headers in wrong:
        assert await site.error("GET", path, headers=headers) == (401, "unauthorized")
    async with site.http.get(path) as answer:
        assert answer.headers["WWW-Authenticate"].startswith("Basic ")
    assert site.comfy.seen == []


@pytest.mark.parametrize(
    "headers",
    [{"Authorization": "Bearer first-key"}, {"X-API-Key": "first-key"}, {"X-API-Key": KEYS[1]}],
)
async def test_a_program_shows_it_as_for_the_api(serve: Serve, headers: dict[str, str]) -> None:
    site = await serve(expose_comfyui=True, keys=KEYS)
    async with site.http.get("/queue", headers=headers) as answer:
        assert answer.status == 200
    (name,) = headers
    assert site.comfy.last.all(name) == [headers[name].encode().decode("latin-1")]


@pytest.mark.parametrize("key", KEYS)
async def test_a_browser_shows_it_as_a_password(serve: Serve, key: str) -> None:
    """And the API, which the pages of the extension call, is shown it in its own way."""
    site = await serve(expose_comfyui=True, keys=KEYS)
    async with site.http.get("/api/stateless/models", headers=basic(key)) as answer:
        assert answer.status == 200
    shown = f"Bearer {key}".encode().decode("latin-1")
    assert site.comfy.last.all("Authorization") == [shown]


@pytest.mark.parametrize(
    "page",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
async def test_a_browser_s_password_does_not_serve_other_pages(
    serve: Serve, page: dict[str, str]
) -> None:
    site = await serve(expose_comfyui=True, keys=KEYS)
    headers = {"Host": "comfy.example.com", **basic("first-key"), **page}
    assert await site.error("GET", "/manager/reboot", headers=headers) == (403, "foreign_origin")
    assert site.comfy.seen == []


async def test_a_link_to_the_page_works(serve: Serve) -> None:
    site = await serve(expose_comfyui=True, keys=KEYS)
    headers = {**basic("first-key"), "Sec-Fetch-Site": "cross-site"}
    async with site.http.get("/", headers=headers) as answer:
        assert answer.status == 200


async def test_the_key_of_the_api_is_the_extension_s_to_check(serve: Serve) -> None:
    site = await serve(keys=KEYS)
    async with site.http.get("/models") as answer:
        assert answer.status == 200
    assert site.comfy.last.target == "/api/stateless/models"
