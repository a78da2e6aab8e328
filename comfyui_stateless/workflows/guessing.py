"""Which widgets of a graph its author may want to offer as inputs, and under which names."""

from __future__ import annotations

import keyword
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

from .base import JsonObject
from .definitions import is_link
from .marks import title_of

Graph = Mapping[str, JsonObject]
Value = str | int | float | bool


@dataclass(frozen=True, slots=True)
class Widget:
    """An input of a node that has a value of its own."""

    node: str
    input: str
    value: Value
    class_type: str
    title: str = ""

    @property
    def place(self) -> tuple[str, str]:
        """The node and the input."""
        return self.node, self.input


@dataclass(frozen=True, slots=True)
class Usual:
    """What an input that everybody knows is called.

    Attributes:
        kind: ``seed`` or a kind of media where the YAML has to say it.
    """

    name: str
    description: str
    kind: str | None = None
    required: bool = False


@dataclass(frozen=True, slots=True)
class Offer:
    """An input of the endpoint, and the widgets that get its value."""

    name: str
    widgets: tuple[Widget, ...]
    usual: Usual | None = None

    @property
    def first(self) -> Widget:
        """The widget whose value is the default."""
        return self.widgets[0]


PROMPT = Usual("prompt", "What the result shows.", required=True)
NEGATIVE = Usual("negative_prompt", "What it must not show.")

USUAL = {
    "seed": Usual("seed", "The same seed gives the same result; drawn when left out.", "seed"),
    "steps": Usual("steps", "Steps of the sampler."),
    "cfg": Usual("cfg", "How closely the prompt is followed."),
    "guidance": Usual("guidance", "How closely the prompt is followed."),
    "sampler_name": Usual("sampler", "The sampler."),
    "scheduler": Usual("scheduler", "The scheduler of its steps."),
    "denoise": Usual("strength", "How much is made anew, from 0 (nothing) to 1 (all of it)."),
    "width": Usual("width", "Width in pixels."),
    "height": Usual("height", "Height in pixels."),
    "batch_size": Usual("count", "How many are made."),
    "length": Usual("length", "Number of frames."),
    "fps": Usual("fps", "Frames per second."),
    "ckpt_name": Usual(
        "checkpoint", "A name in the checkpoints folder, or the URL of another one."
    ),
    "unet_name": Usual(
        "model", "A name in the diffusion_models folder, or the URL of another one."
    ),
    "lora_name": Usual("lora", "A name in the loras folder, or the URL of another one."),
    "strength_model": Usual("lora_strength", "How strongly the LoRA changes the model."),
    "control_net_name": Usual("controlnet", "A name in the controlnet folder, or a URL."),
    "megapixels": Usual("megapixels", "Size in megapixels."),
    "scale_by": Usual("scale", "Times as large."),
}
USUAL["noise_seed"] = USUAL["seed"]
USUAL["frame_rate"] = USUAL["fps"]

MEDIA = {
    "image": Usual("image", "An image: a URL or base64.", required=True),
    "mask": Usual("mask", "A mask: a URL or base64.", required=True),
    "video": Usual("video", "A video: a URL or base64.", required=True),
    "audio": Usual("audio", "A sound: a URL or base64.", required=True),
}

LEADING = (PROMPT, NEGATIVE, *MEDIA.values())

HIDDEN = frozenset({"filename_prefix", "control_after_generate", "upload"})
"""The first is set for each job, the others are the editor's own."""

SIZES = frozenset({"width", "height", "batch_size", "length"})
TEXTS = ("text", "prompt", "text_g", "text_l", "clip_g", "clip_l", "t5xxl", "string", "value")
"""Inputs that hold a prompt, where a sampler is reached from them."""

_LOADS = re.compile(r"^(Load|VHS_Load)\w*?(Image|Mask|Video|Audio)", re.IGNORECASE)
_FOLLOWED = ("conditioning", "conditioning_to", "conditioning_from", "conditioning_1", "conditioning_2", "cond1", "cond2")  # fmt: skip
_WORD = re.compile(r"[^a-z0-9]+")


def widgets_of(graph: Graph) -> list[Widget]:
    """Return what can be offered, in the graph's order."""
    return [
        Widget(node_id, name, value, node["class_type"], title_of(node))
        for node_id, node in graph.items()
        for name, value in node["inputs"].items()
        if isinstance(value, (str, int, float, bool)) and name not in HIDDEN
    ]


def usual_names(graph: Graph) -> dict[tuple[str, str], Usual]:
    """Return the widgets that most endpoints offer, by their places."""
    prompts = _prompts(graph)
    found: dict[tuple[str, str], Usual] = {}
    for widget in widgets_of(graph):
        usual = prompts.get(widget.place) or _usual(widget, graph)
        if usual is not None:
            found[widget.place] = usual
    return found


