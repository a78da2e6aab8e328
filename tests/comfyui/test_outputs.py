"""What a graph gives comes back: all of it, as ComfyUI would have written it, and nothing stays."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from tests.comfyui.graphs import node, pattern, pixels, saved, text_chunks
from tests.comfyui.server import ComfyServer


@pytest.fixture(autouse=True)
def _nothing_is_left(comfy: ComfyServer) -> Iterator[None]:
    before = comfy.files()
    yield
    assert comfy.files() == before


def written(comfy: ComfyServer, graph: dict[str, object], **extra: object) -> list[bytes]:
    """Run a graph through ComfyUI's own route; return and delete the files it wrote."""
    entries = [
        entry
        for ui in comfy.plain(graph, extra)["outputs"].values()
        for entry in ui.get("images", [])
    ]
    paths = [comfy.base / e["type"] / e["subfolder"] / e["filename"] for e in entries]
    contents = [path.read_bytes() for path in paths]
    for path, entry in zip(paths, entries, strict=True):
        path.unlink()
        if entry["subfolder"] and not any(path.parent.iterdir()):
            path.parent.rmdir()
    return contents


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("channels", [2, 3, 4])
def test_pixels_are_those_that_saveimage_writes(
    comfy: ComfyServer, channels: int, batch: int
) -> None:
    graph = saved(7, channels=channels, batch=batch, width=67, height=41)
    ours = comfy.prompt(graph)
    assert ours.status == 200, ours.body
    theirs = written(comfy, graph)
    assert len(ours.images) == len(theirs) == batch
    for mine, reference in zip(ours.images, theirs, strict=True):
        np.testing.assert_array_equal(pixels(mine), pixels(reference))


def test_half_precision_gives_the_pixels_that_saveimage_writes(comfy: ComfyServer) -> None:
    graph = saved(3)
    graph["1"]["class_type"] = "TestHalfPattern"
    ours, theirs = comfy.prompt(graph).images, written(comfy, graph)
    np.testing.assert_array_equal(pixels(ours[0]), pixels(theirs[0]))


def test_the_embedded_metadata_is_what_saveimage_embeds(comfy: ComfyServer) -> None:
    graph = saved(1, prefix="a/b")
    graph["1"]["_meta"] = {"title": "Noise é 🙂"}
    pnginfo = {"workflow": {"nodes": [{"title": "Ünïcode 漢字"}], "version": 0.4}}
    reply = comfy.prompt(graph, id="job", extra_data={"extra_pnginfo": pnginfo})
    ours = text_chunks(reply.images[0])
    theirs = text_chunks(written(comfy, graph, extra_pnginfo=pnginfo)[0])
    assert ours.keys() == theirs.keys()
    assert ours["workflow"] == theirs["workflow"]
    assert json.loads(ours["prompt"]) == reply.json["prompt"]
    assert ours["prompt"].replace("a/job_b", "a/b") == theirs["prompt"]


def test_the_same_graph_twice_gives_the_same_image_twice(comfy: ComfyServer) -> None:
    first, second = (comfy.prompt(saved(11)) for _ in range(2))
    assert pixels(first.images[0]).tolist() == pixels(second.images[0]).tolist()
    nodes = second.json["stats"]["comfy_execution"]["nodes"]
    assert nodes["1"]["cached"] is True
    assert nodes["9"]["cached"] is False


def test_the_times_of_nodes_come_in_the_order_of_the_graph(comfy: ComfyServer) -> None:
    graph = {"3": node("PreviewImage", images=["20", 0]), "20": pattern(3), **saved(12)}
    for _ in range(2):  # the second time some are cached
        nodes = comfy.prompt(graph).json["stats"]["comfy_execution"]["nodes"]
        assert list(nodes) == list(graph)


def test_a_node_that_works_in_place_later_does_not_change_what_was_saved(
    comfy: ComfyServer,
) -> None:
    graph = saved(5, width=512, height=512)
    expected = pixels(comfy.prompt(graph).images[0])
    graph["2"] = node("TestWaits", image=["1", 0], seconds=0.2, stubborn=False, nonce="in place")
    graph["3"] = node("TestBlackens", image=["1", 0], after=["2", 0])
    reply = comfy.prompt(graph)
    assert reply.json["texts"] == [{"node_id": "3", "text": "blackened"}]
    np.testing.assert_array_equal(pixels(reply.images[0]), expected)
    assert expected.any()


