"""Nodes that take files, each listing or naming them in one of the ways that packs do."""

import functools
import hashlib
import os
from pathlib import Path
from typing import ClassVar

import folder_paths
from comfy_api.latest import io

folder_paths.folder_names_and_paths["test_things"] = (
    [str(Path(folder_paths.models_dir, "test_things"))],
    {".thing"},
)


def node_class(name, required, optional=None, **attributes):
    """Return a V1 class; ``required`` and ``optional`` are called each time it is asked."""

    def input_types(_):
        return {"required": required(), "optional": optional() if optional else {}}

    def run(self, **given):
        return {"ui": {"text": [str(value) for value in given.values()]}}

    members = {
        "INPUT_TYPES": classmethod(input_types),
        "RETURN_TYPES": (),
        "FUNCTION": "run",
        "CATEGORY": "test",
        "OUTPUT_NODE": True,
        "run": run,
    }
    return type(name, (), {**members, **attributes})


def listed(folder):
    return folder_paths.get_filename_list(folder)


def listed_from_disk(folder):
    root = Path(folder_paths.get_folder_paths(folder)[0])
    return [path.name for path in root.iterdir() if path.is_file()]


def walked(folder, extension):
    return [
        os.path.relpath(Path(place, name), root)
        for root in folder_paths.get_folder_paths(folder)
        for place, _, names in os.walk(root)
        for name in names
        if name.endswith(extension)
    ]


def repositories(folder):
    return [
        os.path.relpath(place, root)
        for root in folder_paths.get_folder_paths(folder)
        for place, _, names in os.walk(root, followlinks=True)
        if "model_index.json" in names
    ]


def folders_of_input():
    root = Path(folder_paths.get_input_directory())
    return [path.name for path in root.iterdir() if path.is_dir()]


@functools.lru_cache
def listed_once(folder):
    return listed(folder)


def reader(name, folder):
    """Return a V1 class that shows the digest of a file of a model folder."""

    def run(self, name):
        content = Path(folder_paths.get_full_path_or_raise(folder, name)).read_bytes()
        return {"ui": {"text": [hashlib.sha256(content).hexdigest()]}}

    return node_class(name, lambda: {"name": (listed(folder),)}, run=run)


class KeepsWhatItSaw:
    """Shows every file that it has ever seen."""

    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_NODE = (), "run", "test", True
    SEEN: ClassVar[set[str]] = set()

    @classmethod
    def INPUT_TYPES(cls):
        cls.SEEN.update(listed("loras"))
        return {"required": {"name": (sorted(cls.SEEN),)}}


class RaisesWhenAsked:
    """Cannot say what inputs it has."""

    RETURN_TYPES, FUNCTION, CATEGORY = (), "run", "test"

    @classmethod
    def INPUT_TYPES(cls):
        raise RuntimeError("asked")


class Unfit(type):
    """Has nothing to say of a class but an error, as V3 classes that were made for a newer ComfyUI."""

    @property
    def OUTPUT_NODE(cls):
        return bool(cls.INPUT_TYPES())


class MadeForAnother(metaclass=Unfit):
    """Cannot be used as long as a file is missing."""

    RETURN_TYPES, FUNCTION, CATEGORY = (), "run", "test"

    @classmethod
    def INPUT_TYPES(cls):
        if not Path(folder_paths.get_input_directory(), "fits").exists():
            raise TypeError("an argument is missing.")
        return {"required": {}}

    def run(self):
        return {}


class ModernLoader(io.ComfyNode):
    """A V3 loader: a combo and a combo of several."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="TestModernLoader",
            inputs=[
                io.Combo.Input("lora", options=["None", *listed("loras")]),
                io.MultiCombo.Input("many", options=listed("vae"), optional=True),
            ],
            outputs=[],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, lora, many=None):
        return io.NodeOutput(ui={"text": [lora]})


class ModernReader(io.ComfyNode):
    """A V3 loader that shows the digest of a file."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="TestModernReader",
            inputs=[io.Combo.Input("name", options=listed("loras"))],
            outputs=[],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, name):
        content = Path(folder_paths.get_full_path_or_raise("loras", name)).read_bytes()
        return io.NodeOutput(ui={"text": [hashlib.sha256(content).hexdigest()]})


