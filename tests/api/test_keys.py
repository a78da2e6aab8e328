from __future__ import annotations

import pytest

from tests.api.conftest import Serve

KEYS = "first-key, s\u00e9cond"


@pytest.mark.parametrize("path", ["/models", "/docs", "/openapi.json", "/nothing", "/prompt"])
async def test_every_route_but_the_probes_needs_a_key(serve: Serve, path: str) -> None:
    site = await serve(api_keys=KEYS)
    async with site.client.get(path) as response:
        assert response.status == 401
        assert response.headers["WWW-Authenticate"] == "Bearer"
        assert (await response.json())["code"] == "unauthorized"


@pytest.mark.parametrize("path", ["/health", "/ready"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_the_probes_need_none(serve: Serve, path: str, method: str) -> None:
    site = await serve(api_keys=KEYS)
    async with site.client.request(method, path) as response:
        assert response.status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer first-key"},
        {"Authorization": "bearer   first-key "},
        {"Authorization": "Bearer s\u00e9cond"},
        {"X-API-Key": "first-key"},
        {"x-api-key": "s\u00e9cond"},
        {"Authorization": "Bearer wrong", "X-API-Key": "first-key"},
        {"Authorization": "Basic eDp5", "X-API-Key": "first-key"},
    ],
)
async def test_any_key_opens_in_either_header(serve: Serve, headers: dict[str, str]) -> None:
    site = await serve(api_keys=KEYS)
    async with site.client.get("/models", headers=headers) as response:
        assert response.status == 200
    async with site.client.get("/nothing", headers=headers) as response:
        assert response.status == 404


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer first-ke"},
        {"Authorization": "Bearer first-key2"},
        {"Authorization": "Bearer "},
        {"Authorization": "Basic first-key"},
        {"Authorization": "first-key"},
        {"X-API-Key": ""},
        {"X-API-Key": "first-key, s\u00e9cond"},
        {"X-API-Key": "FIRST-KEY"},
    ],
)
async def test_nothing_else_opens(serve: Serve, headers: dict[str, str]) -> None:
    site = await serve(api_keys=KEYS)
    async with site.client.get("/models", headers=headers) as response:
        assert response.status == 401


async def test_a_body_is_not_read_for_a_caller_without_a_key(serve: Serve) -> None:
    site = await serve(api_keys=KEYS)
    async with site.client.post("/prompt", data=b"{broken") as response:
        assert response.status == 401
