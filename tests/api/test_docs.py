from __future__ import annotations

import re
import sys

import pytest
from yarl import URL

from tests.api.conftest import Serve


@pytest.mark.parametrize("path", ["/docs", "/docs/"])
async def test_the_page_names_its_parts_relative_and_each_is_there(serve: Serve, path: str) -> None:
    site = await serve()
    async with site.client.get(path) as response:
        assert response.status == 200
        assert response.content_type == "text/html"
        page = await response.text()
        found = [URL(part) for part in re.findall(r'(?:href|src|document)="([^"]*)"', page)]
        assert len(found) == 5
        urls = [response.url.join(part) for part in found]
    assert not any(part.absolute or part.path.startswith("/") for part in found)
    for url in urls:
        async with site.client.get(url.path) as response:
            assert response.status == 200, url
            assert await response.read()


async def test_the_page_works_below_a_prefix(serve: Serve) -> None:
    client = (await serve(below="/api/stateless")).client
    async with client.get("/api/stateless/docs") as response:
        page = await response.text()
        (bundle,) = re.findall(r'src="([^"]*bundle.js)"', page)
        url = response.url.join(URL(bundle))
    assert url.path == "/api/stateless/docs/swagger-ui-bundle.js"
    async with client.get(url.path) as response:
        assert response.content_type in ("text/javascript", "application/javascript")


async def test_neither_page_nor_start_script_reaches_for_another_host(serve: Serve) -> None:
    site = await serve()
    for path in ("/docs", "/docs/start.js"):
        async with site.client.get(path) as response:
            assert "//" not in (await response.text())


async def test_the_page_has_no_script_in_it(serve: Serve) -> None:
    site = await serve()
    async with site.client.get("/docs") as response:
        page = await response.text()
    assert re.findall(r"<script[^>]*>([^<]*)</script>", page) == ["", ""]


@pytest.mark.parametrize("name", ["../core.py", "..%2fcore.py", "LICENSE", "swagger-editor.js"])
async def test_no_other_file_of_the_package_is_served(serve: Serve, name: str) -> None:
    site = await serve()
    async with site.client.get(URL(f"/docs/{name}", encoded=True)) as response:
        assert response.status == 404
        assert (await response.json())["code"] == "not_found"


async def test_without_the_package_the_page_says_what_to_install(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "swagger_ui", None)
    site = await serve()
    for path in ("/docs", "/docs/swagger-ui.css"):
        async with site.client.get(path) as response:
            assert response.status == 503
            assert "pip install swagger-ui-py" in (await response.json())["error"]
    async with site.client.get("/openapi.json") as response:
        assert response.status == 200
