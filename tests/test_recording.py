from __future__ import annotations

import asyncio
import base64
import json
import logging
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from comfyui_stateless.bodies import json_body
from comfyui_stateless.engine import InputFile, OutputFile, PromptResult
from comfyui_stateless.errors import (
    DeliveryFailed,
    ExecutionError,
    ExecutionInterrupted,
    Gone,
    RequestError,
    StatelessError,
    StorageError,
    Unavailable,
)
from comfyui_stateless.journal import DueMessage, IdempotencyKey, Message
from comfyui_stateless.journal.journal import Journal, Limits
from comfyui_stateless.messages import messages_for
from comfyui_stateless.recording import (
    Kept,
    Recorded,
    accepted_reply,
    error_of,
    new_job,
    recorded_files,
    recorded_reply,
    recorded_request,
    result_of,
)
from tests.accepting import (
    OUTPUTS,
    Live,
    Loaded,
    lives,
    loading_graph,
    messages,
    png,
    prepared,
    request,
    result,
)
from tests.fakes import Gate, eventually, graph
from tests.storage.file_server import file_server
from tests.webhooks.receivers import Receiver, asleep

pytestmark = pytest.mark.usefixtures("plain_environment")

HOOK = "https://user:pass@receiver.example/hook?token=1"

REQUESTS: dict[str, dict[str, Any]] = {
    "a graph alone": {},
    "a webhook": {"webhook_v2": HOOK},
    "the older webhook": {"webhook": HOOK},
    "both": {"webhook": HOOK, "webhook_v2": HOOK},
    "a time and a place in the queue": {"timeout_s": 3, "priority": -2},
    "JPEG": {"convert_output": {"format": "jpg", "options": {"quality": 3, "progressive": True}}},
    "WebP": {"convert_output": {"format": "webp", "options": {"lossless": True}}},
    "PNG": {"convert_output": {"format": "png"}},
    "AVIF": {"convert_output": {"format": "avif", "options": {"quality": 30}}},
    "a bucket": {"s3": {"bucket": "outputs", "prefix": "a/", "async": True}},
    "a container": {"azure_blob_upload": {"container": "outputs", "blob_prefix": "a/"}},
    "a repository": {
        "hf_upload": {"repo": "some/one", "repo_type": "dataset", "directory": "d", "async": False}
    },
    "URLs": {"http_upload": {"url_prefix": "https://user:pass@host/x?sig=1"}},
    "data for nodes": {"extra_data": {"extra_pnginfo": {"workflow": {"nodes": []}}, "other": 1}},
    "an id that is no file name": {"id": "../a\n\0b/\U0001f600"},
}


@pytest.fixture
async def live(tmp_path: Path) -> AsyncIterator[Live]:
    async for start in lives(tmp_path):
        yield start


@pytest.fixture
async def there() -> AsyncIterator[Receiver]:
    receiver = await Receiver().start()
    yield receiver
    await receiver.stop()


# Records of jobs


@pytest.mark.parametrize("fields", REQUESTS.values(), ids=REQUESTS)
def test_a_request_is_the_same_when_it_is_read_again(fields: dict[str, Any]) -> None:
    sent = request(**fields)
    job = new_job(sent, prepared(), None)
    read = recorded_request(job.request)
    assert read.request.model_dump(exclude={"extra_data"}) == sent.model_dump(
        exclude={"extra_data"}
    )
    assert read.request.extra_data == (sent.extra_data or {})
    assert read.request.echo() == sent.echo()
    assert read.request.is_async is sent.is_async
    assert read.graph == graph("a_picture")
    assert job.needs_secrets is False
    assert recorded_reply(job.request) == accepted_reply(sent, graph("a_picture"))


