"""What runs prompts, as seen by the stages: the ``Engine`` protocol and the values that flow.

Nothing here knows HTTP or ComfyUI; ``host`` implements ``Engine`` on ComfyUI, tests on a script.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

Graph = Mapping[str, Mapping[str, Any]]
"""A prompt in ComfyUI's API format: node id to ``{class_type, inputs, _meta?}``."""


BROKEN_NODE = "broken_node_type"
"""The type of a node's error whose class is there and cannot say what it is."""


class NodeClass(NamedTuple):
    """What the stages need to know of a registered node class.

    Attributes:
        is_output: Whether it counts as an output node.
        has_prefix: Whether it declares an input named ``filename_prefix``.
        default_prefix: The default of that input, if it is text.
        takes_any_input: Whether an output node takes inputs that it does not declare.
        has_place: Whether it declares an input beside the prefix that says where files go.
    """

    is_output: bool
    has_prefix: bool
    default_prefix: str | None
    takes_any_input: bool = False
    has_place: bool = False


class FileForm(str, Enum):
    """How a node wants to be told of a file that it reads."""

    NAME = "name"
    """As the name of a file in ComfyUI's input folder."""
    PATH = "path"
    """As the absolute path of a file."""
    FOLDER = "folder"
    """As the name of a folder in ComfyUI's input folder, with the files in it."""
    FOLDER_PATH = "folder_path"
    """As the absolute path of a folder."""


@dataclass(frozen=True, slots=True)
class ModelInput:
    """An input whose options are the files of model folders.

    Attributes:
        folders: The folders, such as ``checkpoints``; most inputs have one.
        options: Options that are no files, such as ``None`` or ``pixel_space``.
    """

    folders: tuple[str, ...]
    options: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class RepositoryInput:
    """An input whose options are whole folders inside a model folder, such as a diffusers model."""

    folder: str


@dataclass(frozen=True, slots=True)
class MediaInput:
    """An input that takes an image, a mask, a video, a sound, a 3D model or another file.

    Attributes:
        form: How the node wants to be told of the file.
        is_marked: Whether ComfyUI marks the input as taking uploaded files. Where it only has a
            usual name, such as ``image``, text that names no file is left as it is.
        options: What else it offers: options that are no names of files, such as ``none``.
    """

    form: FileForm
    is_marked: bool
    options: frozenset[str] = frozenset()


FileInput = ModelInput | RepositoryInput | MediaInput


class InputFile(NamedTuple):
    """A file on its way to a node.

    Attributes:
        path: Where it lies now; it stays there.
        digest: The SHA-256 of its content, in hex: the same content gets the same name.
        extension: With its dot, in lower case; may be empty.
    """

    path: Path
    digest: str
    extension: str


class LinkedModel(NamedTuple):
    """A model in a model folder: its name as ComfyUI lists it, and the link's path."""

    name: str
    path: Path


@dataclass(frozen=True, slots=True)
class PreparedPrompt:
    """A prompt that is ready to be validated and run.

    Attributes:
        run_id: An id of its own for every run, a UUID.
        id: The caller's id, as it came.
        graph: The graph with output prefixes and local names; never edited in place.
        name_prefix: What goes in front of the names of files whose node takes no prefix.
        extra_data: What ComfyUI hands to nodes, secrets included.
        fetched: The inputs that got a local name in place of what the caller sent, by node and
            input, with the files of media; models are in their folders.
    """

    run_id: str
    id: str
    graph: Graph
    name_prefix: str
    extra_data: Mapping[str, Any] = field(default_factory=dict, repr=False)
    fetched: Mapping[tuple[str, str], tuple[InputFile, ...]] = field(default_factory=dict)


class CapturedImage(NamedTuple):
    """One image taken from a node before anything encoded it.

    Attributes:
        node_id: The node of the caller's graph that it belongs to.
        filename: Its name with subfolder, unique within the run.
        temp: Whether it counts only when there is no other output.
        pixels: uint8, ``[H, W]`` or ``[H, W, C]`` with C of 2, 3 or 4.
        metadata: Gives the text chunks to embed, as pairs of keyword and text; may be slow.
    """

    node_id: str
    filename: str
    temp: bool
    pixels: npt.NDArray[np.uint8]
    metadata: Callable[[], tuple[tuple[str, str], ...]]


