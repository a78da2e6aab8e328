"""202: who gets it, when, and what is told afterwards."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import standardwebhooks

from comfyui_stateless.api.schemas import AcceptedReply, ErrorReply, PromptReply
from comfyui_stateless.errors import InvalidPrompt
from comfyui_stateless.webhooks import check_secret
from tests.accepting import SECRET, loading_engine, loading_graph, messages, png, soon
from tests.api.conftest import Serve, Site
from tests.fakes import FakeEngine, Gate, Play, eventually, graph
from tests.webhooks.receivers import Receiver

ACCEPTING = {"sleep": soon, "key": check_secret(SECRET)}


@pytest.fixture
async def there() -> AsyncIterator[Receiver]:
    receiver = await Receiver().start()
    yield receiver
    await receiver.stop()


async def post(site: Site, **fields: Any) -> tuple[int, Any]:
    async with site.prompt(**fields) as response:
        return response.status, await response.json()


async def arrived(there: Receiver, count: int = 1) -> list[Any]:
    """Wait for messages; return them."""
    await eventually(lambda: len(there.received) >= count)
    return messages(there)


async def recorded(site: Site) -> list[str]:
    """Return the ids of the jobs that the journal holds."""
    return [job.id for job in await site.background._journal.unfinished()]


@pytest.mark.parametrize("field", ["webhook", "webhook_v2"])
async def test_a_webhook_makes_it_a_202_with_the_graph_and_the_fields_of_the_request(
    serve: Serve, there: Receiver, field: str
) -> None:
    gate = Gate()
    site = await serve(FakeEngine(gate))
    fields = {field: there.url, "priority": 2, "convert_output": {"format": "png"}}
    status, body = await post(site, id="a", **fields)
    AcceptedReply.model_validate(body)
    assert status == 202
    assert body.pop("prompt")["2"]["inputs"]["filename_prefix"] == "a_picture"
    assert body == {"id": "a", "status": "ok", **fields}
    assert await recorded(site) == ["a"]
    gate.is_open.set()
    await arrived(there)


async def test_credentials_and_what_nodes_get_are_not_echoed(serve: Serve, there: Receiver) -> None:
    site = await serve()
    secret = {"type": "bearer", "token": "geheim"}
    _, body = await post(
        site,
        webhook_v2=f"{there.url}?token=geheim",
        credentials=[{"url_pattern": "**", "auth": secret}],
        extra_data={"api_key_comfy_org": "geheim", "extra_pnginfo": {}},
    )
    assert "geheim" not in json.dumps(body)
    assert not {"credentials", "extra_data"} & body.keys()
    (message,) = await arrived(there)
    assert "geheim" not in json.dumps(message)


async def test_the_message_has_what_a_synchronous_reply_would_have_had(
    serve: Serve, there: Receiver
) -> None:
    async def outputs(play: Play) -> None:
        play.image("a/b_00001_.png")
        play.file("c.wav", b"RIFF\0\0\0\0WAVEfmt ")
        play.text("seen")

    site = await serve(FakeEngine(outputs), accepting=ACCEPTING)
    _, reply = await post(site, id="a", convert_output={"format": "png"})
    assert (await post(site, id="a", convert_output={"format": "png"}, webhook_v2=there.url))[
        0
    ] == 202
    (message,) = await arrived(there)
    assert (message.pop("type"), message.pop("webhook_v2")) == ("prompt.complete", there.url)
    assert message.pop("timestamp").endswith("Z")
    PromptReply.model_validate(message)
    without_times = [{**said, "stats": None} for said in (reply, message)]
    assert without_times[0] == without_times[1]
    got = there.received[0]
    assert got.headers["content-type"] == "application/json"
    assert standardwebhooks.Webhook(SECRET).verify(got.body, got.headers)["id"] == "a"


async def test_the_older_webhook_is_told_of_each_output_unsigned(
    serve: Serve, there: Receiver
) -> None:
    async def two(play: Play) -> None:
        play.file("a.bin", b"first")
        play.file("b.bin", b"second")

    site = await serve(FakeEngine(two), accepting=ACCEPTING)
    status, _ = await post(site, id="a", webhook=there.url)
    assert status == 202
    found = await arrived(there, 2)
    assert [(m["event"], m["id"], m["filename"]) for m in found] == [
        ("output.complete", "a", "a.bin"),
        ("output.complete", "a", "b.bin"),
    ]
    assert [base64.b64decode(m["image"]) for m in found] == [b"first", b"second"]
    assert {m["prompt"]["2"]["inputs"]["filename_prefix"] for m in found} == {"a_picture"}
    assert all("webhook-signature" not in got.headers for got in there.received)


async def test_the_older_webhook_is_told_of_a_failure(serve: Serve, there: Receiver) -> None:
    async def fails(play: Play) -> None:
        raise InvalidPrompt("The node said no.")

    site = await serve(FakeEngine(fails))
    await post(site, id="a", webhook=there.url)
    (message,) = await arrived(there)
    prompt = message.pop("prompt")
    assert message == {"event": "prompt.failed", "error": "The node said no.", "id": "a"}
    assert set(prompt) == {"1", "2"}


async def test_beside_the_newer_webhook_the_older_is_ignored(serve: Serve, there: Receiver) -> None:
    ignored = await Receiver().start()
    site = await serve()
    status, body = await post(site, webhook=ignored.url, webhook_v2=there.url)
    assert (status, body["webhook"], body["webhook_v2"]) == (202, ignored.url, there.url)
    await arrived(there)
    await site.stop()
    await ignored.stop()
    assert ignored.received == []


async def test_beside_the_newer_webhook_the_older_may_be_anything(
    serve: Serve, there: Receiver
) -> None:
    site = await serve()
    status, _ = await post(site, webhook="ftp://nowhere", webhook_v2=there.url)
    assert status == 202
    await arrived(there)


REFUSED = {
    "another scheme": "ftp://host/hook",
    "a file": "file:///etc/passwd",
    "no URL": "not a url",
    "no host": "http:///hook",
    "this machine": "http://127.0.0.1/hook",
    "an address of metadata": "http://169.254.169.254/latest",
    "an odd spelling of this machine": "http://2130706433/",
}


@pytest.mark.parametrize("url", REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("field", ["webhook", "webhook_v2"])
async def test_a_webhook_that_can_never_be_delivered_to_is_a_400_at_once(
    serve: Serve, field: str, url: str
) -> None:
    site = await serve(http_trusted_origins="")
    status, body = await post(site, **{field: url})
    ErrorReply.model_validate(body)
    assert (status, body["location"]) == (400, field)
    assert body["error"].startswith(f"{field}: ")
    assert site.engine.prompts == []
    assert await recorded(site) == []


async def test_a_webhook_whose_name_nobody_knows_now_is_accepted(serve: Serve) -> None:
    site = await serve(FakeEngine(Gate()))
    status, _ = await post(site, webhook_v2="https://no-such-host.invalid/hook")
    assert status == 202


async def test_a_request_that_is_wrong_gets_its_4xx_and_is_not_recorded(
    serve: Serve, there: Receiver
) -> None:
    site = await serve(loading_engine(invalid=InvalidPrompt("No.", location="prompt")))
    wrong: list[tuple[dict[str, Any], str]] = [
        ({}, "prompt"),
        ({"prompt": {}}, "prompt"),
        ({"timeout_s": -1}, "timeout_s"),
        ({"prompt": loading_graph(f"{there.origin}/no-image")}, "prompt.load-0.inputs.image"),
        ({"prompt": loading_graph("nothing.png")}, "prompt.load-0.inputs.image"),
        ({"s3": {"bucket": ""}}, "s3.bucket"),
        ({"s3": {"bucket": "b"}, "http_upload": {"url_prefix": "http://h"}}, ""),
        ({"azure_blob_upload": {"container": "c"}}, "azure_blob_upload"),
    ]
    for fields, location in wrong:
        status, body = await post(site, **{"webhook_v2": there.url, **fields})
        assert (status, body.get("location", "")) == (400, location)
        assert await recorded(site) == []
    assert site.engine.ran == []
    assert [got for got in there.received if got.path == "/hook"] == []


async def test_a_202_comes_only_when_the_inputs_are_there(serve: Serve, there: Receiver) -> None:
    fetched = asyncio.Event()

    async def later() -> int:
        await fetched.wait()
        return 200

    origin = await Receiver([Image(later)]).start()
    gate = Gate()
    site = await serve(loading_engine(gate))
    graph_with_image = loading_graph(f"{origin.origin}/a.png")
    asking = asyncio.ensure_future(post(site, webhook_v2=there.url, prompt=graph_with_image))
    await eventually(lambda: bool(origin.received))
    assert await recorded(site) == []
    assert not asking.done()
    fetched.set()
    status, body = await asking
    assert status == 202
    assert body["prompt"]["load-0"]["inputs"]["image"].endswith(".png")
    assert "http" not in json.dumps(body["prompt"])
    await origin.stop()
    gate.is_open.set()
    await arrived(there)


class Image:
    """An answer with a picture, when it is let."""

    def __init__(self, ready: Any) -> None:
        self._ready = ready

    async def __call__(self) -> Any:
        await self._ready()
        return aiohttp.web.Response(body=png(1), content_type="image/png")


async def test_a_form_with_files_can_be_accepted_too(serve: Serve, there: Receiver) -> None:
    gate = Gate()
    site = await serve(loading_engine(gate))
    form = aiohttp.FormData()
    sent = {"id": "a", "webhook_v2": there.url, "prompt": loading_graph("upload://part")}
    form.add_field("request", json.dumps(sent), content_type="application/json")
    form.add_field("part", png(1), filename="a.png")
    async with site.client.post("/prompt", data=form) as response:
        assert response.status == 202
        assert (await response.json())["id"] == "a"
    assert len(site.engine.inputs) == 1
    gate.is_open.set()
    (message,) = await arrived(there)
    assert message["type"] == "prompt.complete"
    await eventually(lambda: not any(folder.exists() for folder in site.engine.workspaces))
    assert site.engine.inputs == {}


async def test_a_client_that_hangs_up_after_its_202_stops_nothing(
    serve: Serve, there: Receiver
) -> None:
    gate = Gate()
    site = await serve(FakeEngine(gate))
    async with aiohttp.ClientSession() as session:
        sent = {"prompt": graph(), "webhook_v2": there.url}
        async with session.post(site.client.make_url("/prompt"), json=sent) as response:
            assert response.status == 202
    await asyncio.sleep(0.3)
    assert site.engine.stopped == []
    gate.is_open.set()
    (message,) = await arrived(there)
    assert message["type"] == "prompt.complete"


@pytest.mark.parametrize("accept", ["text/event-stream", "image/png", "application/zip"])
async def test_whatever_a_client_takes_a_202_is_json(
    serve: Serve, there: Receiver, accept: str
) -> None:
    site = await serve()
    async with site.prompt(accept, webhook_v2=there.url) as response:
        assert (response.status, response.content_type) == (202, "application/json")
    await arrived(there)


async def test_an_interrupt_reaches_an_accepted_job_that_waits(
    serve: Serve, there: Receiver
) -> None:
    site = await serve(FakeEngine(Gate()))
    for name in ("a", "b", "c"):
        await post(site, id=name, webhook_v2=there.url)
    async with site.client.post("/interrupt", json={"id": "c"}) as response:
        assert (response.status, await response.json()) == (
            200,
            {"id": "c", "interrupted": "success"},
        )
    (message,) = await arrived(there)
    assert (message["id"], message["type"], message["code"]) == (
        "c",
        "prompt.failed",
        "interrupted",
    )
    assert await recorded(site) == ["a", "b"]


async def test_a_job_that_is_interrupted_while_its_inputs_are_fetched_is_not_accepted(
    serve: Serve, there: Receiver
) -> None:
    async def never() -> int:
        await asyncio.Event().wait()
        raise AssertionError

    origin = await Receiver([never]).start()
    site = await serve(loading_engine())
    asking = asyncio.ensure_future(
        post(site, id="a", webhook_v2=there.url, prompt=loading_graph(f"{origin.origin}/a.png"))
    )
    await eventually(lambda: bool(origin.received))
    async with site.client.post("/interrupt", json={"id": "a"}) as response:
        assert response.status == 200
    status, body = await asking
    assert (status, body["code"]) == (409, "interrupted")
    assert await recorded(site) == []
    await origin.stop()
