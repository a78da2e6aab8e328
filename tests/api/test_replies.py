from __future__ import annotations

import base64
import io
import json
import tracemalloc
import zipfile
from email import message_from_bytes
from email.policy import HTTP
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import pytest
from PIL import Image

from comfyui_stateless.api.archive import archive, entry_names
from comfyui_stateless.api.replies import disposition
from comfyui_stateless.api.schemas import PromptReply
from comfyui_stateless.bodies import Text
from comfyui_stateless.engine import OutputFile
from tests.api.conftest import Serve
from tests.fakes import PIXELS, FakeEngine, Play, eventually, graph

WAV = b"RIFF\x24\0\0\0WAVEfmt " + bytes(100)

BIG = 300 * 1024 * 1024


async def mixed_outputs(play: Play) -> None:
    play.image("a/one_00001_.png")
    play.image("two_00001_.png", PIXELS[:2])
    play.file("sound_00001_.wav", WAV)
    play.text("seen: 2 images\n\u2028 \U0001f600")


async def one_sound(play: Play) -> None:
    play.file('deep/er/so"und\u00e9_00001_.wav', WAV)


async def one_big_file(play: Play) -> None:
    play.file("big.bin", BIG)


async def nothing(play: Play) -> None:
    play.text("only text")


def pixels_of(png: bytes) -> Any:
    return np.asarray(Image.open(io.BytesIO(png)))


async def test_the_json_reply_holds_what_the_contract_says(serve: Serve) -> None:
    site = await serve(FakeEngine(mixed_outputs))
    async with site.prompt(id="job-1", priority=3, convert_output={"format": "png"}) as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "application/json; charset=utf-8"
        body = await response.json()
    PromptReply.model_validate(body)
    assert list(body) == [
        "id", "prompt", "convert_output", "priority",
        "images", "filenames", "outputs", "texts", "stats",
    ]  # fmt: skip
    assert body["id"] == "job-1"
    assert body["prompt"]["2"]["inputs"]["filename_prefix"] == "job-1_picture"
    assert body["filenames"] == ["a/one_00001_.png", "two_00001_.png", "sound_00001_.wav"]
    assert [output["filename"] for output in body["outputs"]] == body["filenames"]
    assert body["texts"] == [{"node_id": "2", "text": "seen: 2 images\n\u2028 \U0001f600"}]
    assert body["priority"] == 3
    assert body["convert_output"] == {"format": "png"}
    first, second, third = (base64.b64decode(image, validate=True) for image in body["images"])
    assert (pixels_of(first) == PIXELS).all()
    assert (pixels_of(second) == PIXELS[:2]).all()
    assert third == WAV


async def test_outputs_tell_their_size_and_only_images_their_width_and_height(serve: Serve) -> None:
    site = await serve(FakeEngine(mixed_outputs))
    async with site.prompt() as response:
        body = await response.json()
    image, _, sound = body["outputs"]
    assert image == {
        "node_id": "2",
        "filename": "a/one_00001_.png",
        "type": "image",
        "media_type": "image/png",
        "size_bytes": len(base64.b64decode(body["images"][0])),
        "width": 4,
        "height": 4,
    }
    assert sound == {
        "node_id": "2",
        "filename": "sound_00001_.wav",
        "type": "audio",
        "media_type": "audio/wav",
        "size_bytes": len(WAV),
    }


async def test_secrets_and_extra_data_are_not_echoed(serve: Serve) -> None:
    site = await serve()
    async with site.prompt(extra_data={"api_key_comfy_org": "hush"}, unknown="x") as response:
        text = await response.text()
    assert "hush" not in text
    assert "extra_data" not in json.loads(text)
    assert "unknown" not in json.loads(text)


async def test_a_graph_with_numbers_that_json_lacks_still_gets_a_json_reply(serve: Serve) -> None:
    site = await serve()
    wire = json.dumps({"prompt": graph()}).replace('"width": 4', '"width": 1e999')
    async with site.client.post("/prompt", data=wire) as response:
        body = json.loads(await response.text(), parse_constant=pytest.fail)
    assert body["prompt"]["1"]["inputs"] == {"width": None, "height": 4}


