"""What is found of a prompt without running it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from comfyui_stateless.errors import InvalidPrompt, StatelessError
from comfyui_stateless.examine import Fetch, Findings, Missing, examine
from comfyui_stateless.inputs import Uploaded
from comfyui_stateless.pipeline import Services
from comfyui_stateless.requests import PromptRequest
from tests.cache.origin import Origin
from tests.fakes import FakeEngine
from tests.fetching import (
    MODEL,
    PNG,
    SECRET,
    bare,
    data_url,
    kept,
    loading,
    loading_all,
    loading_engine,
    upload,
)
from tests.wiring import end, services_for

pytestmark = pytest.mark.usefixtures("plain_environment")


Open = Callable[..., Services]


@pytest.fixture
async def services_of(tmp_path: Path) -> AsyncIterator[Open]:
    made: list[Services] = []

    def of(engine: FakeEngine | None = None, **settings: Any) -> Services:
        made.append(services_for(engine or loading_engine(), tmp_path, **settings))
        return made[-1]

    yield of
    for services in made:
        await end(services)


@pytest.fixture
def services(services_of: Open) -> Services:
    return services_of()


def examined(
    services: Services,
    graph: Mapping[str, Any],
    uploads: Mapping[str, Uploaded] | None = None,
    **fields: Any,
) -> Awaitable[Findings]:
    request = PromptRequest.model_validate({"prompt": graph, **fields})
    return examine(request, services, uploads or {})


def said(errors: list[StatelessError]) -> list[tuple[str, str | None, str | None]]:
    return [(error.code, error.location, error.details.get("reason")) for error in errors]


async def test_of_what_would_be_fetched_the_size_is_known(
    origin: Origin, services: Services
) -> None:
    sent = [
        ("Lora", origin.put(f"/a.safetensors?sig={SECRET}", MODEL)),
        ("LoadImage", origin.put("/a.png", PNG)),
        ("LoadImages", [origin.put("/b.png", PNG + b"."), bare(PNG)]),
        ("Either", origin.put("/c.ckpt", b"1234", length=0)),
    ]
    found = await examined(services, loading_all(*sent))
    assert found.is_valid
    assert list(found.fetches) == [
        Fetch("prompt.1.inputs.name", f"{origin.url('/a.safetensors')}?…", "loras", len(MODEL), False),
        Fetch("prompt.2.inputs.image", origin.url("/a.png"), None, len(PNG), False),
        Fetch("prompt.3.inputs.directory", origin.url("/b.png"), None, len(PNG) + 1, False),
        Fetch("prompt.4.inputs.name", origin.url("/c.ckpt"), "loras", None, False),
    ]  # fmt: skip


async def test_nothing_is_fetched_linked_or_run(
    origin: Origin, services: Services, tmp_path: Path
) -> None:
    sent = [("Lora", origin.put("/a.safetensors", MODEL)), ("LoadImage", origin.put("/a.png", PNG))]
    await examined(services, loading_all(*sent, ("LoadImage", bare(PNG))))
    engine = services.engine
    assert isinstance(engine, FakeEngine)
    assert (engine.links, engine.given, engine.ran) == ({}, [], [])
    assert not any(folder.exists() for folder in engine.workspaces)
    assert {seen.method for seen in origin.seen} == {"HEAD"}
    assert kept(tmp_path) == []


async def test_what_is_there_already_is_said_to_be(origin: Origin, services: Services) -> None:
    url = origin.put("/a.safetensors", MODEL)
    (await services.cache.fetch(url)).release()
    origin.seen.clear()
    (fetch,) = (await examined(services, loading("Lora", url))).fetches
    assert (fetch.cached, fetch.size) == (True, len(MODEL))
    assert origin.seen == []


async def test_credentials_are_used(origin: Origin, services: Services) -> None:
    url = origin.put("/a.png", PNG, authorization=f"Bearer {SECRET}")
    auth = {"type": "bearer", "token": SECRET}
    credentials = [{"url_pattern": "**", "auth": auth}]
    found = await examined(services, loading("LoadImage", url), credentials=credentials)
    assert found.is_valid
    found = await examined(services, loading("LoadImage", url))
    assert said(found.errors) == [("invalid_input", "prompt.1.inputs.image", "access_denied")]
    assert SECRET not in repr(found)


async def test_a_repository_is_said_to_be_cloned(services: Services) -> None:
    graph = loading("Diffusers", f"https://me:{SECRET}@host/o/style")
    (fetch,) = (await examined(services, graph)).fetches
    assert fetch == Fetch(
        "prompt.1.inputs.model_path", "https://host/o/style", "diffusers", None, False
    )


async def test_every_input_that_cannot_be_had_is_named(
    origin: Origin, services: Services, tmp_path: Path
) -> None:
    sent = [
        ("LoadImage", "nothing.png"),
        ("Lora", "ftp://host/a.safetensors"),
        ("LoadImage", origin.url("/missing.png")),
        ("LoadImage", "upload://mask"),
        ("LoadImage", "upload://face"),
        ("LoadVideo", data_url(b"only text")),
        ("LoadImages", [bare(PNG), bare(PNG)[:-8] + "!" * 8]),
    ]
    found = await examined(services, loading_all(*sent), {"face": upload(tmp_path)})
    assert not found.is_valid
    assert said(found.errors) == [
        ("invalid_input", "prompt.1.inputs.image", "invalid_input"),
        ("invalid_input", "prompt.2.inputs.name", "invalid_input"),
        ("invalid_input", "prompt.3.inputs.image", "object_not_found"),
        ("invalid_input", "prompt.4.inputs.image", "invalid_input"),
        ("invalid_input", "prompt.6.inputs.video", "invalid_input"),
        ("invalid_input", "prompt.7.inputs.directory", "invalid_input"),
    ]


async def test_an_address_that_the_policy_refuses_is_named(
    origin: Origin, services_of: Open
) -> None:
    services = services_of(http_trusted_origins=None)
    found = await examined(services, loading("LoadImage", origin.put("/a.png", PNG)))
    assert said(found.errors) == [("invalid_input", "prompt.1.inputs.image", "host_refused")]
    assert origin.seen == []


async def test_every_class_that_is_missing_is_named(origin: Origin, services_of: Open) -> None:
    engine = loading_engine()
    graph = loading("LoadImage", origin.put("/a.png", PNG))
    graph |= {n: {"class_type": f"Unheard{n}", "inputs": {}} for n in ("7", "8")}
    found = await examined(services_of(engine), graph)
    assert engine.prompts == []
    assert found.missing_nodes == {"7": "Unheard7", "8": "Unheard8"}
    assert not found.is_valid
    assert len(found.fetches) == 1


async def test_a_class_that_another_would_replace_is_not_missing(services_of: Open) -> None:
    graph = loading("Lora", "None")
    graph["7"] = {"class_type": "Renamed", "inputs": {}}
    found = await examined(services_of(loading_engine(replaced={"Renamed"})), graph)
    assert found.is_valid
    assert found.missing_nodes == {}


async def test_models_that_are_missing_are_named(origin: Origin, services_of: Open) -> None:
    there = {"loras": ["a.safetensors"], "checkpoints": ["b.ckpt"]}
    sent = [
        ("Lora", "a.safetensors"),
        ("Lora", "None"),
        ("Lora", "b.ckpt"),
        ("Either", "b.ckpt"),
        ("Either", "c.ckpt"),
        ("Checkpoint", {"__value__": ["b.ckpt", "d.ckpt", origin.put("/e.ckpt", MODEL)]}),
        ("Checkpoint", ["2", 0]),
    ]
    found = await examined(services_of(loading_engine(model_files=there)), loading_all(*sent))
    assert list(found.missing_models) == [
        Missing("prompt.3.inputs.name", "loras", "b.ckpt"),
        Missing("prompt.5.inputs.name", "loras", "c.ckpt"),
        Missing("prompt.6.inputs.name", "checkpoints", "d.ckpt"),
    ]
    assert not found.is_valid


def refusing(*inputs: tuple[str, str]) -> FakeEngine:
    """Return an engine that finds fault with inputs, by node and name."""
    node_errors: dict[str, Any] = {}
    for node_id, name in inputs:
        fault = {"type": "value_not_in_list", "extra_info": {"input_name": name}}
        node_errors.setdefault(node_id, {"class_type": "A", "errors": []})["errors"].append(fault)
    return loading_engine(invalid=InvalidPrompt("No.", details={"node_errors": node_errors}))


async def test_faults_that_a_fetch_will_mend_are_none(origin: Origin, services_of: Open) -> None:
    graph = loading("LoadImage", origin.put("/a.png", PNG), size=3)
    found = await examined(services_of(refusing(("1", "image"))), graph)
    assert found.is_valid
    found = await examined(services_of(refusing(("1", "image"), ("1", "size"))), graph)
    assert not found.is_valid
    names = [error["extra_info"]["input_name"] for error in found.node_errors["1"]["errors"]]
    assert names == ["size"]


async def test_validation_sees_no_address(origin: Origin, services_of: Open) -> None:
    engine = loading_engine()
    url = origin.put("/a.png", PNG) + "?token=planted"
    await examined(services_of(engine), loading("LoadImage", url))
    (validated,) = engine.prompts
    assert "://" not in repr(dict(validated.graph))
    assert "planted" not in repr(dict(validated.graph))


async def test_a_refusal_without_node_errors_is_an_error(services_of: Open) -> None:
    engine = loading_engine(invalid=InvalidPrompt("A cycle.", location="prompt"))
    found = await examined(services_of(engine), loading("Lora", "None"))
    assert said(found.errors) == [("invalid_prompt", "prompt", None)]


@pytest.mark.parametrize(
    ("graph", "expected"),
    [
        ({"1": {"class_type": "EmptyImage", "inputs": {}}}, ("no_output", "prompt", None)),
        (
            {"1": {"class_type": "SaveImage", "inputs": {"filename_prefix": "../a"}}},
            ("invalid_prompt", "prompt.1.inputs.filename_prefix", None),
        ),
    ],
)
async def test_what_would_be_refused_before_validation_is_an_error(
    services: Services, graph: dict[str, Any], expected: tuple[str, str, None]
) -> None:
    found = await examined(services, graph)
    assert said(found.errors) == [expected]
    assert not found.is_valid
