"""Browsers that call for pages which are not this server's own."""

from __future__ import annotations

import json

import pytest

from tests.api.conftest import Serve
from tests.fakes import graph

REBOUND = {"Host": "evil.example", "Origin": "http://evil.example"}
FOREIGN = {"Origin": "https://evil.example"}
BODY = json.dumps({"prompt": graph()}).encode()


@pytest.mark.parametrize("path", ["/models", "/openapi.json", "/events", "/nothing", "/docs"])
async def test_a_name_that_is_not_listed_gets_a_421(serve: Serve, path: str) -> None:
    site = await serve(allowed_hosts="api.example.com,127.0.0.1")
    async with site.client.get(path, headers=REBOUND) as response:
        assert response.status == 421
        body = await response.json()
        assert body["code"] == "wrong_host"
        assert "'evil.example'" in body["error"]
    async with site.client.get("/models") as response:
        assert response.status == 200


async def test_a_name_that_is_not_listed_runs_nothing_and_a_key_is_no_way_round(
    serve: Serve,
) -> None:
    site = await serve(allowed_hosts="api.example.com", api_keys="key")
    headers = {**REBOUND, "X-API-Key": "key", "X-Forwarded-Host": "api.example.com"}
    async with site.client.post("/prompt", data=BODY, headers=headers) as response:
        assert response.status == 421
    assert site.engine.prompts == []


@pytest.mark.parametrize("path", ["/health", "/ready"])
async def test_the_probes_answer_to_any_name(serve: Serve, path: str) -> None:
    site = await serve(allowed_hosts="api.example.com")
    async with site.client.get(path, headers={"Host": "10.0.0.7"}) as response:
        assert response.status == 200


async def test_what_a_foreign_page_posts_as_plain_text_is_not_run(serve: Serve) -> None:
    site = await serve()
    for kind in ("text/plain", "multipart/form-data; boundary=x"):
        headers = {**FOREIGN, "Content-Type": kind}
        async with site.client.post("/prompt", data=BODY, headers=headers) as response:
            assert response.status == 403
            assert (await response.json())["code"] == "foreign_origin"
    assert site.engine.prompts == []


async def test_a_foreign_page_may_post_where_the_browser_has_asked(serve: Serve) -> None:
    site = await serve()
    headers = {**FOREIGN, "Content-Type": "application/json"}
    async with site.client.post("/prompt", data=BODY, headers=headers) as response:
        assert response.status == 200


async def test_where_the_operator_lets_pages_in_they_may_post_anything(serve: Serve) -> None:
    site = await serve(headers={"Access-Control-Allow-Origin": "https://evil.example"})
    headers = {**FOREIGN, "Content-Type": "text/plain"}
    async with site.client.post("/prompt", data=BODY, headers=headers) as response:
        assert response.status == 200
