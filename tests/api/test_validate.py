"""`POST /validate`: it says what would happen to a prompt, and does none of it."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from aiohttp import FormData

from comfyui_stateless.cache import access
from comfyui_stateless.cache.names import key_of
from comfyui_stateless.errors import InvalidPrompt
from comfyui_stateless.readiness import Phase
from tests.api.conftest import Serve, Site
from tests.cache.origin import Origin
from tests.fakes import graph
from tests.fetching import (
    MODEL,
    PNG,
    SECRET,
    bare,
    contents,
    loading,
    loading_all,
    loading_engine,
)


async def validated(site: Site, prompt: dict[str, Any], **fields: Any) -> dict[str, Any]:
    async with site.client.post("/validate", json={"prompt": prompt, **fields}) as response:
        assert response.status == 200
        reply: dict[str, Any] = await response.json()
    return reply


async def test_a_prompt_that_would_run_is_valid(serve: Serve) -> None:
    assert await validated(await serve(), graph()) == {
        "valid": True,
        "errors": [],
        "node_errors": {},
        "missing_nodes": [],
        "missing_models": [],
        "downloads": [],
    }


async def test_all_that_is_missing_and_wrong_is_told_at_once(origin: Origin, serve: Serve) -> None:
    site = await serve(loading_engine(model_files={"loras": ["here.safetensors"]}))
    model = origin.put("/a.safetensors", MODEL)
    sent = loading_all(
        ("Lora", "gone.safetensors"),
        ("Lora", model),
        ("LoadImage", origin.put("/a.png", PNG)),
        ("LoadImage", origin.url("/missing.png")),
        ("LoadImage", "nothing.png"),
        ("Lora", "here.safetensors"),
    )
    sent["7"] = {"class_type": "Unheard", "inputs": {}}
    (await site.services.cache.fetch(model)).release()
    reply = await validated(site, sent)
    errors = {error["location"]: error for error in reply.pop("errors")}
    assert set(errors) == {"prompt.4.inputs.image", "prompt.5.inputs.image"}
    assert errors["prompt.4.inputs.image"]["code"] == "invalid_input"
    assert errors["prompt.4.inputs.image"]["details"]["reason"] == "object_not_found"
    assert "/missing.png" in errors["prompt.4.inputs.image"]["error"]
    assert reply == {
        "valid": False,
        "node_errors": {},
        "missing_nodes": [{"node_id": "7", "class_type": "Unheard"}],
        "missing_models": [
            {"location": "prompt.1.inputs.name", "folder": "loras", "name": "gone.safetensors"}
        ],
        "downloads": [
            {
                "location": "prompt.2.inputs.name", "url": model, "folder": "loras",
                "size_bytes": len(MODEL), "cached": True,
            },
            {
                "location": "prompt.3.inputs.image", "url": origin.url("/a.png"), "folder": None,
                "size_bytes": len(PNG), "cached": False,
            },
        ],
    }  # fmt: skip


async def test_what_the_server_cannot_look_up_is_told_as_its_own_trouble(
    origin: Origin, serve: Serve
) -> None:
    site = await serve(loading_engine())
    url = origin.put("/a.safetensors", MODEL)
    (site.services.settings.cache_dir / f"{key_of(url)}.lock").mkdir(parents=True)
    reply = await validated(site, loading_all(("Lora", url)))
    (error,) = reply["errors"]
    assert (error["code"], error["location"]) == ("folder_failed", "prompt.1.inputs.name")


async def test_comfyuis_own_node_errors_are_told(serve: Serve) -> None:
    fault = {"type": "value_not_in_list", "message": "No", "extra_info": {"input_name": "width"}}
    node_errors = {"1": {"class_type": "EmptyImage", "errors": [fault], "dependent_outputs": []}}
    refusal = InvalidPrompt("No.", details={"node_errors": node_errors})
    reply = await validated(await serve(loading_engine(invalid=refusal)), graph())
    assert (reply["valid"], reply["node_errors"]) == (False, node_errors)


async def test_nothing_is_run_and_nothing_is_kept(
    origin: Origin, serve: Serve, tmp_path: Path
) -> None:
    site = await serve(loading_engine(models_root=tmp_path / "models"))
    await site.services.cache.start()
    before = contents(tmp_path)
    sent = [
        ("Lora", origin.put("/a.safetensors", MODEL)),
        ("LoadImage", origin.put("/a.png", PNG)),
        ("LoadImage", bare(PNG)),
        ("LoadImage", "upload://face"),
    ]
    request = {"prompt": loading_all(*sent), "id": "mine", "webhook_v2": origin.url("/hook")}
    data = FormData({"request": json.dumps(request)}, default_to_multipart=True)
    data.add_field("face", BytesIO(PNG), filename="face.png")
    async with site.client.post("/validate", data=data) as response:
        reply = await response.json()
    assert reply["valid"], reply
    assert (site.engine.ran, site.engine.links, site.engine.given) == ([], {}, [])
    assert not any(folder.exists() for folder in site.engine.workspaces)
    assert contents(tmp_path) == before
    assert {seen.method for seen in origin.seen} == {"HEAD"}
    assert site.services.jobs.depth() == 0
    async with site.client.get("/prompt/mine") as response:
        assert response.status == 404


async def test_a_part_that_was_not_sent_is_an_error(serve: Serve) -> None:
    site = await serve(loading_engine())
    reply = await validated(site, loading("LoadImage", "upload://face"))
    (error,) = reply["errors"]
    assert error["location"] == "prompt.1.inputs.image"
    assert "it has: none" in error["error"]


async def test_no_secret_is_told(
    origin: Origin, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    site = await serve(loading_engine())
    origin.put("/a.png", PNG)
    sent = [
        ("LoadImage", origin.url(f"/a.png?sig={SECRET}", f"me:{SECRET}")),
        ("LoadImage", origin.url(f"/missing.png?sig={SECRET}", f"me:{SECRET}")),
        ("Diffusers", origin.url(f"/o/r?sig={SECRET}", f"me:{SECRET}")),
        ("LoadImage", f"ftp://me:{SECRET}@host/?sig={SECRET}"),
    ]
    credentials = [{"url_pattern": "**", "auth": {"type": "bearer", "token": SECRET}}]
    reply = await validated(site, loading_all(*sent), credentials=credentials)
    assert (len(reply["downloads"]), len(reply["errors"])) == (2, 2)
    assert SECRET not in json.dumps(reply) + caplog.text


async def test_a_body_that_is_no_prompt_is_a_400(serve: Serve) -> None:
    site = await serve()
    bodies: list[dict[str, Any]] = [
        {},
        {"prompt": {"1": {}}},
        {"prompt": {"nodes": [], "links": []}},
    ]
    for body in bodies:
        async with site.client.post("/validate", json=body) as response:
            assert response.status == 400


async def test_it_waits_for_the_server_to_be_ready(serve: Serve) -> None:
    site = await serve(phase=Phase.WARMING)
    async with site.client.post("/validate", json={"prompt": graph()}) as response:
        assert response.status == 503


@pytest.mark.parametrize("route", ["/validate", "/prompt"])
async def test_many_patterns_for_many_addresses_are_refused_before_they_are_compared(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, route: str
) -> None:
    def never(*_: object) -> None:
        pytest.fail("a pattern was compared")

    monkeypatch.setattr(access, "auth_for", never)
    site = await serve(loading_engine())
    urls = [f"http://127.0.0.1/{'a' * 1500}{number}" for number in range(50)]
    auth = {"type": "bearer", "token": "t"}
    sent = {
        "prompt": loading_all(*(("LoadImage", url) for url in urls)),
        "credentials": [{"url_pattern": "**a" * 300 + str(n), "auth": auth} for n in range(256)],
    }
    async with site.client.post(route, json=sent) as response:
        assert response.status == 400
        assert (await response.json())["location"] == "credentials"