class ModernMedia(io.ComfyNode):
    """A V3 node that takes an upload."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="TestModernMedia",
            inputs=[io.Combo.Input("clip", options=[], upload=io.UploadType.video)],
            outputs=[],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, clip):
        return True  # as ComfyUI's own do: from 0.8 on a combo is held against its options

    @classmethod
    def execute(cls, clip):
        return io.NodeOutput(ui={"text": [clip]})


def dynamic(*choices):
    """Return what a V3 dynamic combo looks like on ComfyUIs that have it."""
    options = [{"key": key, "inputs": {"required": inputs}} for key, inputs in choices]
    return "COMFY_DYNAMICCOMBO_V3", {"options": options}


def growing(spec):
    template = {"input": {"required": {"one": spec}}, "prefix": "lora", "min": 1, "max": 2}
    return "COMFY_AUTOGROW_V3", {"template": template}


def nested():
    vae = ("COMBO", {"options": listed("vae")})
    return {
        "model": dynamic(
            ("a", {"file": (listed("checkpoints"),), "vae": vae}),
            ("b", {"file": (listed("diffusion_models"),), "deep": dynamic(("x", {"vae": vae}))}),
            ("c", {}),
        ),
        "loras": growing((listed("loras"),)),
        "slot": ("COMFY_DYNAMICSLOT_V3", {"inputs": {"optional": {"vae": vae}}}),
    }


CLASSES = [
    node_class("Loader", lambda: {"name": (listed("loras"),)}),
    node_class("LegacyLoader", lambda: {"name": (listed("unet"),), "clip": (listed("clip"),)}),
    node_class(
        "OptionalLoader",
        lambda: {"text": ("STRING", {})},
        lambda: {"vae": (["pixel_space", *listed("vae")], {"default": "pixel_space"})},
    ),
    node_class(
        "TwoFolders",
        lambda: {
            "both": (["None", *sorted({*listed("checkpoints"), *listed("diffusion_models")})],),
            "vae": (tuple(listed("vae")),),
            "mode": (["fast", "slow"],),
        },
    ),
    node_class(
        "Transforms",
        lambda: {
            "stem": ([name.rpartition(".")[0] for name in listed("loras")],),
            "base": ([Path(name).name for name in listed("loras")],),
            "upper": ([name.upper() for name in listed("loras")],),
            "gguf": ([name for name in listed("loras") if name.endswith(".gguf")],),
            "dicts": ([{"content": name, "image": None} for name in listed("loras")],),
        },
    ),
    node_class(
        "FromDisk",
        lambda: {
            "listed": (listed_from_disk("loras"),),
            "walked": (walked("loras", ".onnx"),),
            "repository": (repositories("diffusers"),),
        },
    ),
    node_class("Nested", nested),
    node_class("Once", lambda: {"name": (listed_once("loras"),)}),
    node_class(
        "Uploads",
        lambda: {
            "picture": (["a.png"], {"image_upload": True}),
            "sound": ("COMBO", {"options": [], "audio_upload": True}),
            "plain": (["a.png"], {"image_upload": False}),
        },
        VALIDATE_INPUTS=classmethod(lambda _, picture, sound: True),
    ),
    node_class(
        "Named",
        lambda: {
            "image": ("STRING", {"default": ""}),
            "video": (["none"],),
            "audio": ("AUDIO",),
            "file": ("COMBO", {"options": ["a"]}),
            "name": ("STRING", {}),
        },
    ),
    node_class(
        "VideoPath",
        lambda: {
            "video": ("STRING", {"placeholder": "X://v.mp4", "vhs_path_extensions": ["mp4", "gif"]})
        },
    ),
    node_class(
        "ImagesPath",
        lambda: {"directory": ("STRING", {"placeholder": "X://", "vhs_path_extensions": []})},
    ),
    node_class(
        "Images",
        lambda: {"directory": (folders_of_input(),)},
        VALIDATE_INPUTS=classmethod(lambda _, directory: True),
    ),
    KeepsWhatItSaw,
    RaisesWhenAsked,
    MadeForAnother,
    reader("ReadsCheckpoint", "checkpoints"),
    reader("ReadsApprox", "vae_approx"),
    reader("ReadsThing", "test_things"),
    ModernLoader,
    ModernReader,
    ModernMedia,
]
ModernLoader.GET_SCHEMA()
ModernReader.GET_SCHEMA()
ModernMedia.GET_SCHEMA()
