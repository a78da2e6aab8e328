"""Which inputs name files, and models that are linked: seen in a running ComfyUI."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.comfyui.graphs import node, saved
from tests.comfyui.server import ComfyServer

Inputs = dict[str, dict[str, dict[str, Any]]]


@pytest.fixture
def inputs(comfy: ComfyServer) -> Inputs:
    """What the catalog knows of all classes."""
    return dict(comfy.get("/test-host/inputs").json)


def folders(inputs: Inputs, class_type: str) -> dict[str, list[str]]:
    """Return the folders of a class's models, by input."""
    found = inputs.get(class_type, {})
    return {n: s["folders"] for n, s in found.items() if s["kind"] == "ModelInput"}


def media(form: str, *, is_marked: bool) -> dict[str, Any]:
    return {"kind": "MediaInput", "form": form, "is_marked": is_marked}


@pytest.mark.parametrize(
    ("class_type", "expected"),
    [
        ("CheckpointLoaderSimple", {"ckpt_name": ["checkpoints"]}),
        ("LoraLoader", {"lora_name": ["loras"]}),
        ("VAELoader", {"vae_name": ["vae"]}),
        ("UNETLoader", {"unet_name": ["diffusion_models"]}),
        ("DualCLIPLoader", {"clip_name1": ["text_encoders"], "clip_name2": ["text_encoders"]}),
        ("CheckpointLoader", {"config_name": ["configs"], "ckpt_name": ["checkpoints"]}),
        ("TestLoader", {"name": ["loras"]}),
        ("TestLegacyLoader", {"name": ["diffusion_models"], "clip": ["text_encoders"]}),
        ("TestOptionalLoader", {"vae": ["vae"]}),
        ("TestTwoFolders", {"both": ["checkpoints", "diffusion_models"], "vae": ["vae"]}),
        (
            "TestTransforms",
            {name: ["loras"] for name in ("stem", "base", "upper", "gguf", "dicts")},
        ),
        ("TestFromDisk", {"listed": ["loras"], "walked": ["loras"]}),
        (
            "TestNested",
            {
                "model.file": ["checkpoints", "diffusion_models"],
                "model.vae": ["vae"],
                "model.deep.vae": ["vae"],
                "loras.lora0": ["loras"],
                "loras.lora1": ["loras"],
                "slot.vae": ["vae"],
            },
        ),
        ("TestModernLoader", {"lora": ["loras"], "many": ["vae"]}),
        ("TestOnce", {}),
        ("TestKeepsWhatItSaw", {}),
        ("TestRaisesWhenAsked", {}),
        ("KSampler", {}),
        ("LoadImage", {}),
    ],
)
def test_an_input_is_known_by_the_folder_that_its_options_come_from(
    inputs: Inputs, class_type: str, expected: dict[str, list[str]]
) -> None:
    found = folders(inputs, class_type)
    assert {name: sorted(f) for name, f in found.items()} == expected


@pytest.mark.parametrize(
    ("class_type", "expected"),
    [
        ("LoadImage", {"image": media("name", is_marked=True)}),
        ("LoadAudio", {"audio": media("name", is_marked=True)}),
        ("LoadVideo", {"file": media("name", is_marked=True)}),
        ("Load3D", {"model_file": media("name", is_marked=True)}),
        (
            "TestUploads",
            {"picture": media("name", is_marked=True), "sound": media("name", is_marked=True)},
        ),
        ("TestModernMedia", {"clip": media("name", is_marked=True)}),
        (
            "TestNamed",
            {name: media("name", is_marked=False) for name in ("image", "video", "file")},
        ),
        ("TestVideoPath", {"video": media("path", is_marked=True)}),
        ("TestImagesPath", {"directory": media("folder_path", is_marked=True)}),
        ("TestImages", {"directory": media("folder", is_marked=False)}),
        ("TestLoadsBase64", {}),
        ("SaveImage", {}),
        ("TestPattern", {}),
    ],
)
def test_an_input_that_takes_media_is_known_by_its_mark_or_name(
    inputs: Inputs, class_type: str, expected: dict[str, Any]
) -> None:
    found = inputs.get(class_type, {})
    for slot in found.values():
        del slot["options"]
    assert found == expected


@pytest.mark.parametrize(
    ("class_type", "name"), [("DiffusersLoader", "model_path"), ("TestFromDisk", "repository")]
)
def test_an_input_that_lists_whole_repositories_is_found(
    inputs: Inputs, class_type: str, name: str
) -> None:
    assert inputs[class_type][name] == {"kind": "RepositoryInput", "folder": "diffusers"}


def test_options_that_are_no_files_are_told_apart(comfy: ComfyServer) -> None:
    file = comfy.base / "models" / "vae" / "sub" / "there.safetensors"
    file.parent.mkdir(parents=True)
    file.touch()
    found = comfy.get("/test-host/inputs").json
    file.unlink()
    file.parent.rmdir()
    assert found["TestOptionalLoader"]["vae"]["options"] == ["pixel_space"]
    assert found["TestTwoFolders"]["both"]["options"] == ["None"]
    assert found["TestTwoFolders"]["vae"]["options"] == []
    assert found["TestLoadsFileOrData"]["image"]["options"] == ["#data"]


def test_no_made_up_file_is_ever_seen_by_others(comfy: ComfyServer) -> None:
    seen = comfy.get("/test-host/meanwhile").json
    assert any("zzstateless" in name for name in seen["inside"])
    others = f"{seen['outside']}{seen['roots']}{seen['cached']}"
    assert "zzstateless" not in others
    assert seen["restored"]