@pytest.mark.parametrize("attempt", ["first", "second", "third"])
def test_files_of_a_graph_that_expands_come_every_time(comfy: ComfyServer, attempt: str) -> None:
    graph = {
        "1": pattern(2),
        "2": node("TestExpands", image=["1", 0], prefix="inner"),
        "9": node("SaveImage", images=["2", 0], filename_prefix="outer"),
    }
    reply = comfy.prompt(graph, id="x")
    assert reply.json["filenames"] == ["x_inner_00001_.png", "x_outer_00001_.png"], attempt
    inner, outer = reply.images
    np.testing.assert_array_equal(pixels(inner), pixels(outer))
    assert reply.json["outputs"][0]["node_id"] == "2"
    assert json.loads(text_chunks(inner)["prompt"]) == reply.json["prompt"]


def test_names_have_the_id_and_keep_their_subfolder(comfy: ComfyServer) -> None:
    reply = comfy.prompt(saved(1, prefix="a/b/c", batch=2), id="my id")
    assert reply.json["filenames"] == ["a/b/my id_c_00001_.png", "a/b/my id_c_00002_.png"]
    assert reply.json["prompt"]["9"]["inputs"]["filename_prefix"] == "a/b/my id_c"
    assert reply.json["prompt"]["9"]["class_type"] == "SaveImage"


def test_variables_in_a_prefix_are_filled_in(comfy: ComfyServer) -> None:
    reply = comfy.prompt(saved(1, prefix="%width%x%height%_%batch_num%", batch=2), id="v")
    assert reply.json["filenames"] == ["v_64x48_0_00001_.png", "v_64x48_1_00002_.png"]


def test_two_nodes_with_one_prefix_do_not_mix(comfy: ComfyServer) -> None:
    graph = {
        "1": pattern(1),
        "2": pattern(2),
        "3": node("SaveImage", images=["1", 0], filename_prefix="same"),
        "4": node("SaveImage", images=["2", 0], filename_prefix="same"),
        "5": node("SaveAnimatedWEBP", images=["1", 0], filename_prefix="same", fps=6.0,
                  lossless=True, quality=80, method="default"),
        "6": node("SaveAnimatedWEBP", images=["2", 0], filename_prefix="same", fps=6.0,
                  lossless=True, quality=80, method="default"),
    }  # fmt: skip
    reply = comfy.prompt(graph, id="i")
    outputs = reply.json["outputs"]
    assert [output["node_id"] for output in outputs] == ["3", "4", "5", "6"]
    assert len(set(reply.json["filenames"])) == 4
    for index, seed in enumerate((1, 2)):
        expected = pixels(comfy.prompt(saved(seed)).images[0])
        np.testing.assert_array_equal(pixels(reply.images[index]), expected)


def test_a_list_of_images_comes_back_whole_and_in_order(comfy: ComfyServer) -> None:
    graph = {
        "1": node("TestSizes", count=4),
        "9": node("SaveImage", images=["1", 0], filename_prefix="list"),
    }
    outputs = comfy.prompt(graph, id="l").json["outputs"]
    assert [(o["width"], o["height"]) for o in outputs] == [(16, 8), (17, 9), (18, 10), (19, 11)]


def test_a_prefix_over_a_link_is_left_and_its_files_come(comfy: ComfyServer) -> None:
    graph = {
        "0": node("TestPrefix", text="linked/name"),
        "1": pattern(1, batch=2),
        "2": node("SaveImage", images=["1", 0], filename_prefix=["0", 0]),
        "3": node("SaveAnimatedPNG", images=["1", 0], filename_prefix=["0", 0], fps=6.0,
                  compress_level=4),
    }  # fmt: skip
    reply = comfy.prompt(graph)
    assert reply.status == 200, reply.body
    assert reply.json["filenames"] == [
        "linked/name_00001_.png", "linked/name_00002_.png", "linked/name_00003_.png",
    ]  # fmt: skip
    assert reply.json["prompt"] == graph