class NodeFile(NamedTuple):
    """A file that a node wrote, in a folder of the run's own."""

    node_id: str
    filename: str
    temp: bool
    path: Path


class NodeText(NamedTuple):
    """A text that an output node showed."""

    node_id: str
    text: str


@dataclass(frozen=True, slots=True)
class NodeTimes:
    """When a node ran, in Unix milliseconds, and whether its result came from the cache."""

    start: int
    end: int
    cached: bool


class Execution(NamedTuple):
    """What a run of a prompt gave, beside its captured images.

    Attributes:
        prompt: The graph that ran, in the caller's own classes.
        started: When it left ComfyUI's queue, in Unix milliseconds.
        ended: When it was done, in Unix milliseconds.
        nodes: The times of every node that ran or came from the cache.
        files: The files that nodes wrote, in the order of the graph.
        texts: The texts that nodes showed, in the order of the graph.
    """

    prompt: Graph
    started: int
    ended: int
    nodes: Mapping[str, NodeTimes]
    files: tuple[NodeFile, ...]
    texts: tuple[NodeText, ...]


class OutputFile(NamedTuple):
    """One output as it is delivered: its bytes, or the file that holds them when it is large.

    ``width`` and ``height`` are pixels, None for what is no image.
    """

    node_id: str
    filename: str
    kind: str
    media_type: str
    body: bytes | Path
    size: int
    width: int | None
    height: int | None


class PromptResult(NamedTuple):
    """All that a reply to a prompt says.

    Attributes:
        stats: Times in integer milliseconds, in the contract's form.
        echo: The fields of the request that replies repeat.
        urls: Where the outputs were uploaded to, in their order; None where they were not.
    """

    id: str
    prompt: Graph
    outputs: tuple[OutputFile, ...]
    texts: tuple[NodeText, ...]
    stats: Mapping[str, Any]
    echo: Mapping[str, Any]
    urls: tuple[str, ...] | None = None


class DeviceMemory(NamedTuple):
    """The memory of a device that runs nodes, such as ``cuda:0``, in bytes."""

    device: str
    free: int
    total: int


class Workspace(Protocol):
    """The folder that holds what one run puts on disk."""

    def folder(self) -> Path:
        """Return the folder, made on the first call. May be called from any thread."""

    def defer(self, release: Callable[[], None]) -> None:
        """Have ``release`` called once the workspace is left and ComfyUI is done with the run."""


class Observer(Protocol):
    """What wants to hear of a run while it goes on; called on any thread, must not block."""

    def image(self, captured: CapturedImage) -> None: ...

    def file(self, file: NodeFile) -> None:
        """Hear of a file as soon as its node is done; it is not in the execution's files then."""

    def started(self) -> None: ...

    def wants(self, event: str) -> bool:
        """Say whether anybody wants events of this name now; asked for each, so it must be cheap.

        Asked for ``preview`` before the run, it says whether ComfyUI shall make any.
        """

    def event(self, name: str, data: Mapping[str, Any]) -> None:
        """Hear of an event in ComfyUI's terms, with the node ids of the caller's graph.

        Those are execution_start, execution_cached, executing, executed, progress, progress_state,
        execution_success, execution_error and execution_interrupted, with ``prompt_id`` being the
        caller's id; and ``preview``, with ``node``, ``media_type`` and ``image`` (bytes).
        """