def offers(
    graph: Graph, chosen: Mapping[tuple[str, str], str], joined: Collection[str] = ()
) -> list[Offer]:
    """Return the inputs of an endpoint.

    Args:
        chosen: The name of each widget that is offered. Widgets of one name are one input where
            they are alike; else the name gets a number.
        joined: Names whose widgets are one input whatever they are.
    """
    usual = usual_names(graph)
    made: dict[str, Offer] = {}
    for widget in (w for w in widgets_of(graph) if w.place in chosen):
        name = chosen[widget.place]
        while name in made and name not in joined and not _are_alike(made[name].first, widget):
            name = _next(name)
        before = made[name].widgets if name in made else ()
        made[name] = Offer(name, (*before, widget), usual.get(widget.place))
    # What every caller gives comes first; the rest is in the graph's order.
    return sorted(made.values(), key=lambda offer: offer.usual not in LEADING)


def name_of(widget: Widget) -> str:
    """Return a name for a widget that has no usual one: its node's, and its own."""
    return slug(f"{widget.title or widget.class_type} {widget.input}")


def slug(text: str) -> str:
    """Return a text as a name: lower case, digits and underscores, a letter first."""
    name = _WORD.sub("_", text.lower()).strip("_")
    is_name = name[:1].isalpha() and not keyword.iskeyword(name)
    return name if is_name else f"input_{name}".rstrip("_")


def _usual(widget: Widget, graph: Graph) -> Usual | None:
    loads = _LOADS.match(widget.class_type)
    if loads and widget.input in ("image", "video", "audio", "file"):
        is_mask = "mask" in widget.class_type.lower()
        return MEDIA["mask" if is_mask else loads[2].lower()]
    if widget.input in SIZES and widget.node not in _sized(graph):
        return None
    if widget.input == "denoise" and widget.value == 1:
        return None  # a whole image is made: there is nothing to be kept
    if widget.input == "model_name" and widget.class_type.startswith("UpscaleModel"):
        return Usual("upscale_model", "A name in the upscale_models folder, or a URL.")
    return USUAL.get(widget.input)


def _sized(graph: Graph) -> frozenset[str]:
    """Return the nodes whose width and height are the result's: those that make latents."""
    sized = {n for n, node in graph.items() if {"width", "height"} <= node["inputs"].keys()}
    latent = {n for n in sized if re.search("latent|tovideo", graph[n]["class_type"], re.I)}
    return frozenset(latent or sized)


def _prompts(graph: Graph) -> dict[tuple[str, str], Usual]:
    found: dict[tuple[str, str], Usual] = {}
    # All positive ones first: what a node makes of a prompt may also be the negative one.
    for role, usual in (("positive", PROMPT), ("negative", NEGATIVE)):
        for node_id, name in _ends(graph, role):
            for place in _texts(graph, node_id, name, role, set()):
                found.setdefault(place, usual)
    return found


def _ends(graph: Graph, role: str) -> Iterator[tuple[str, str]]:
    """Yield the inputs that take what was encoded of a prompt."""
    for node_id, node in graph.items():
        is_guider = role == "positive" and "guider" in node["class_type"].lower()
        for name in (role, *(_FOLLOWED if is_guider else ())):
            if name in node["inputs"]:
                yield node_id, name


def _texts(
    graph: Graph, node_id: str, name: str, role: str, seen: set[str]
) -> Iterator[tuple[str, str]]:
    """Yield the texts that an input gets over its links."""
    link = graph[node_id]["inputs"].get(name)
    source = str(link[0]) if is_link(link) and link else ""
    if source not in graph or source in seen:
        return
    seen.add(source)
    inputs = graph[source]["inputs"]
    if role == "negative" and "ZeroOut" in graph[source]["class_type"]:
        return  # what is behind it does not matter
    own = [text for text in TEXTS if isinstance(inputs.get(text), str)]
    yield from ((source, text) for text in own)
    for further in (*TEXTS, *_FOLLOWED, role):
        yield from _texts(graph, source, further, role, seen)


def _are_alike(one: Widget, other: Widget) -> bool:
    is_same_kind = type(one.value) is type(other.value) and one.value == other.value
    return is_same_kind and (
        one.input == other.input or USUAL.get(one.input) == USUAL.get(other.input)
    )


def _next(name: str) -> str:
    stem, _, number = name.rpartition("_")
    return f"{stem}_{int(number) + 1}" if stem and number.isdigit() else f"{name}_2"


def named(graph: Graph, text: str) -> tuple[tuple[str, str], str]:
    """Return the place and the name of ``node.widget=name``.

    Raises:
        ValueError: There is no such widget; lists those that there are.
    """
    where, _, name = text.rpartition("=")
    if not where or not slug(name) == name:
        raise ValueError(f"{text!r} is not NODE.WIDGET=name, with a name such as sky_color")
    places: Sequence[Widget] = widgets_of(graph)
    for widget in places:
        if f"{widget.node}.{widget.input}" == where:
            return widget.place, name
    near = [w for w in places if w.node == where.partition(".")[0]] or places
    known = ", ".join(f"{w.node}.{w.input}" for w in near)
    raise ValueError(f"the graph has no widget {where}; it has {known}")
