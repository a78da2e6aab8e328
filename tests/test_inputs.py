"""Inputs from anywhere: what is fetched, what is left alone, and what is refused with its place."""

from __future__ import annotations

import errno
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from comfyui_stateless.cache.names import key_of
from comfyui_stateless.errors import FolderFailed, InvalidPrompt, NoSpace, StorageError
from tests.cache.content import noise, safetensors
from tests.cache.origin import Origin
from tests.fetching import (
    FILES,
    MODEL,
    PNG,
    SECRET,
    Cook,
    Kitchen,
    bare,
    data_url,
    kitchens,
    loading,
    loading_all,
    loading_engine,
    picture,
    upload,
)
from tests.git_server import git_server

pytestmark = pytest.mark.usefixtures("plain_environment")


@pytest.fixture
async def cook(tmp_path: Path) -> AsyncIterator[Cook]:
    async for cook in kitchens(tmp_path):
        yield cook


@pytest.fixture
def kitchen(cook: Cook) -> Kitchen:
    return cook()


# Media


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("way", ["URL", "data URL", "base64"])
async def test_media_lie_where_the_node_reads_them_whatever_way_they_came(
    origin: Origin, kitchen: Kitchen, kind: str, way: str
) -> None:
    content, extension = FILES[kind]
    sent = {
        "URL": lambda: origin.put("/without-extension", content),
        "data URL": lambda: data_url(content),
        "base64": lambda: bare(content),
    }[way]()
    value = await kitchen.value("LoadVideo", sent)
    assert kitchen.engine.inputs == {value: (content,)}
    assert value == sha256(content).hexdigest()[:32] + extension