def test_every_kind_of_file_comes_with_its_type(comfy: ComfyServer) -> None:
    images = pattern(1, batch=3)
    graph = {
        "1": images,
        "2": node("SaveAnimatedWEBP", images=["1", 0], filename_prefix="k/webp", fps=6.0,
                  lossless=True, quality=80, method="default"),
        "3": node("SaveAnimatedPNG", images=["1", 0], filename_prefix="k/apng", fps=6.0,
                  compress_level=4),
        "4": node("CreateVideo", images=["1", 0], fps=8.0),
        "5": node("SaveVideo", video=["4", 0], filename_prefix="k/video", format="mp4",
                  codec="h264"),
        "6": node("SaveWEBM", images=["1", 0], filename_prefix="k/webm", codec="vp9", fps=24.0,
                  crf=32.0),
        "7": node("EmptyLatentImage", width=64, height=64, batch_size=1),
        "8": node("SaveLatent", samples=["7", 0], filename_prefix="k/latent"),
        "9": node("TestSavesSilently", text="weights", filename_prefix="k/silent"),
        "10": node("TestSays", text="a text"),
        "11": node("PreviewAny", source=["10b", 0]),
        "10b": node("TestPrefix", text="any"),
        "12": node("TestSound", hertz=440.0),
        "13": node("SaveAudio", audio=["12", 0], filename_prefix="k/audio"),
        "14": node("SaveAudioMP3", audio=["12", 0], filename_prefix="k/mp3", quality="V0"),
        "15": node("TestMesh", size=1.0),
        "16": node("SaveGLB", mesh=["15", 0], filename_prefix="k/mesh"),
    }  # fmt: skip
    reply = comfy.prompt(graph, id="i")
    assert reply.status == 200, reply.body
    found = {
        o["node_id"]: (o["type"], o["media_type"], o["filename"]) for o in reply.json["outputs"]
    }
    assert found["2"] == ("image", "image/webp", "k/i_webp_00001_.webp")
    assert found["3"][:2] == ("image", "image/png")
    assert found["5"][:2] == ("video", "video/mp4")
    assert found["6"][:2] == ("video", "video/webm")
    assert found["8"][2] == "k/i_latent_00001_.latent"
    assert found["13"][:2] == ("audio", "audio/flac")
    assert found["14"][:2] == ("audio", "audio/mpeg")
    assert found["16"][1] == "model/gltf-binary"
    assert found["9"][2] == "k/i_silent_00001_.safetensors"
    assert (
        reply.images[reply.json["filenames"].index("k/i_silent_00001_.safetensors")] == b"weights"
    )
    assert {t["node_id"]: t["text"] for t in reply.json["texts"]} == {"10": "a text", "11": "any"}
    assert len(reply.json["images"]) == len(reply.json["filenames"]) == len(found)
    sizes = [len(image) for image in reply.images]
    assert sizes == [output["size_bytes"] for output in reply.json["outputs"]]


def test_previews_come_only_when_there_is_nothing_else(comfy: ComfyServer) -> None:
    graph = saved(1)
    graph["8"] = node("PreviewImage", images=["1", 0])
    assert [o["node_id"] for o in comfy.prompt(graph).json["outputs"]] == ["9"]
    del graph["9"]
    reply = comfy.prompt(graph, id="p")
    assert [o["node_id"] for o in reply.json["outputs"]] == ["8"]
    assert reply.json["filenames"] == ["p_ComfyUI_temp_00001_.png"]
    np.testing.assert_array_equal(pixels(reply.images[0]), pixels(comfy.prompt(saved(1)).images[0]))


def test_audio_previews_come_from_the_temp_folder(comfy: ComfyServer) -> None:
    graph = {"1": node("TestSound", hertz=220.0), "2": node("PreviewAudio", audio=["1", 0])}
    for _ in range(2):
        (output,) = comfy.prompt(graph, id="t").json["outputs"]
        assert output["media_type"] == "audio/flac"
        assert output["filename"].startswith("t_")


def test_images_for_the_websocket_come_in_the_response(comfy: ComfyServer) -> None:
    graph = {"1": pattern(4), "2": node("SaveImageWebsocket", images=["1", 0])}
    reply = comfy.prompt(graph)
    np.testing.assert_array_equal(pixels(reply.images[0]), pixels(comfy.prompt(saved(4)).images[0]))


def test_a_file_under_a_fixed_name_is_the_jobs_own(comfy: ComfyServer) -> None:
    def report(number: int) -> bytes:
        graph = {"1": node("TestWritesFile", text=f"row {number}", name="report.csv",
                           folder="output")}  # fmt: skip
        reply = comfy.prompt(graph, id=f"j{number}")
        assert reply.json["filenames"] == [f"j{number}_report.csv"]
        return reply.images[0]

    with ThreadPoolExecutor(10) as pool:
        assert list(pool.map(report, range(30))) == [f"row {n}".encode() for n in range(30)]


def test_a_file_that_was_there_before_stays(comfy: ComfyServer) -> None:
    mine = comfy.base / "input" / "mine.txt"
    mine.write_text("the user's own")
    try:
        graph = {"1": node("TestWritesFile", text="", name="mine.txt", folder="input")}
        assert comfy.prompt(graph).json["images"] == []
        assert mine.read_text() == "the user's own"
    finally:
        mine.unlink()


def test_a_workflow_is_embedded_without_our_names_by_other_savers_too(comfy: ComfyServer) -> None:
    graph = {
        "1": pattern(1, batch=2),
        "2": node("SaveAnimatedPNG", images=["1", 0], filename_prefix="p", fps=6.0,
                  compress_level=4),
    }  # fmt: skip
    reply = comfy.prompt(graph, id="i")
    assert b"stateless" not in reply.images[0]
    assert b"i_p" in reply.images[0]


