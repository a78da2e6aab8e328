"""Graphs of ComfyUI's own cheap nodes, at random: many run, many are wrong, and some are hostile."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

CHEAP = (
    "CropMask", "EmptyAudio", "EmptyImage", "EmptyLatentImage", "FeatherMask", "GrowMask",
    "ImageBatch", "ImageBlend", "ImageBlur", "ImageColorToMask", "ImageCompositeMasked",
    "ImageCrop", "ImageFlip", "ImageFromBatch", "ImageInvert", "ImagePadForOutpaint",
    "ImageQuantize", "ImageRotate", "ImageScale", "ImageScaleBy", "ImageSharpen", "ImageStitch",
    "ImageToMask", "InvertMask", "JoinImageWithAlpha", "LatentComposite", "LatentCrop",
    "LatentFlip", "LatentFromBatch", "LatentRotate", "LatentUpscale", "LoadAudio", "LoadImage",
    "LoadImageMask", "LoadImageOutput", "LoadLatent", "MaskComposite", "MaskPreview",
    "MaskToImage", "PreviewAny", "PreviewAudio", "PreviewImage", "PrimitiveBoolean",
    "PrimitiveFloat", "PrimitiveInt", "PrimitiveString", "PrimitiveStringMultiline",
    "RebatchImages", "RebatchLatents", "RepeatImageBatch", "RepeatLatentBatch", "SaveAnimatedPNG",
    "SaveAnimatedWEBP", "SaveAudio", "SaveAudioMP3", "SaveImage", "SaveLatent", "SaveSVGNode",
    "SaveWEBM", "SetLatentNoiseMask", "SolidMask", "SplitImageWithAlpha", "StringConcatenate",
    "StringContains", "StringLength", "StringReplace", "StringSubstring", "StringTrim",
    "ThresholdMask", "VAELoader", "CheckpointLoaderSimple", "CLIPTextEncode", "KSampler",
)  # fmt: skip

NODE_IDS = (
    "1", "2", "3", "10", "1.0", "01", " 1", "-1", "", ".", "..", "../1", "a/b", "a\\b", "C:\\x",
    "CON", "nul", "__proto__", "constructor", "prompt", "inputs", "é", "e\u0301", "\u212b", "\u00c5",
    "\U0001f5bc", "\u202eevil", "\0", "a\r\nb: c", "\ud800", "<script>", "%s%n", "{0}", "'--", "x" * 2000,
)  # fmt: skip

PREFIXES = (
    "a", "a/b", "a/b/c/d", "", "/", "a/", "/etc/x", "../x", "a/../../x", "a/../b", ".", "..", "a\\b",
    "..\\x", "C:\\x", "CON", "~/x", "%width%", "%height%x%width%", "%batch_num%", "%year%/%month%",
    "%date:yyyy-MM-dd%", "%SaveImage.filename_prefix%", "%", "%%", "%width", "a%2e%2e/x", "\0", "a\0b",
    "a\nb", "\ud800", "é", "e\u0301", "\u202ea", "x" * 200, "x" * 300, "x/" * 200, "a ", " a", "a.", ".a",
    "ComfyUI_00001_", "a_00001_.png", "a*b?", "a:b", "nul.png", "{id}", "$HOME", "`id`",
)  # fmt: skip

WRONG: tuple[Any, ...] = (
    None, True, -1, 10**30, 2**63, -0.0, 1e308, 0.5, "", "1", "nan", "x", [], {}, [None, 0], ["1"],
    ["1", 0, 0], ["1", "0"], ["1", -1], ["1", 99], ["1", 2**70], [["1", 0]], ["nowhere", 0],
    {"__value__": 1}, {"__value__": ["1", 0]}, {"__type__": "IMAGE"}, [[[[]]]], "\ud800", "\0", "x" * 5000,
)  # fmt: skip

FILES = (
    "nothing.png", "../x.png", "/etc/passwd", "a [output]", "a [temp]", "[input]", "", "data:,",
    "data:image/png;base64,@@", "data:image/png;base64,iVBORw0KGgo=", "iVBORw0KGgo=", "/9j/",
    "upload://a", "file:///etc/passwd", "http://127.0.0.1:1/x.png", "http://[::1]/", "s3://b", "\0",
)  # fmt: skip

TEXTS = ("", "text", "é", "\ud800", "\0", "%s", "<b>", "x" * 3000, "a\nb", "{}", "…")

IDS = (
    "a",
    "../a",
    "a/b",
    "..",
    "\ud800",
    "é",
    "e\u0301",
    "a\r\nb",
    "\0",
    "CON",
    "x" * 255,
    "x" * 256,
    "",
    " ",
)

FIELDS: Mapping[str, tuple[Any, ...]] = {
    "convert_output": (
        {"format": "jpeg"}, {"format": "webp", "options": {"lossless": True}}, {"format": "png"},
        {"format": "avif"}, {"format": "gif"}, {"format": "jpg", "options": {"quality": 0}}, {}, [], "png",
    ),
    "priority": (0, 1, -(10**30), 10**30, 1.5, True, "1"),
    "extra_data": (
        {}, {"extra_pnginfo": {"workflow": {"nodes": []}}}, {"extra_pnginfo": {"\ud800": "\0"}},
        {"extra_pnginfo": []}, {"extra_pnginfo": {"a": [[[[1e308]]]]}}, {"client_id": "x"}, {"": None}, [],
        {"preview_method": "none"}, {"create_time": "x"}, {"x" * 300: "x" * 3000},
    ),
    "credentials": ([], [{"url_pattern": "**", "auth": {"type": "bearer", "token": "t"}}], {}),
    "prompt_id": ("1", "../x"),
    "client_id": ("x", None),
}  # fmt: skip

ACCEPTS = (
    "*/*", "application/json", "image/*", "image/png", "multipart/mixed", "application/zip",
    "text/event-stream", "text/html", "audio/*;q=0.1, */*;q=0", "\u00e9", ";;,,", "application/octet-stream",
)  # fmt: skip

HANGS = "av1"
"""The codec of SaveWEBM that waits for ever for some pictures of an odd size. That is SVT-AV1 4.1,
in PyAV's wheels: it does so without ComfyUI, too."""