def test_no_made_up_file_is_left(comfy: ComfyServer) -> None:
    comfy.get("/test-host/inputs")
    shown = comfy.get("/object_info").json
    del shown["TestKeepsWhatItSaw"]
    assert "zzstateless" not in str(shown)
    assert "TestOnce" in shown


def test_a_class_that_keeps_made_up_files_is_named_in_the_log(comfy: ComfyServer) -> None:
    comfy.get("/test-host/inputs")
    assert "KeepsWhatItSaw'> keeps the model files that it has seen" in comfy.log
    assert "INPUT_TYPES of <class '" in comfy.log


def test_a_class_that_cannot_say_what_it_is_is_a_400_that_names_it(comfy: ComfyServer) -> None:
    graph = {**saved(1), "2": node("TestMadeForAnother")}
    reply = comfy.prompt(graph)
    assert (reply.status, reply.json["code"]) == (400, "invalid_prompt")
    assert reply.json["location"] == "prompt.2.class_type"
    assert reply.json["error"].endswith("this ComfyUI: TypeError: an argument is missing.")
    assert comfy.prompt({"2": graph["2"]}).json == reply.json
    found = comfy.post("/api/stateless/validate", {"prompt": graph}).json
    assert not found["valid"]
    assert not found["missing_nodes"]
    (error,) = found["node_errors"]["2"]["errors"]
    assert error["type"] == "broken_node_type"
    assert comfy.prompt(saved(1)).status == 200
    (comfy.base / "input" / "fits").touch()
    assert comfy.prompt(graph).status == 200
    (comfy.base / "input" / "fits").unlink()


def test_a_class_that_is_registered_later_is_learned(comfy: ComfyServer) -> None:
    assert comfy.get("/test-host/late").json == ["loras", "vae", 0]


# Models


@pytest.fixture
def cache(comfy: ComfyServer, tmp_path: Path) -> Path:
    return tmp_path


def link(comfy: ComfyServer, cache: Path, folder: str, name: str, **more: Any) -> Any:
    target = more.pop("target", cache / "file.safetensors")
    if not target.exists():
        target.write_bytes(b"weights")
    body = {"cache": str(cache), "folder": folder, "name": name, "target": str(target), **more}
    return comfy.post("/test-host/link", body)


def is_valid(comfy: ComfyServer, class_type: str, **inputs: str) -> bool:
    reply = comfy.post("/prompt", {"prompt": {"1": node(class_type, **inputs)}})
    return reply.status == 200


def test_a_graph_that_names_a_linked_model_validates_at_once(
    comfy: ComfyServer, cache: Path
) -> None:
    for number in range(20):
        name = f"new-{number}.safetensors"
        assert not is_valid(comfy, "TestLoader", name=name)
        linked = link(comfy, cache, "loras", name).json
        assert linked["name"] == name
        assert is_valid(comfy, "TestLoader", name=name)
        Path(linked["path"]).unlink()


def test_a_link_lies_in_the_root_that_is_named_like_the_folder(
    comfy: ComfyServer, cache: Path
) -> None:
    expected = comfy.base / "models" / "diffusion_models" / "root.safetensors"
    for folder in ("unet", "diffusion_models"):
        path = Path(link(comfy, cache, folder, expected.name).json["path"])
        assert path == expected
        assert path.is_symlink()
        assert path.read_bytes() == b"weights"
    expected.unlink()


@pytest.mark.parametrize("folder", ["custom_nodes", "nothing", "../x", ""])
def test_an_unknown_folder_is_refused_with_those_that_there_are(
    comfy: ComfyServer, cache: Path, folder: str
) -> None:
    refused = link(comfy, cache, folder, "x.safetensors")
    assert refused.status == 400
    assert "checkpoints" in refused.json["error"]
    assert "custom_nodes," not in refused.json["error"]


def test_default_roots_of_extra_paths_come_first(
    comfy: ComfyServer, tmp_path: Path, cache: Path
) -> None:
    default, plain = tmp_path / "fast", tmp_path / "slow"
    config = tmp_path / "extra.yaml"
    config.write_text(
        f"one:\n  base_path: {default}\n  is_default: true\n  loras: disk\n"
        f"two:\n  base_path: {plain}\n  vae: disk\n"
    )
    base = tmp_path / "base"
    args = ("--extra-model-paths-config", str(config), "--disable-metadata")
    with ComfyServer(comfy.install, base, args=args) as server:
        server.get("/test-host/inputs")
        one = link(server, cache, "loras", "a.safetensors").json
        two = link(server, cache, "vae", "a.safetensors").json
        assert is_valid(server, "TestLoader", name="a.safetensors")
    assert one["path"] == str(default / "disk" / "a.safetensors")
    assert two["path"] == str(base / "models" / "vae" / "a.safetensors")


def test_a_path_inside_the_folder_may_be_named(comfy: ComfyServer, cache: Path) -> None:
    linked = link(comfy, cache, "loras", "made/up/x.safetensors").json
    assert linked["name"] == str(Path("made", "up", "x.safetensors"))
    assert is_valid(comfy, "TestLoader", name=linked["name"])
    Path(linked["path"]).unlink()
    Path(linked["path"]).parent.rmdir()
    Path(linked["path"]).parent.parent.rmdir()