def test_convert_output_encodes_from_the_same_pixels(comfy: ComfyServer) -> None:
    graph = saved(1, width=128, height=128)
    lossless = {"format": "webp", "options": {"lossless": True}}
    reply = comfy.prompt(graph, id="c", convert_output=lossless)
    assert reply.json["filenames"] == ["c_picture_00001_.webp"]
    assert reply.json["outputs"][0]["media_type"] == "image/webp"
    assert reply.json["convert_output"]["format"] == "webp"
    np.testing.assert_array_equal(pixels(reply.images[0]), pixels(comfy.prompt(graph).images[0]))


@pytest.mark.parametrize("format", ["jpeg", "jpg", "webp", "avif", "png"])
def test_every_format_gives_a_file_of_that_format(comfy: ComfyServer, format: str) -> None:
    reply = comfy.prompt(saved(1, width=128, height=96), convert_output={"format": format})
    assert reply.json["filenames"][0].endswith(f".{format}")
    with Image.open(io.BytesIO(reply.images[0])) as image:
        assert image.format == {"jpg": "JPEG"}.get(format, format.upper())
        assert image.size == (128, 96)


def test_an_animation_passes_conversion_unchanged(comfy: ComfyServer) -> None:
    graph = {
        "1": pattern(1, batch=3),
        "2": node("SaveAnimatedWEBP", images=["1", 0], filename_prefix="a", fps=6.0,
                  lossless=True, quality=80, method="default"),
    }  # fmt: skip
    reply = comfy.prompt(graph, convert_output={"format": "jpeg"})
    assert reply.json["filenames"][0].endswith(".webp")
    with Image.open(io.BytesIO(reply.images[0])) as image:
        assert image.n_frames == 3


def test_a_file_of_another_saver_is_converted(comfy: ComfyServer) -> None:
    graph = {
        "1": pattern(1, batch=1),
        "2": node("SaveAnimatedPNG", images=["1", 0], filename_prefix="still", fps=6.0,
                  compress_level=4),
    }  # fmt: skip
    reply = comfy.prompt(graph, id="s", convert_output={"format": "jpeg"})
    assert reply.json["filenames"] == ["s_still_00001_.jpeg"]
    assert reply.images[0][:3] == b"\xff\xd8\xff"


@pytest.mark.parametrize("count", [20, 200])
def test_many_jobs_at_once_get_their_own_pixels(comfy: ComfyServer, count: int) -> None:
    expected = {seed: pixels(comfy.prompt(saved(seed)).images[0]) for seed in range(5)}

    def check(number: int) -> bool:
        reply = comfy.prompt(saved(number % 5), id=f"job {number}")
        assert reply.status == 200, reply.body
        assert reply.json["id"] == f"job {number}"
        assert reply.json["filenames"] == [f"job {number}_picture_00001_.png"]
        return np.array_equal(pixels(reply.images[0]), expected[number % 5])

    with ThreadPoolExecutor(count) as pool:
        assert all(pool.map(check, range(count)))


@pytest.mark.parametrize(
    "odd",
    ["../../etc/passwd", "a/b\\c", "..", ".hidden", "line\nbreak", "nul\0", "emoji 🙂", 'quo"te\'s',
     "%year%", "x" * 255, "漢" * 255, "\u202egnp.exe", "<script>", "CON", " ", "a:b|c?d*e"],
)  # fmt: skip
def test_an_id_with_odd_characters_is_echoed_and_leaves_no_folder(
    comfy: ComfyServer, odd: str
) -> None:
    graph = saved(1, prefix="deep/name")
    graph["5"] = node("SaveLatent", samples=["6", 0], filename_prefix="deep/latent")
    graph["6"] = node("EmptyLatentImage", width=16, height=16, batch_size=1)
    reply = comfy.prompt(graph, id=odd)
    assert reply.status == 200, reply.body
    assert reply.json["id"] == odd
    for name in reply.json["filenames"]:
        folder, _, file = name.partition("/")
        assert folder == "deep"
        assert not set(file) & set('/\\\0\n"<>|:*?')
        assert len(file.encode()) <= 255


def test_the_reply_shows_the_graph_as_it_was_sent(comfy: ComfyServer) -> None:
    graph = {
        "1": node("EmptyImage", width="16", height=16, batch_size=1, color=0),
        "2": node("ImageScaleBy", image=["1", 0], upscale_method="area", scale_by=2),
        "3": node("PreviewImage", images=["2", 0]),
        "4": node("PreviewAny", source="caf\u00e9 \u65e5\u672c \U0001f600"),
    }
    reply = comfy.prompt(graph)
    assert reply.status == 200, reply.body
    as_javascript_writes_it = json.dumps(graph, ensure_ascii=False, separators=(",", ":"))
    assert f'"prompt":{as_javascript_writes_it}'.encode() in reply.body