class Engine(Protocol):
    """Runs prompts."""

    async def start(self) -> None:
        """Get ready to run prompts.

        Raises:
            OSError: A folder cannot be used.
        """

    def node_class(self, class_type: str) -> NodeClass | None:
        """Return what is known of a class, None if no such class is registered."""

    def check_classes(self, graph: Graph, extra_data: Mapping[str, Any]) -> None:
        """See that a graph can be run with the classes that are registered now.

        That is so also where ComfyUI, or a pack, puts another class in place of one that is not.

        Args:
            extra_data: What ComfyUI would hand to nodes.

        Raises:
            InvalidPrompt: It cannot; ``details.node_errors`` has every node whose class is missing.
        """

    async def learn_inputs(self) -> None:
        """See that ``file_inputs`` knows all classes that are registered now; quick if it does."""

    def file_inputs(self, class_type: str) -> Mapping[str, FileInput]:
        """Return the inputs of a class that name files, by input name; empty if it has none."""

    def find_file(self, value: str) -> Path | None:
        """Return the file, or folder, in ComfyUI's own folders that a media input's text names.

        That is a plain name or a path inside the input folder, one with ``[output]`` or the like
        behind it, or an absolute path inside the input, output or temp folder. None if there is
        no such file, whatever the text.
        """

    async def add_input(
        self, files: Sequence[InputFile], form: FileForm, workspace: Workspace
    ) -> str:
        """Put files where nodes read them, until ``workspace`` is left; return the input's value.

        The same content gets the same value for as long as the process lives, so that ComfyUI's
        own cache hits.

        Args:
            files: One, or for the forms of a folder any number.
        """

    def model_extensions(self, folder: str) -> frozenset[str]:
        """Return the extensions that a model folder lists, with their dots; empty is any.

        Raises:
            InvalidInput: There is no such folder.
        """

    def model_file(self, folder: str, name: str) -> Path | None:
        """Return where a file of a model folder is, None if it is not there."""

    async def link_model(
        self, folder: str, name: str, target: Path, *, replace: bool = False
    ) -> LinkedModel:
        """Link a file, or a folder, into a model folder and have ComfyUI list it at once.

        Args:
            name: A path inside the folder.
            replace: Whether a link that is there may be pointed to ``target``.

        Raises:
            InvalidInput: There is no such folder, the name leads out of it, or something else
                lies there.
        """

    def workspace(self, run_id: str) -> AbstractAsyncContextManager[Workspace]:
        """Return the place for the files of a run; leaving it deletes them."""

    async def validate(self, prompt: PreparedPrompt, workspace: Workspace) -> Runnable:
        """Check a prompt as ComfyUI does, without queueing it.

        Raises:
            InvalidPrompt: With ComfyUI's own node errors.
        """

    def queue_depth(self) -> int:
        """Return how many prompts wait or run in ComfyUI, whoever sent them."""

    def trouble(self) -> str | None:
        """Return why prompts cannot be executed now, None if they can."""

    async def models(self) -> dict[str, list[str]]:
        """Return the files of every model folder, by folder name."""

    def variables(self) -> Mapping[str, str]:
        """Return what comfyui-api's variables, such as ``COMFY_HOME``, would say of this ComfyUI."""

    async def definitions(self, class_types: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Return ComfyUI's definitions of classes now; those that it does not have are left out.

        Each has ``input`` (``required`` and ``optional``: input name to a list of the type and its
        settings), ``display_name`` and ``output_node``, in JSON values. Inputs inside others, such
        as ``model.file``, stand among the optional ones too.
        """

    @property
    def version(self) -> str:
        """ComfyUI's version."""

    async def memory(self) -> tuple[DeviceMemory, ...]:
        """Return the memory of the devices with one of their own; empty on a CPU."""


class Runnable(Protocol):
    """A prompt that has passed ComfyUI's validation."""

    def load_ahead(self) -> None:
        """Begin what can be done before the prompt's turn comes; what is not taken is given up."""

    async def run(self, observer: Observer, ended: Callable[[], None]) -> Execution:
        """Run the prompt. Cancelling the call stops the run.

        Args:
            observer: Hears of images as soon as their node has made them.
            ended: Called once when ComfyUI is done with the prompt, however this call ends.

        Raises:
            ExecutionError: A node raised.
            ExecutionInterrupted: Somebody else stopped the run.
        """