MOST = 40
"""Of what numbers ask for: graphs stay cheap, also where one node's output is another's size."""


@dataclass
class Graphs:
    """Makes requests from what ComfyUI says of its classes.

    Args:
        info: What `/object_info` gives.
    """

    info: Mapping[str, Any]

    def request(self, chance: random.Random) -> dict[str, Any]:
        """Return the body of a request."""
        body: dict[str, Any] = {"prompt": self.graph(chance)}
        if chance.random() < 0.5:
            body["id"] = chance.choice(IDS)
        for name, values in FIELDS.items():
            if chance.random() < 0.06:
                body[name] = chance.choice(values)
        return body

    def graph(self, chance: random.Random) -> dict[str, Any]:
        """Return a graph that ends in an output node more often than not."""
        known = [name for name in CHEAP if name in self.info]
        plain = chance.random() < 0.6
        wrong = 0.0 if plain else chance.choice((0.02, 0.1, 0.4))
        ids = chance.sample(NODE_IDS, chance.randint(1, 7)) if not plain else list("1234567")
        outputs = [name for name in known if self.info[name]["output_node"]]
        made: dict[str, Any] = {}
        for number, node_id in enumerate(ids):
            is_last = number == len(ids) - 1 or chance.random() < 0.15
            self._add(made, node_id, chance.choice(outputs if is_last else known), chance, wrong)
        if chance.random() < wrong:
            self._tie(made, chance)
        return made

    def _add(
        self, made: dict[str, Any], node_id: str, name: str, chance: random.Random, wrong: float
    ) -> None:
        """Add a node, and before it what its inputs need."""
        inputs: dict[str, Any] = {}
        groups = self.info[name]["input"]
        for group in ("required", "optional"):
            for key, spec in groups.get(group, {}).items():
                if chance.random() < (0.5 if group == "optional" else wrong / 2):
                    continue
                inputs[key] = self._input(made, key, spec, chance, wrong)
        if chance.random() < wrong / 2:
            inputs[chance.choice(("undeclared", "prompt", "unique_id"))] = chance.choice(WRONG)
        made[node_id] = {"class_type": name, "inputs": inputs}
        if chance.random() < wrong:
            made[node_id][chance.choice(("_meta", "is_changed", "extra", "class_type"))] = (
                chance.choice(WRONG)
            )

    def _input(
        self, made: dict[str, Any], key: str, spec: Any, chance: random.Random, wrong: float
    ) -> Any:
        if chance.random() < wrong:
            return chance.choice(WRONG)
        kind, *rest = spec if isinstance(spec, list) else [spec]
        options = rest[0] if rest and isinstance(rest[0], dict) else {}
        if isinstance(kind, list) or kind == "COMBO":
            return self._choice(kind, options, chance)
        if key in ("filename_prefix", "filename"):
            return chance.choice(PREFIXES)
        if (draw := _DRAWN.get(kind)) is not None:
            return draw(options, chance)
        return self._link(made, kind, chance, wrong)

    def _choice(self, kind: Any, options: Mapping[str, Any], chance: random.Random) -> Any:
        choices = kind if isinstance(kind, list) else options.get("options", [])
        takes_files = any(name.endswith("_upload") for name in options) or not choices
        if takes_files:
            return chance.choice(FILES)
        return chance.choice([choice for choice in choices if choice != HANGS])

    def _link(
        self, made: dict[str, Any], kind: str, chance: random.Random, wrong: float
    ) -> list[Any]:
        """Return a link to what gives this type, which is made where there is nothing yet."""
        fitting = [
            [node_id, slot]
            for node_id, node in made.items()
            for slot, given in enumerate(self._given(node))
            if given == kind or kind == "*"
        ]
        if fitting and chance.random() < 0.8:
            return chance.choice(fitting)
        source = _SOURCES.get(kind)
        if source is None or source not in self.info or len(made) > 12:
            return chance.choice(fitting or [["nowhere", 0]])
        node_id = f"s{len(made)}"
        self._add(made, node_id, source, chance, wrong)
        return [node_id, 0]

    def _given(self, node: Mapping[str, Any]) -> list[str]:
        name = node["class_type"]
        return self.info[name]["output"] if isinstance(name, str) and name in self.info else []

    def _tie(self, made: dict[str, Any], chance: random.Random) -> None:
        """Tie a knot: some input comes from some node, perhaps from its own."""
        node = chance.choice(list(made.values()))
        if node["inputs"]:
            key = chance.choice(list(node["inputs"]))
            node["inputs"][key] = [chance.choice(list(made)), chance.randint(0, 1)]


def _whole(options: Mapping[str, Any], chance: random.Random) -> int:
    low = max(int(options.get("min", 0)), -MOST)
    high = max(low, min(int(options.get("max", MOST)), MOST))
    return chance.choice((low, high, chance.randint(low, high)))


def _number(options: Mapping[str, Any], chance: random.Random) -> float:
    low, high = max(float(options.get("min", 0)), -2.0), min(float(options.get("max", 2)), 2.0)
    return chance.choice((low, high, chance.uniform(low, max(low, high))))


_DRAWN: Mapping[str, Callable[[Mapping[str, Any], random.Random], Any]] = {
    "INT": _whole,
    "FLOAT": _number,
    "BOOLEAN": lambda _, chance: chance.choice((True, False)),
    "STRING": lambda _, chance: chance.choice(TEXTS),
}

_SOURCES = {
    "*": "PrimitiveString",
    "AUDIO": "EmptyAudio",
    "IMAGE": "EmptyImage",
    "LATENT": "EmptyLatentImage",
    "MASK": "SolidMask",
}