async def test_a_full_disk_of_the_inputs_names_the_input(
    kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(*_: Any) -> str:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(kitchen.engine, "add_input", full)
    with pytest.raises(NoSpace) as caught:
        await kitchen.value("LoadVideo", data_url(PNG))
    assert caught.value.location == "prompt.1.inputs.video"


async def test_what_was_deleted_meanwhile_names_the_input_and_not_its_path(
    kitchen: Kitchen, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gone(*_: Any) -> str:
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", "/cache/a.png")

    monkeypatch.setattr(kitchen.engine, "add_input", gone)
    with pytest.raises(StorageError, match="No such file") as caught:
        await kitchen.value("LoadVideo", data_url(PNG))
    assert caught.value.location == "prompt.1.inputs.video"
    assert "/cache" not in caught.value.message


async def test_a_cache_that_cannot_be_used_is_the_servers_trouble_at_the_input(
    origin: Origin, kitchen: Kitchen, tmp_path: Path
) -> None:
    url = origin.put("/a.png", PNG)
    (tmp_path / "cache" / f"{key_of(url)}.part").mkdir(parents=True)
    with pytest.raises(FolderFailed, match="CACHE_DIR") as caught:
        await kitchen.value("LoadVideo", url)
    assert (caught.value.status, caught.value.location) == (503, "prompt.1.inputs.video")


async def test_a_file_that_no_disk_has_room_for_is_the_servers_trouble_at_the_input(
    origin: Origin, kitchen: Kitchen
) -> None:
    with pytest.raises(NoSpace) as caught:
        await kitchen.value("LoadVideo", origin.put("/a.png", PNG, length=10**15))
    assert (caught.value.status, caught.value.location) == (507, "prompt.1.inputs.video")


async def test_a_bare_jpeg_is_no_path_although_it_begins_with_a_slash(kitchen: Kitchen) -> None:
    content, _ = FILES["jpeg"]
    assert bare(content).startswith("/9j/")
    value = await kitchen.value("LoadImage", bare(content))
    assert kitchen.engine.inputs == {value: (content,)}


async def test_one_content_has_one_name_whatever_way_it_came(
    origin: Origin, kitchen: Kitchen, tmp_path: Path
) -> None:
    url = origin.put("/a.png", PNG)
    values = [await kitchen.value("LoadImage", sent) for sent in (url, data_url(PNG), bare(PNG))]
    uploads = {"a": upload(tmp_path)}
    values.append(await kitchen.value("LoadImage", "upload://a", uploads=uploads))
    assert len(set(values)) == 1


async def test_a_large_text_becomes_a_file_too(kitchen: Kitchen) -> None:
    content = PNG + noise(300_000)
    value = await kitchen.value("LoadImage", bare(content))
    assert kitchen.engine.inputs == {value: (content,)}


async def test_an_input_without_a_mark_takes_files_by_its_name(
    origin: Origin, kitchen: Kitchen, tmp_path: Path
) -> None:
    for sent in (origin.put("/a.png", PNG), data_url(PNG), bare(PNG), "upload://a"):
        value = await kitchen.value("LoadNamed", sent, uploads={"a": upload(tmp_path)})
        assert kitchen.engine.inputs[value] == (PNG,)


async def test_a_wrapped_value_is_taken_as_a_plain_one(origin: Origin, kitchen: Kitchen) -> None:
    url = origin.put("/a.png", PNG)
    value = await kitchen.value("LoadImage", {"__value__": url})
    assert kitchen.engine.inputs == {value: (PNG,)}


async def test_media_go_when_the_job_ends(origin: Origin, kitchen: Kitchen) -> None:
    sent = [("LoadImage", origin.put("/a.png", PNG)), ("LoadImage", bare(picture("gif")))]
    await kitchen.prepared(loading_all(*sent))
    assert len(kitchen.engine.inputs) == 2
    kitchen.leave()
    assert kitchen.engine.inputs == {}


async def test_a_loader_of_paths_gets_an_absolute_path(
    origin: Origin, cook: Cook, tmp_path: Path
) -> None:
    local = tmp_path / "clip.mp4"
    local.write_bytes(FILES["mp4"][0])
    kitchen = cook(loading_engine(files={"clip.mp4": local}))
    for sent in (origin.put("/a", FILES["mp4"][0]), bare(FILES["mp4"][0]), "clip.mp4"):
        value = await kitchen.value("LoadVideoPath", sent)
        assert value.startswith("/")
        assert kitchen.engine.inputs[value] == (FILES["mp4"][0],)


async def test_a_folder_gets_the_files_of_a_list_in_their_order(
    origin: Origin, cook: Cook, tmp_path: Path
) -> None:
    contents = [picture(shade=shade) for shade in range(5)]
    local = tmp_path / "local.png"
    local.write_bytes(contents[3])
    kitchen = cook(loading_engine(files={"local.png": local}))
    sent = [
        origin.put("/0.png", contents[0]),
        data_url(contents[1]),
        bare(contents[2]),
        "local.png",
        "upload://a",
    ]
    uploads = {"a": upload(tmp_path, contents[4])}
    for class_type in ("LoadImages", "LoadImagesPath"):
        for value in (sent, {"__value__": sent}):
            folder = await kitchen.value(class_type, value, uploads=uploads)
            assert kitchen.engine.inputs[folder] == tuple(contents)
            assert folder.startswith("/") is (class_type == "LoadImagesPath")


@pytest.mark.parametrize("class_type", ["LoadImages", "LoadImagesPath"])
async def test_a_folder_may_have_one_file(
    origin: Origin, cook: Cook, tmp_path: Path, class_type: str
) -> None:
    local = tmp_path / "local.png"
    local.write_bytes(PNG)
    kitchen = cook(loading_engine(files={"local.png": local}))
    url = origin.put("/a.png", PNG)
    for sent in (url, [url], bare(PNG), [bare(PNG)], ["local.png"]):
        folder = await kitchen.value(class_type, sent)
        assert kitchen.engine.inputs[folder] == (PNG,)


# What is left alone


async def test_names_of_what_is_there_are_left_as_they_are(cook: Cook, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    here = {"a.png": tmp_path / "a.png", "a.png [output]": tmp_path / "a.png", "frames": tmp_path}
    kitchen = cook(loading_engine(files={**here, str(tmp_path / "a.png"): tmp_path / "a.png"}))
    for value in ("a.png", "a.png [output]", str(tmp_path / "a.png")):
        assert await kitchen.value("LoadImage", value) == value
        assert await kitchen.value("LoadNamed", value) == value
    assert await kitchen.value("LoadImages", "frames") == "frames"
    assert kitchen.engine.given == []


async def test_a_file_that_is_there_wins_over_base64(cook: Cook, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    kitchen = cook(loading_engine(files={bare(PNG): tmp_path / "a.png"}))
    assert await kitchen.value("LoadImage", bare(PNG)) == bare(PNG)


async def test_a_loader_of_folder_paths_gets_the_path_of_a_folder_that_is_there(
    cook: Cook, tmp_path: Path
) -> None:
    kitchen = cook(loading_engine(files={"frames": tmp_path}))
    assert await kitchen.value("LoadImagesPath", "frames") == str(tmp_path)
    assert kitchen.engine.given == []


@pytest.mark.parametrize(
    "value",
    [
        "",
        "a plain text",
        "/etc/passwd",
        "../../secret.png",
        "ftp://host/a.png",
        "file:///etc/passwd",
        "iVBORw0KGg",
        12,
        None,
        True,
        ["2", 0],
        {"a": 1},
    ],
    ids=repr,
)
async def test_what_is_no_file_is_left_where_an_input_only_has_the_name(
    kitchen: Kitchen, value: Any
) -> None:
    assert await kitchen.value("LoadNamed", value) == value


async def test_other_inputs_keep_their_urls(origin: Origin, kitchen: Kitchen) -> None:
    others = {
        "webhook": origin.put("/a.png", PNG),
        "text": f"see {origin.url('/a.png')}",
        "list": [origin.url("/a.png")],
        "data": data_url(PNG),
        "base64": bare(PNG),
        "file": "file:///etc/passwd",
        "upload": "upload://nothing",
    }
    graph = loading("LoadImage", bare(PNG), **others)
    graph["2"] = {"class_type": "EmptyImage", "inputs": {"image": origin.url("/a.png")}}
    prompt = await kitchen.prepared(graph)
    assert prompt.graph["2"] == graph["2"]
    assert others.items() <= prompt.graph["1"]["inputs"].items()
    assert origin.seen == []


async def test_models_that_are_there_and_other_options_are_left(kitchen: Kitchen) -> None:
    for value in ("a.safetensors", "below/a.safetensors", "None", "/a/path", "", 3, ["2", 0]):
        assert await kitchen.value("Lora", value) == value
    assert kitchen.engine.links == {}


# What is refused


@pytest.mark.parametrize("class_type", ["LoadImage", "LoadVideoPath", "LoadImagesPath"])
@pytest.mark.parametrize(
    "value",
    [
        "nothing.png",
        "/etc/passwd",
        "../../secret.png",
        "iVBORw0KGg",
        bare(b"only text, but longer than a signature"),
        "some words",
    ],
)
async def test_text_that_is_no_file_is_refused_where_comfyui_marks_the_input(
    kitchen: Kitchen, class_type: str, value: str
) -> None:
    error = await kitchen.refusal(class_type, value)
    assert "no file in ComfyUI's folders" in error.message
    assert error.details["reason"] == "invalid_input"
    assert kitchen.engine.given == []


@pytest.mark.parametrize("class_type", ["LoadImage", "LoadImagesPath", "Checkpoint", "Diffusers"])
@pytest.mark.parametrize("address", ["ftp://host/a", "file:///etc/passwd", "gs://b/a", "x+y://a"])
async def test_other_schemes_are_refused_where_files_are_taken(
    kitchen: Kitchen, class_type: str, address: str
) -> None:
    error = await kitchen.refusal(class_type, address)
    scheme = address.partition(":")[0]
    assert f"{scheme}:// addresses are not fetched" in error.message
    assert error.details["reason"] == "invalid_input"


async def test_an_address_with_a_secret_is_refused_without_it(kitchen: Kitchen) -> None:
    error = await kitchen.refusal("LoadImage", f"ftp://me:{SECRET}@host/a.png?sig={SECRET}")
    assert SECRET not in str(error.body())


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (data_url(b"only text"), "no image, video, sound or 3D model"),
        ("data:image/png;base64", "no comma"),
        (bare(PNG)[:-8] + "!" + bare(PNG)[-7:], "base64 is broken"),
        (f"data:image/png;base64,{bare(PNG)}é", "base64 is broken"),
    ],
)
async def test_data_that_is_broken_is_refused_with_the_reason(
    kitchen: Kitchen, value: str, reason: str
) -> None:
    error = await kitchen.refusal("LoadImage", value)
    assert reason in error.message
    assert error.details["reason"] == "invalid_input"


async def test_a_part_that_was_not_sent_is_refused_with_those_that_were(
    kitchen: Kitchen, tmp_path: Path
) -> None:
    uploads = {name: upload(tmp_path) for name in ("mask", "face")}
    error = await kitchen.refusal("LoadImage", "upload://picture", uploads=uploads)
    assert "'picture'" in error.message
    assert "face, mask" in error.message
    assert "none" in (await kitchen.refusal("LoadImage", "upload://picture")).message


async def test_a_model_does_not_come_with_the_request(kitchen: Kitchen, tmp_path: Path) -> None:
    error = await kitchen.refusal("Checkpoint", "upload://a", uploads={"a": upload(tmp_path)})
    assert "give its URL" in error.message


@pytest.mark.parametrize("value", ["plain text", "", "ftp://host/a.png", "frames"])
async def test_a_list_with_one_that_is_no_file_is_refused(
    origin: Origin, cook: Cook, tmp_path: Path, value: str
) -> None:
    kitchen = cook(loading_engine(files={"frames": tmp_path}))
    for class_type in ("LoadImages", "LoadImagesPath"):
        await kitchen.refusal(class_type, [origin.put("/a.png", PNG), value])


async def test_a_folder_is_no_file(cook: Cook, tmp_path: Path) -> None:
    kitchen = cook(loading_engine(files={"frames": tmp_path}))
    assert "is a folder" in (await kitchen.refusal("LoadVideoPath", "frames")).message


# Models


async def test_a_model_is_linked_under_a_name_that_tells_what_it_is_and_whose(
    origin: Origin, cook: Cook, tmp_path: Path
) -> None:
    kitchen = cook(loading_engine(models_root=tmp_path / "models"))
    url = origin.put("/v1/My%20style.safetensors?download=true", MODEL)
    value = await kitchen.value("Lora", url)
    key = kitchen.cached[0][:32]
    assert value == f"My style-{key[:8]}.safetensors"
    link = tmp_path / "models" / "loras" / value
    assert link.is_symlink()
    assert link.read_bytes() == MODEL
    assert link.readlink().parent == kitchen.services.settings.cache_dir


async def test_a_model_has_the_name_that_its_origin_gives_it(
    origin: Origin, kitchen: Kitchen
) -> None:
    headers = {"Content-Disposition": 'attachment; filename="Deep Style.safetensors"'}
    value = await kitchen.value("Lora", origin.put("/download/7", MODEL, headers=headers))
    assert value.startswith("Deep Style-")
    assert value.endswith(".safetensors")


async def test_models_of_one_name_do_not_meet(origin: Origin, kitchen: Kitchen) -> None:
    other = safetensors(64, seed=2)
    urls = [origin.put("/a/x.safetensors", MODEL), origin.put("/b/x.safetensors", other)]
    prompt = await kitchen.prepared(loading_all(*(("Lora", url) for url in urls)))
    names = [prompt.graph[number]["inputs"]["name"] for number in ("1", "2")]
    assert names[0] != names[1]
    found = [kitchen.engine.links["loras", name].read_bytes() for name in names]
    assert found == [MODEL, other]


async def test_a_model_has_the_same_name_in_every_job(origin: Origin, kitchen: Kitchen) -> None:
    url = origin.put("/x.safetensors", MODEL)
    assert await kitchen.value("Lora", url) == await kitchen.value("Lora", url)
    assert len(origin.seen) == 1


async def test_the_folder_of_a_model_is_one_that_lists_it(origin: Origin, kitchen: Kitchen) -> None:
    await kitchen.value("Either", origin.put("/a.ckpt", noise(100)))
    await kitchen.value("Either", origin.put("/b.safetensors", MODEL))
    await kitchen.value("Anything", origin.put("/c.onnx", noise(100)))
    assert [folder for folder, _ in kitchen.engine.links] == ["checkpoints", "loras", "anything"]


async def test_a_model_that_the_folder_would_not_list_is_refused(
    origin: Origin, kitchen: Kitchen
) -> None:
    error = await kitchen.refusal("Lora", origin.put("/a.onnx", noise(100)))
    assert "is a .onnx file" in error.message
    assert "lists only .safetensors" in error.message
    assert error.details["reason"] == "invalid_input"
    assert kitchen.engine.links == {}


@pytest.mark.parametrize("wrapped", [True, False])
async def test_an_input_of_several_models_takes_urls_in_its_list(
    origin: Origin, kitchen: Kitchen, wrapped: bool
) -> None:
    other = safetensors(64, seed=2)
    urls = [origin.put("/a.safetensors", MODEL), origin.put("/b.safetensors", other)]
    sent = [urls[0], "here.safetensors", urls[1]]
    value = await kitchen.value("Lora", {"__value__": sent} if wrapped else sent)
    first, here, second = value["__value__"]
    assert here == "here.safetensors"
    found = [kitchen.engine.links["loras", name].read_bytes() for name in (first, second)]
    assert found == [MODEL, other]


async def test_a_list_of_models_that_are_there_is_left(kitchen: Kitchen) -> None:
    for value in (["a.safetensors", "b.safetensors"], {"__value__": ["a.safetensors"]}, []):
        assert await kitchen.value("Lora", value) == value


@pytest.mark.parametrize("address", ["ftp://host/a.safetensors", "upload://a"])
async def test_each_of_a_list_of_models_is_looked_at(
    origin: Origin, kitchen: Kitchen, address: str
) -> None:
    sent = [origin.put("/a.safetensors", MODEL), address]
    await kitchen.refusal("Lora", {"__value__": sent})
    assert origin.seen == []


async def test_one_of_a_list_of_models_that_cannot_be_had_fails_all(
    origin: Origin, kitchen: Kitchen
) -> None:
    sent = [origin.put("/a.safetensors", MODEL), origin.url("/missing.safetensors")]
    error = await kitchen.refusal("Lora", {"__value__": sent})
    assert error.details["reason"] == "object_not_found"
    assert "/missing.safetensors" in error.message


async def test_a_repository_is_cloned_and_linked_whole(cook: Cook, tmp_path: Path) -> None:
    kitchen = cook()
    (tmp_path / "git").mkdir()
    with git_server(tmp_path / "git") as server:
        server.make("o/style.git").commit({"model_index.json": b"{}"})
        value = await kitchen.value("Diffusers", f"{server.url}/o/style")
        assert value.startswith("style-")
        linked = kitchen.engine.links["diffusers", value]
        assert (linked / "model_index.json").read_bytes() == b"{}"
        error = await kitchen.refusal("Diffusers", f"{server.url}/o/nothing")
    assert error.details["reason"] in ("object_not_found", "access_denied")


# Classes


async def test_a_class_that_is_not_there_is_refused_before_anything_is_fetched(
    origin: Origin, kitchen: Kitchen
) -> None:
    graph = loading("LoadImage", origin.put("/a.png", PNG))
    graph["7"] = {"class_type": "Unheard", "inputs": {}}
    with pytest.raises(InvalidPrompt):
        await kitchen.prepared(graph)
    assert origin.seen == []


async def test_a_class_that_another_would_replace_is_let_through(
    origin: Origin, cook: Cook
) -> None:
    kitchen = cook(loading_engine(replaced={"Renamed"}))
    graph = loading("LoadImage", origin.put("/a.png", PNG))
    graph["7"] = {"class_type": "Renamed", "inputs": {}}
    prompt = await kitchen.prepared(graph)
    assert prompt.graph["7"] == graph["7"]
