"""Outputs that go to storages: with 202 and with 200, to each kind of storage."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from comfyui_stateless.api.schemas import AcceptedReply, PromptReply
from comfyui_stateless.config import AzureAccount
from tests.accepting import messages
from tests.api.conftest import Serve, Site
from tests.fakes import FakeEngine, Gate, Play, eventually
from tests.storage.azurite import CONTAINER, Azurite, azurite
from tests.storage.hub import WRITER, Hub, running
from tests.storage.seaweed import ADMIN, BUCKET, Seaweed, seaweed
from tests.uploads.receiver import Answer, receiving
from tests.uploads.receiver import Receiver as Storage
from tests.webhooks.receivers import Receiver

LARGE = b"0123456789" * 900_000


@pytest.fixture
async def there() -> AsyncIterator[Receiver]:
    receiver = await Receiver().start()
    yield receiver
    await receiver.stop()


@pytest.fixture
def storage() -> Iterator[Storage]:
    with receiving() as running_storage:
        yield running_storage


def target(storage: Storage, **fields: Any) -> dict[str, Any]:
    return {"http_upload": {"url_prefix": f"{storage.origin}/out", **fields}}


async def post(site: Site, **fields: Any) -> tuple[int, Any]:
    async with site.prompt(id="a", **fields) as response:
        return response.status, await response.json()


async def two(play: Play) -> None:
    play.image("sub/a b_00001_.png")
    play.file("large.mp4", LARGE)


NAMES = ["sub/a b_00001_.png", "large.mp4"]


class Place:
    """A storage of some kind, that says what has come to it.

    Attributes:
        fields: The request's.
        settings: The operator's.
        urls: Where the outputs of ``two`` have to be.
    """

    fields: dict[str, Any]
    settings: dict[str, Any]
    urls: list[str]

    def content(self, name: str) -> bytes:
        raise NotImplementedError


class OfS3(Place):
    def __init__(self, server: Seaweed, environment: pytest.MonkeyPatch) -> None:
        environment.setenv("AWS_ENDPOINT_URL", server.origin)
        environment.setenv("AWS_ACCESS_KEY_ID", ADMIN.access_key_id)
        secret = ADMIN.secret_access_key.get_secret_value()
        environment.setenv("AWS_SECRET_ACCESS_KEY", secret)
        environment.setenv("AWS_EC2_METADATA_DISABLED", "true")
        self._server = server
        self.settings = {}
        self.fields = {"s3": {"bucket": BUCKET, "prefix": "jobs/x-"}}
        self.urls = [f"s3://{BUCKET}/jobs/x-{name}" for name in NAMES]

    def content(self, name: str) -> bytes:
        found: bytes = self._server.raw.get_object(Bucket=BUCKET, Key=f"jobs/x-{name}")[
            "Body"
        ].read()
        return found


class OfAzure(Place):
    def __init__(self, server: Azurite) -> None:
        account: AzureAccount = server.account()
        self._server = server
        self.settings = {"azure_storage_connection_string": account.connection_string}
        self.fields = {"azure_blob_upload": {"container": CONTAINER, "blob_prefix": "jobs/x-"}}
        self.urls = [
            f"{server.endpoint()}/{CONTAINER}/jobs/x-{name.replace(' ', '%20')}" for name in NAMES
        ]

    def content(self, name: str) -> bytes:
        found: bytes = self._server.raw.download_blob(f"jobs/x-{name}").readall()
        return found


class OfTheHub(Place):
    def __init__(self, hub: Hub) -> None:
        hub.repo("someone/things")
        self.hub = hub
        self.settings = {"hf_endpoint": hub.url, "hf_token": WRITER}
        self.fields = {"hf_upload": {"repo": "someone/things", "directory": "jobs"}}
        self.urls = [
            f"https://huggingface.co/someone/things/resolve/main/jobs/{name.replace(' ', '%20')}"
            for name in NAMES
        ]

    def content(self, name: str) -> bytes:
        return self.hub.content("someone/things", f"jobs/{name}")


class OfHttp(Place):
    def __init__(self, server: Storage) -> None:
        self._server = server
        self.settings = {}
        self.fields = target(server)
        self.urls = [f"{server.origin}/out/{name.replace(' ', '%20')}" for name in NAMES]

    def content(self, name: str) -> bytes:
        raise AssertionError("only digests are kept")

    def digest(self, name: str) -> str:
        return self._server.received[f"/out/{name}"].digest


@pytest.fixture(scope="module")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seaweed]:
    with seaweed(tmp_path_factory.mktemp("seaweed")) as server:
        yield server


@pytest.fixture(scope="module")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Azurite]:
    with azurite(tmp_path_factory.mktemp("azurite")) as server:
        yield server


@pytest.fixture(params=["s3", "azure", "hub", "http"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    if request.param == "s3":
        yield OfS3(request.getfixturevalue("s3"), monkeypatch)
    elif request.param == "azure":
        yield OfAzure(request.getfixturevalue("azure"))
    elif request.param == "hub":
        with running(Hub()) as hub:
            yield OfTheHub(hub)
    else:
        yield OfHttp(request.getfixturevalue("storage"))


def digests(place: Place) -> list[str]:
    if isinstance(place, OfHttp):
        return [place.digest(name) for name in NAMES]
    return [hashlib.sha256(place.content(name)).hexdigest() for name in NAMES]


def with_async(fields: dict[str, Any], value: bool) -> dict[str, Any]:
    ((name, block),) = fields.items()
    return {name: {**block, "async": value}}


async def test_an_upload_that_is_waited_for_is_a_200_with_urls_in_place_of_images(
    serve: Serve, place: Place
) -> None:
    site = await serve(FakeEngine(two), **place.settings)
    fields = with_async(place.fields, value=False)
    status, body = await post(site, **fields)
    PromptReply.model_validate(body)
    assert status == 200, body
    assert body["images"] == place.urls
    assert body["filenames"] == NAMES
    assert [output["media_type"] for output in body["outputs"]] == ["image/png", "video/mp4"]
    ((name, block),) = fields.items()
    assert body[name] == block
    found = await asyncio.to_thread(digests, place)
    assert found[1] == hashlib.sha256(LARGE).hexdigest()
    assert body["stats"]["upload_time"] >= 0


@pytest.mark.parametrize("said", [True, None], ids=["true", "omitted"])
async def test_an_upload_is_a_202_where_it_is_not_waited_for(
    serve: Serve, there: Receiver, place: Place, said: bool | None
) -> None:
    gate = Gate()

    async def later(play: Play) -> None:
        await gate.is_open.wait()
        await two(play)

    site = await serve(FakeEngine(later), **place.settings)
    fields = place.fields if said is None else with_async(place.fields, value=said)
    status, body = await post(site, **fields)
    AcceptedReply.model_validate(body)
    assert (status, body["id"], body["status"]) == (202, "a", "ok")
    ((name, block),) = fields.items()
    assert body[name] == block
    gate.is_open.set()
    job = site.services.jobs.find("a")
    await eventually(lambda: job is not None and job.state.is_terminal, within_s=20)
    async with site.client.get("/prompt/a") as response:
        found = await response.json()
    assert (found["state"], found["images"]) == ("succeeded", place.urls)
    assert (await asyncio.to_thread(digests, place))[1] == hashlib.sha256(LARGE).hexdigest()


@pytest.mark.parametrize("said", [True, False, None])
@pytest.mark.parametrize("field", ["webhook", "webhook_v2"])
async def test_any_webhook_means_202_and_the_message_has_the_url(
    serve: Serve, there: Receiver, storage: Storage, field: str, said: bool | None
) -> None:
    site = await serve()
    fields = target(storage) if said is None else with_async(target(storage), value=said)
    status, _ = await post(site, **{field: there.url}, **fields)
    assert status == 202
    await eventually(lambda: bool(there.received))
    (message,) = messages(there)
    url = f"{storage.origin}/out/a_picture_00001_.png"
    assert (message.get("images") or [message.get("image")]) == [url]
    assert set(storage.received) == {"/out/a_picture_00001_.png"}


async def test_all_outputs_are_there_when_a_webhook_tells_of_them(
    serve: Serve, there: Receiver, storage: Storage
) -> None:
    hold = storage.hold("/out/large.mp4")
    site = await serve(FakeEngine(two))
    await post(site, webhook_v2=there.url, **target(storage))
    assert await asyncio.to_thread(hold.reached.wait, 10)
    assert there.received == []
    hold.released.set()
    await eventually(lambda: bool(there.received))
    assert storage.came("/out/large.mp4", LARGE)


async def test_an_output_is_uploaded_while_later_nodes_run(serve: Serve, storage: Storage) -> None:
    gate = Gate()

    async def early(play: Play) -> None:
        play.image("first_00001_.png")
        await gate(play)

    site = await serve(FakeEngine(early))
    await post(site, **target(storage))
    await eventually(lambda: "/out/first_00001_.png" in storage.received)
    assert not gate.is_open.is_set()
    gate.is_open.set()
    await eventually(lambda: "/out/a_picture_00001_.png" in storage.received)


async def test_an_upload_that_fails_is_a_502_that_lists_what_is_there(
    serve: Serve, storage: Storage
) -> None:
    async def early(play: Play) -> None:
        play.early_file("a.bin", b"a")
        await eventually(lambda: "/out/a.bin" in storage.received)
        play.early_file("b.bin", b"b")

    storage.answers["/out/b.bin"] = [Answer(403)]
    site = await serve(FakeEngine(early))
    status, body = await post(site, **with_async(target(storage), value=False))
    assert (status, body["code"]) == (502, "delivery_failed")
    assert body["details"] == {
        "reason": "access_denied",
        "uploaded": [f"{storage.origin}/out/a.bin"],
    }


async def test_a_second_upload_to_the_same_url_ends_the_first_and_its_webhook_says_so(
    serve: Serve, there: Receiver, storage: Storage
) -> None:
    async def script(play: Play) -> None:
        play.file("large.mp4", LARGE)

    hold = storage.hold("/out/large.mp4")
    site = await serve(FakeEngine(script))
    async with site.prompt(id="old", webhook_v2=there.url, **target(storage)) as response:
        assert response.status == 202
    assert await asyncio.to_thread(hold.reached.wait, 10)
    async with site.prompt(id="new", webhook_v2=there.url, **target(storage)) as response:
        assert response.status == 202
    await eventually(lambda: bool(site.engine.ran[1:]))
    hold.released.set()
    await eventually(lambda: len(there.received) == 2, within_s=20)
    found = {message["id"]: message for message in messages(there)}
    assert (found["old"]["type"], found["old"]["code"]) == ("prompt.failed", "superseded")
    assert found["new"]["type"] == "prompt.complete"
    assert storage.came("/out/large.mp4", LARGE)


async def test_the_hub_gets_one_commit_for_a_job(serve: Serve) -> None:
    with running(Hub()) as hub:
        place = OfTheHub(hub)
        site = await serve(FakeEngine(two), **place.settings)
        status, _ = await post(site, **with_async(place.fields, value=False))
        assert status == 200
        assert len(hub.repos["someone/things"].commits) == 2  # the first is the repository's own


async def test_an_upload_that_a_restart_cut_off_is_made_again(
    serve: Serve, there: Receiver, storage: Storage
) -> None:
    hold = storage.hold("/out/large.mp4")
    site = await serve(FakeEngine(two))
    await post(site, webhook_v2=there.url, **target(storage))
    assert await asyncio.to_thread(hold.reached.wait, 10)
    stopping = asyncio.ensure_future(site.stop())
    await asyncio.sleep(0.05)
    hold.released.set()
    await stopping
    assert there.received == []

    again = await serve(FakeEngine(two))
    await again.background.resume()
    await eventually(lambda: bool(there.received), within_s=20)
    (message,) = messages(there)
    assert message["images"][1] == f"{storage.origin}/out/large.mp4"
    assert storage.came("/out/large.mp4", LARGE)


async def test_secrets_of_an_upload_s_address_are_used_and_told_to_nobody(
    serve: Serve, there: Receiver, storage: Storage
) -> None:
    site = await serve()
    prefix = f"{storage.origin.replace('//', '//user:geheim@')}/out?sig=geheim"
    fields = {"http_upload": {"url_prefix": prefix, "async": False}}
    status, body = await post(site, **fields)
    assert status == 200
    assert "geheim" not in json.dumps(body)
    assert body["images"] == [f"{storage.origin}/out/a_picture_00001_.png"]
    (got,) = storage.received.values()
    assert got.target.endswith("?sig=geheim")
    assert (got.authorization or "").startswith("Basic ")
    await post(site, webhook_v2=there.url, **fields)
    await eventually(lambda: bool(there.received))
    assert b"geheim" not in there.received[0].body


async def test_two_uploads_at_once_are_a_400(serve: Serve) -> None:
    site = await serve()
    status, body = await post(
        site, s3={"bucket": "b"}, http_upload={"url_prefix": "http://127.0.0.1"}
    )
    assert status == 400
    assert "http_upload, s3" in body["error"]
    assert site.engine.prompts == []