def test_a_record_is_read_whatever_a_pack_has_made_of_json(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = request()
    job = new_job(sent, prepared(), None)
    for name in ("dumps", "loads"):
        monkeypatch.setattr(json, name, lambda *_, **__: {})
    assert recorded_request(job.request).request.echo() == sent.echo()


def test_a_record_has_files_in_place_of_what_was_fetched_and_names_of_models(
    tmp_path: Path,
) -> None:
    (path := tmp_path / "image").write_bytes(b"content")
    sent_graph = {
        "1": {"class_type": "A", "inputs": {"image": "https://user:geheim@host/a.png?sig=geheim"}},
        "2": {"class_type": "B", "inputs": {"ckpt_name": "https://host/m.safetensors?sig=geheim"}},
        "3": {"class_type": "C", "inputs": {"directory": ["https://host/1", "https://host/2"]}},
    }
    files = [InputFile(path, digest * 64, ".png") for digest in "abc"]
    graph_as_prepared = {
        "1": {"class_type": "A", "inputs": {"image": "local.png"}},
        "2": {"class_type": "B", "inputs": {"ckpt_name": "m-1234.safetensors"}},
        "3": {"class_type": "C", "inputs": {"directory": "folder"}},
    }
    fetched: dict[tuple[str, str], tuple[InputFile, ...]] = {
        ("1", "image"): (files[0],),
        ("2", "ckpt_name"): (),
        ("3", "directory"): (files[1], files[2]),
    }
    job = new_job(
        request(prompt=sent_graph), prepared(graph=graph_as_prepared, fetched=fetched), None
    )
    inputs = {n: node["inputs"] for n, node in recorded_request(job.request).request.prompt.items()}
    assert inputs == {
        "1": {"image": f"upload://{'a' * 64}.png"},
        "2": {"ckpt_name": "m-1234.safetensors"},
        "3": {"directory": [f"upload://{'b' * 64}.png", f"upload://{'c' * 64}.png"]},
    }
    assert set(job.files) == {f"{digest * 64}.png" for digest in "abc"}
    assert b"geheim" not in job.request


async def test_recorded_files_come_back_with_their_digests(tmp_path: Path) -> None:
    (small := tmp_path / "small").write_bytes(b"small")
    (large := tmp_path / "large").write_bytes(b"l" * 100_000)
    files = [InputFile(small, "a" * 64, ".png"), InputFile(large, "b" * 64, "")]
    journal = await Journal.open(tmp_path / "state")
    try:
        fetched = {("1", "width"): tuple(files)}
        await journal.accept(new_job(request(), prepared(fetched=fetched), None))
        contents = await journal.job_contents("run")
        (folder := tmp_path / "workspace").mkdir()
        found = recorded_files(contents, lambda: folder)
    finally:
        await journal.close()
    assert {
        name: (file.digest, file.extension, file.path.read_bytes()) for name, file in found.items()
    } == {
        f"{'a' * 64}.png": ("a" * 64, ".png", b"small"),
        "b" * 64: ("b" * 64, "", b"l" * 100_000),
    }


@pytest.mark.parametrize(
    "name", ["api_key_comfy_org", "auth_token_comfy_org", "my_secret", "PASSWORD", "Credentials"]
)
def test_what_is_secret_in_extra_data_is_not_recorded_and_is_known_to_be_missing(name: str) -> None:
    job = new_job(request(extra_data={name: "geheim", "other": 1}), prepared(), None)
    assert job.needs_secrets is True
    assert b"geheim" not in job.request
    assert recorded_request(job.request).request.extra_data == {"other": 1}


@pytest.mark.parametrize(
    "value", [{"deep": {"api_key": "geheim"}}, [{"Token": "geheim"}], {"a": [[{"auth": "geheim"}]]}]
)
def test_what_is_secret_below_the_top_of_extra_data_is_not_recorded_either(value: Any) -> None:
    job = new_job(request(extra_data={"pack": value, "other": [{"a": 1}]}), prepared(), None)
    assert job.needs_secrets is True
    assert b"geheim" not in job.request
    assert recorded_request(job.request).request.extra_data == {"other": [{"a": 1}]}


def test_what_is_for_the_files_is_no_secret_whatever_it_names() -> None:
    extra = {"extra_pnginfo": {"workflow": {"nodes": [{"type": "KeyFrame", "key": 1}]}}}
    job = new_job(request(extra_data=extra), prepared(), None)
    assert job.needs_secrets is False
    assert recorded_request(job.request).request.extra_data == extra


# Messages


def body_of(message: DueMessage) -> Any:
    assert not isinstance(message.body, (bytes, Path))
    return json.loads(b"".join(message.body))


def test_the_signed_message_has_the_fields_of_the_reply() -> None:
    sent = request(id="a", webhook_v2=HOOK, webhook="https://other.example/")
    outcome = result(priority=1)
    (message,) = messages_for(sent, graph("a_p"), outcome)
    said = body_of(message)
    reply = json.loads(b"".join(bytes(c) for part in json_body(outcome) for c in part.chunks()))
    assert (message.url, message.is_signed) == (HOOK, True)
    assert (said.pop("type"), len(said.pop("timestamp"))) == ("prompt.complete", 24)
    assert said == reply
    assert said["images"] == [
        base64.b64encode(b"pixels").decode(),
        base64.b64encode(b"sound").decode(),
    ]


def test_the_signed_message_of_a_failure_has_the_error_s_fields_beside_the_graph() -> None:
    error = DeliveryFailed("No.", location="s3", details={"uploaded": ["s3://a/b"]})
    (message,) = messages_for(request(id="a", webhook_v2=HOOK), graph("a_p"), error)
    said = body_of(message)
    assert said.pop("timestamp").endswith("Z")
    assert said == {
        "type": "prompt.failed",
        "id": "a",
        "prompt": graph("a_p"),
        "error": "No.",
        "code": "delivery_failed",
        "location": "s3",
        "details": {"uploaded": ["s3://a/b"]},
    }


@pytest.mark.parametrize("urls", [None, ("s3://o/1", "s3://o/2")], ids=["base64", "URLs"])
def test_the_older_webhook_gets_a_message_for_each_output(urls: tuple[str, ...] | None) -> None:
    found = messages_for(request(id="a", webhook=HOOK), graph("a_p"), result(urls))
    images = urls or [base64.b64encode(content).decode() for content in (b"pixels", b"sound")]
    assert [body_of(message) for message in found] == [
        {
            "event": "output.complete",
            "image": image,
            "id": "a",
            "filename": output.filename,
            "prompt": graph("a_p"),
            "stats": {"total_time": 1},
        }
        for image, output in zip(images, OUTPUTS, strict=True)
    ]
    assert [(message.url, message.is_signed) for message in found] == [(HOOK, False)] * 2
    assert len({message.message_id for message in found}) == 2


def test_the_older_webhook_gets_one_message_of_a_failure() -> None:
    found = messages_for(request(id="a", webhook=HOOK), graph("a_p"), ExecutionError("No."))
    assert [body_of(message) for message in found] == [
        {"event": "prompt.failed", "error": "No.", "id": "a", "prompt": graph("a_p")}
    ]
    assert not found[0].is_signed


def test_without_a_webhook_nothing_is_due() -> None:
    sent = request(s3={"bucket": "outputs"})
    assert messages_for(sent, {}, result()) == messages_for(sent, {}, ExecutionError("No.")) == []


@pytest.mark.parametrize("how", [{"webhook_v2": HOOK}, {"webhook": HOOK}, {}], ids=str)
async def test_an_output_that_went_away_is_a_job_that_failed(
    journal: Journal, tmp_path: Path, how: dict[str, Any]
) -> None:
    sent, sending = request(id="a", **how), list[Message]()
    record = Recorded(sent, "run", journal, sending.append, accept=lambda _: None)
    await record.accepted(prepared())
    gone = OutputFile("2", "a.bin", "file", "x/y", tmp_path / "gone", 2, None, None)
    await record.ended(PromptResult("a", {}, (*OUTPUTS, gone), (), {}, {}))
    assert await journal.unfinished() == []
    stored = await journal.result("a")
    assert stored is not None
    with pytest.raises(StatelessError, match="No such file") as caught:
        result_of(stored)
    assert caught.value.code == "folder_failed"
    bodies = [json.loads((await journal.body(each.message_id)).read()) for each in sending]
    said = [body.get("type") or body["event"] for body in bodies]
    assert said == (["prompt.failed"] if how else [])


# Results of callers who wait


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    journal = await Journal.open(tmp_path / "state", Limits(result_max_bytes=10_000))
    yield journal
    await journal.close()


KEY = IdempotencyKey("key", "digest")


async def keep(journal: Journal, outcome: PromptResult | StatelessError) -> None:
    kept = Kept(request(id="a"), "run", journal, KEY)
    await kept.accepted(prepared())
    await kept.ended(outcome)


async def test_a_result_is_kept_for_repeats_of_its_key(journal: Journal) -> None:
    await keep(journal, result(priority=1))
    assert await journal.key("key") is not None
    stored = await journal.result_of_run("run")
    assert stored is not None
    assert error_of(stored) is None
    assert result_of(stored) == result(priority=1)


async def test_a_failure_is_kept_too(journal: Journal) -> None:
    await keep(journal, ExecutionError("No.", details={"node_id": "1"}))
    stored = await journal.result_of_run("run")
    assert stored is not None
    with pytest.raises(StatelessError, match="No") as caught:
        result_of(stored)
    assert (caught.value.status, caught.value.body()) == (
        500,
        {"error": "No.", "code": "execution_error", "details": {"node_id": "1"}},
    )


@pytest.mark.parametrize(
    "error",
    [RequestError("Wrong."), ExecutionInterrupted("Left."), Unavailable("It ends.")],
    ids=lambda error: error.code,
)
async def test_what_has_not_come_to_an_end_of_its_own_leaves_its_key_free(
    journal: Journal, error: StatelessError
) -> None:
    await keep(journal, error)
    assert await journal.key("key") is None


async def test_a_result_that_cannot_be_kept_is_no_failure(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Failing(Journal):
        async def store_result(self, *arguments: Any) -> None:
            raise StorageError("disk full.")

    journal = await Failing.open(tmp_path / "state")
    await keep(journal, result())
    await journal.close()
    assert "disk full" in caplog.text


async def test_outputs_for_which_there_was_no_room_are_gone(journal: Journal) -> None:
    large = OutputFile("2", "a.bin", "file", "x/y", bytes(20_000), 20_000, None, None)
    await keep(journal, PromptResult("a", {}, (*OUTPUTS, large), (), {}, {}))
    stored = await journal.result_of_run("run")
    assert stored is not None
    with pytest.raises(Gone, match="RESULT_MAX_BYTES"):
        result_of(stored)


# Secrets


SECRETS = tuple(f"geheim-{number}-49c1" for number in range(12))
CREDENTIALS = [
    {"url_pattern": "**/bearer.png", "auth": {"type": "bearer", "token": SECRETS[0]}},
    {
        "url_pattern": "**/basic.png",
        "auth": {"type": "basic", "username": "user", "password": SECRETS[1]},
    },
    {
        "url_pattern": "**/header.png",
        "auth": {"type": "header", "header_name": "X-A", "header_value": SECRETS[2]},
    },
    {
        "url_pattern": "**/query.png",
        "auth": {"type": "query", "query_param": "sig", "query_value": SECRETS[3]},
    },
    {
        "url_pattern": "s3://**",
        "auth": {
            "type": "s3",
            "access_key_id": SECRETS[4],
            "secret_access_key": SECRETS[5],
            "session_token": SECRETS[6],
        },
    },
]  # fmt: skip
PLACES = ("bearer", "basic", "header", "query", "userinfo", "signed")


def with_secrets(origin: str, webhook: str) -> dict[str, Any]:
    """Return a request with a secret wherever one may be."""
    urls = [f"{origin}/{name}.png" for name in PLACES[:4]]
    host = origin.removeprefix("http://")
    urls += [f"http://user:{SECRETS[7]}@{host}/userinfo.png"]
    urls += [f"{origin}/signed.png?X-Amz-Signature={SECRETS[8]}"]
    return {
        "id": "a",
        "prompt": loading_graph(*urls),
        "credentials": CREDENTIALS,
        "webhook_v2": webhook,
        "extra_data": {"api_key_comfy_org": SECRETS[9], "auth_token_comfy_org": SECRETS[10]},
    }


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def found_in(content: bytes) -> set[str]:
    """Return the secrets in some bytes, as they are or in base64."""
    texts = [s for s in SECRETS if s.encode() in content]
    return {*texts, *(s for s in SECRETS if base64.b64encode(s.encode())[:-4] in content)}


async def test_no_secret_of_a_request_is_in_the_journal_the_log_or_a_message(
    live: Live, there: Receiver, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    state = tmp_path / "state"
    loaded = Loaded(is_open=False)
    life = await live(engine=loaded.engine)
    with file_server() as origin:
        for number, name in enumerate(PLACES):
            origin.add(f"/{name}.png", png(number, 200))
        answer = await life.accept(**with_secrets(origin.origin, there.url))
        asked = [seen.path + str(seen.headers) for seen in origin.requests]
    # They were used, which is what makes it a test.
    basic = base64.b64encode(f"user:{SECRETS[1]}".encode()).decode()
    for secret in (SECRETS[0], basic, SECRETS[2], SECRETS[3], SECRETS[8]):
        assert any(secret in text for text in asked)
    assert contents(state)
    while_it_runs = contents(state)
    there.answers = [500]
    loaded.is_open.set()
    await eventually(lambda: len(there.received) == 2)
    await life.end()
    later = await live()
    await later.end()
    everything = b"".join([*while_it_runs.values(), *contents(state).values()])
    told = b"".join(got.body for got in there.received)
    assert found_in(everything) == set()
    assert found_in(json.dumps(answer).encode()) == set()
    assert found_in(told) == set()
    assert found_in(caplog.text.encode()) == set()
    # The search finds what is there.
    assert any(b"a_picture" in content for content in contents(state).values())
    assert messages(there)[0]["type"] == "prompt.complete"


async def test_no_secret_is_in_what_is_kept_for_repeats(tmp_path: Path, journal: Journal) -> None:
    sent = request(**with_secrets("http://host", "http://hook"))
    outcomes: list[PromptResult | StatelessError] = [ExecutionError("No."), result()]
    for number, outcome in enumerate(outcomes):
        kept = Kept(sent, f"run-{number}", journal, IdempotencyKey(f"key-{number}", "digest"))
        await kept.ended(outcome)
    assert await journal.result_of_run("run-1") is not None
    assert found_in(b"".join(contents(tmp_path / "state").values())) == set()


async def test_addresses_that_are_needed_again_are_for_the_owner_to_read_only(
    live: Live, there: Receiver, tmp_path: Path
) -> None:
    loaded = Loaded(is_open=False)
    life = await live(engine=loaded.engine)
    image = base64.b64encode(png(1, 300)).decode()
    await life.accept(
        webhook_v2=f"{there.url}?token={SECRETS[0]}",
        http_upload={"url_prefix": f"http://user:{SECRETS[1]}@host/x?sig={SECRETS[2]}"},
        prompt=loading_graph(image),
    )
    state = tmp_path / "state"
    paths = [state, *state.rglob("*")]
    assert len([path for path in paths if path.is_file()]) >= 4
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in paths}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o600}
    assert found_in(b"".join(contents(state).values())) == set(SECRETS[:3])


async def test_such_addresses_are_in_no_reply_and_in_no_log(
    live: Live, there: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    there.answers = [500]
    gate = Gate()
    life = await live(gate)
    hook = f"{there.url}?token={SECRETS[0]}"
    answer = await life.accept(
        webhook_v2=hook,
        http_upload={"url_prefix": f"http://user:{SECRETS[1]}@127.0.0.1:9/x?sig={SECRETS[2]}"},
    )
    gate.is_open.set()
    await eventually(lambda: len(there.received) == 2)
    assert found_in(json.dumps(answer).encode()) == set()
    assert found_in(there.received[0].body) == set()
    assert found_in(caplog.text.encode()) == set()
    assert messages(there)[0]["code"] == "delivery_failed"


async def test_a_message_that_was_given_up_is_listed_without_being_sent_again(
    live: Live,
) -> None:
    down = await Receiver([410]).start()
    life = await live(accepting={"sleep": asleep})
    await life.accept(id="a", webhook_v2=down.url)
    await eventually(lambda: len(down.received) == 1)
    await eventually(lambda: life.background._webhooks.outcomes().get("given_up") == 1)
    await life.end()
    again = await live()
    await asyncio.sleep(0)
    (given_up,) = await again.journal.given_up()
    assert given_up.error == "the receiver answered 410"
    assert len(down.received) == 1
    await down.stop()