@pytest.mark.parametrize("size", [0, 1, 2, 3, 786_431, 786_432, 786_433, 2_359_297])
@pytest.mark.parametrize("accept", ["application/json", "application/octet-stream"])
async def test_outputs_of_any_length_come_back_byte_for_byte(
    serve: Serve, size: int, accept: str
) -> None:
    content = bytes(i * 31 % 251 for i in range(1000)) * (size // 1000 + 1)

    async def play(play: Play) -> None:
        play.file("data.bin", content[:size])

    site = await serve(FakeEngine(play))
    async with site.prompt(accept) as response:
        received = await response.read()
        assert response.content_length == len(received)
    if accept == "application/json":
        received = base64.b64decode(json.loads(received)["images"][0], validate=True)
    assert received == content[:size]


@pytest.mark.parametrize("accept", ["image/png", "image/*", "image/webp, image/*;q=0.5"])
async def test_the_bytes_of_an_only_image_come_with_its_own_type(serve: Serve, accept: str) -> None:
    site = await serve()
    async with site.prompt(accept, id="job-1") as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "image/png"
        assert response.headers["X-Prompt-Id"] == "job-1"
        name = "job-1_picture_00001_.png"
        assert response.headers["Content-Disposition"] == (
            f"inline; filename=\"{name}\"; filename*=UTF-8''{name}"
        )
        assert (pixels_of(await response.read()) == PIXELS).all()


async def test_octets_are_named_so_whatever_the_output_is(serve: Serve) -> None:
    site = await serve(FakeEngine(one_sound))
    async with site.prompt("application/octet-stream") as response:
        assert response.headers["Content-Type"] == "application/octet-stream"
        disposition = response.content_disposition
        assert disposition is not None
        assert disposition.filename == 'so"und\u00e9_00001_.wav'
        assert await response.read() == WAV


@pytest.mark.parametrize(
    ("script", "accept", "message", "count"),
    [
        (mixed_outputs, "image/*", "The graph gave 3 outputs", 3),
        (nothing, "image/*", "The graph gave no output file", 0),
        (one_sound, "image/png", "The only output is audio/wav", 1),
        (one_sound, "video/*", "The only output is audio/wav", 1),
    ],
)
async def test_bytes_that_do_not_fit_are_answered_with_the_list_of_outputs(
    serve: Serve, script: Any, accept: str, message: str, count: int
) -> None:
    site = await serve(FakeEngine(script))
    async with site.prompt(accept) as response:
        assert response.status == 406
        body = await response.json()
    assert body["code"] == "not_acceptable"
    assert body["error"].startswith(message)
    assert len(body["details"]["outputs"]) == count
    for output in body["details"]["outputs"]:
        assert {"node_id", "filename", "media_type", "size_bytes"} <= set(output)


async def test_a_form_that_fits_is_taken_when_the_preferred_one_does_not(serve: Serve) -> None:
    site = await serve(FakeEngine(mixed_outputs))
    async with site.prompt("image/*, application/json;q=0.5") as response:
        assert response.status == 200
        assert response.content_type == "application/json"


async def test_multipart_holds_the_json_and_then_each_output_as_it_is(serve: Serve) -> None:
    site = await serve(FakeEngine(mixed_outputs))
    async with site.prompt("multipart/mixed", id="job-1") as response:
        assert response.status == 200
        received = await response.read()
        assert response.content_length == len(received)
        head = f"Content-Type: {response.headers['Content-Type']}\r\n\r\n".encode()
    parsed: Any = message_from_bytes(head + received, policy=HTTP)
    document, *outputs = parsed.get_payload()
    assert document.get_content_type() == "application/json"
    body = json.loads(document.get_payload(decode=True))
    PromptReply.model_validate(body)
    assert body["images"] == ["cid:output-1", "cid:output-2", "cid:output-3"]
    assert [part["Content-ID"] for part in outputs] == [
        f"<{image.removeprefix('cid:')}>" for image in body["images"]
    ]
    assert [part.get_content_type() for part in outputs] == ["image/png", "image/png", "audio/wav"]
    assert outputs[0].get_filename() == "one_00001_.png"
    contents = [part.get_payload(decode=True) for part in outputs]
    assert [int(part["Content-Length"]) for part in outputs] == [len(c) for c in contents]
    assert (pixels_of(contents[0]) == PIXELS).all()
    assert contents[2] == WAV


async def test_aiohttp_reads_our_multipart(serve: Serve) -> None:
    site = await serve(FakeEngine(mixed_outputs))
    async with site.prompt("multipart/mixed") as response:
        reader = aiohttp.MultipartReader.from_response(response)
        contents = []
        while (part := await reader.next()) is not None:
            assert isinstance(part, aiohttp.BodyPartReader)
            contents.append(await part.read())
    assert len(contents) == 4
    assert contents[3] == WAV


async def test_zip_holds_the_json_and_each_output_under_its_name(serve: Serve) -> None:
    site = await serve(FakeEngine(mixed_outputs))
    async with site.prompt("application/zip", id="job-1") as response:
        assert response.status == 200
        assert response.headers["Content-Type"] == "application/zip"
        assert response.content_disposition is not None
        assert response.content_disposition.filename == "job-1.zip"
        received = await response.read()
        assert response.content_length == len(received)
    with zipfile.ZipFile(io.BytesIO(received)) as archive:
        assert archive.testzip() is None
        body = json.loads(archive.read("response.json"))
        PromptReply.model_validate(body)
        assert body["images"] == archive.namelist()[1:] == body["filenames"]
        assert archive.read("sound_00001_.wav") == WAV
        assert (pixels_of(archive.read("a/one_00001_.png")) == PIXELS).all()
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
        assert {entry.flag_bits & 0x08 for entry in archive.infolist()} == {0}


async def test_a_zip_beyond_32_bits_is_written_with_64(tmp_path: Path) -> None:
    stored = tmp_path / "stored"
    stored.write_bytes(WAV)
    small = OutputFile("1", "small", "file", "text/plain", b"abc", 3, None, None)
    large = OutputFile("1", "large", "file", "text/plain", stored, len(WAV), None, None)
    parts = await archive(b"{}", [("small", small), ("large", large)], max_32=100)
    written = tmp_path / "archive.zip"
    with written.open("wb") as file:
        for part in parts:
            file.writelines(part.chunks())
    assert written.stat().st_size == sum(part.size for part in parts)
    assert isinstance(parts[-1], Text)
    assert b"PK\x06\x06" in parts[-1].data
    with zipfile.ZipFile(written) as opened:
        assert opened.testzip() is None
        assert opened.read("large") == WAV
        versions = [entry.extract_version for entry in opened.infolist()]
    assert versions == [20, 20, 45]


def test_names_in_archives_can_be_extracted_anywhere() -> None:
    names = entry_names(
        [
            "a/b.png",
            "../../etc/passwd",
            "/abs.png",
            "c:\\x.png",
            "con.png",
            "A/B.PNG",
            "response.json",
            'q"?<>|*.png',
            "dots...",
            ".hidden",
            "",
            "rtl\u202egnp.exe",
            "\U0001f600 \u00e9.png",
            "x" * 255 + ".png",
        ]
    )
    assert names == [
        "a/b.png",
        "_/_/etc/passwd",
        "abs.png",
        "c_/x.png",
        "_con.png",
        "a/b_00002.png",
        "response_00002.json",
        "q______.png",
        "dots",
        "_hidden",
        "_",
        "rtl_gnp.exe",
        "\U0001f600 \u00e9.png",
        "x" * 150 + ".png",
    ]


def test_a_disposition_cannot_be_broken_out_of() -> None:
    value = disposition("inline", 'a/b"\r\nSet-Cookie: x=1;\\%\u202e\ud800.png')
    assert value.isascii()
    assert value.isprintable()
    assert value.count('"') == 2


@pytest.mark.parametrize(
    "accept", ["application/json", "application/octet-stream", "multipart/mixed", "application/zip"]
)
async def test_a_large_output_takes_no_memory(serve: Serve, accept: str) -> None:
    site = await serve(FakeEngine(one_big_file))
    tracemalloc.start()
    try:
        async with site.prompt(accept) as response:
            assert response.status == 200
            received = 0
            async for chunk in response.content.iter_any():
                received += len(chunk)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert received == response.content_length
    assert received >= (BIG * 4 // 3 if accept == "application/json" else BIG)
    assert peak < 24 * 1024 * 1024


@pytest.mark.parametrize("accept", ["application/json", "multipart/mixed", "application/zip"])
async def test_a_file_that_ends_early_gives_a_broken_transfer_not_a_short_reply(
    serve: Serve, accept: str
) -> None:
    async def shrinking(play: Play) -> None:
        path = play.file("big.bin", 64 * 1024 * 1024)
        play.text(str(path))

    site = await serve(FakeEngine(shrinking))
    async with site.prompt(accept) as response:
        assert response.status == 200
        await response.content.read(1)
        for parent in site.engine.workspaces:
            with (parent / "run" / "file-0").open("r+b") as file:
                file.truncate(1024)
        with pytest.raises(aiohttp.ClientPayloadError):
            await response.read()


async def test_the_files_of_a_run_live_until_its_reply_is_sent_and_no_longer(serve: Serve) -> None:
    site = await serve(FakeEngine(one_big_file))
    async with site.prompt("application/octet-stream") as response:
        (parent,) = site.engine.workspaces
        assert parent.exists()
        await response.read()
    await eventually(lambda: not parent.exists())


async def test_the_files_of_a_run_go_when_the_client_stops_reading(serve: Serve) -> None:
    site = await serve(FakeEngine(one_big_file))
    response = await site.prompt("application/octet-stream")
    await response.content.read(1000)
    response.close()
    (parent,) = site.engine.workspaces
    await eventually(lambda: not parent.exists())
