"""Pictures that are loaded ahead, so that the thread that runs nodes only takes them.

ComfyUI's ``LoadImage`` and ``LoadImageMask`` read, hash and decode a file on the one thread that
runs nodes. While a job waits for its turn, threads of ours call these very functions for it. A
wrapper round them gives the nodes of that job what is there; what is not, what failed, and what
belongs to the prompts of others goes its way as ever. The classes stay what they are, and with
them ComfyUI's cache, its events and the prompts in files.

What was loaded is given once, to the run that it was loaded for: so no picture is shared that
ComfyUI would not share, and a node that works in place harms nobody.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

import node_helpers
import nodes
from comfy_execution.utils import get_executing_context

from .loading import THREAD, Key, Load, Loader, Loading
from .originals import is_original

LOADERS = {"LoadImage": ("image",), "LoadImageMask": ("image", "channel")}
"""The loaders whose work is done ahead, with the inputs of their function."""

FUNCTION = "load_image"


class Loads:
    """The pictures that are loaded ahead for one run.

    Args:
        by_node: One for each loader in its graph that names a file, by its node's id.
    """

    def __init__(self, loading: Loading, by_node: Mapping[str, Load]) -> None:
        self._loading = loading
        self._by_node = by_node
        self._left = {load.key: load for load in by_node.values()}

    def begin(self) -> None:
        """Have them loaded; on the loop's thread."""
        for load in self._left.values():
            self._loading.begin(load)

    def take(self, key: Key) -> Any:
        """Return what a loader's function gives, once; None where it has to be called."""
        load = self._left.pop(key, None)
        return None if load is None else self._loading.take(load)

    def digest(self, key: Key) -> Any:
        """Return what a loader's ``IS_CHANGED`` gives, None where it has to be called."""
        load = self._left.get(key)
        return None if load is None else self._loading.digest(load)

    def note_cached(self, node_ids: Iterable[str]) -> None:
        """Note that ComfyUI's cache has what these nodes give."""
        for node_id in node_ids:
            if node_id in self._by_node:
                self._loading.note_cached(self._by_node[node_id])

    def drop(self) -> None:
        """Give up what was not taken."""
        for load in self._by_node.values():
            self._loading.drop(load)


class Runs(Protocol):
    """Gives the live run of ours with a prompt id, None for the prompts of others."""

    def get(self, prompt_id: str) -> HasLoads | None: ...


class HasLoads(Protocol):
    """A run."""

    @property
    def loads(self) -> Loads: ...


class Ahead:
    """Knows what can be loaded ahead. Call ``install`` once."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self._loading = Loading()
        self._loaders: dict[str, Loader] = {}
        self._wrappers: dict[str, Callable[..., Any]] = {}

    def install(self) -> None:
        """Wrap ComfyUI's loaders; one in whose place a pack has put its own is left alone."""
        for name, inputs in LOADERS.items():
            registered = nodes.NODE_CLASS_MAPPINGS.get(name)
            if _is_comfyuis(registered, name):
                self._wrap(name, registered, inputs)
        if self._loaders:
            node_helpers.pillow = _without_second_try(node_helpers.pillow)

    def loads(self, graph: Mapping[str, Mapping[str, Any]]) -> Loads:
        """Return what can be loaded ahead for a graph that ComfyUI's validation has passed."""
        by_key: dict[Key, Load] = {}
        by_node = {}
        for node_id, node in graph.items():
            if key := self._key(node):
                load = by_key.setdefault(key, Load(self._loaders[key[0]], key))
                by_node[node_id] = load
        return Loads(self._loading, by_node)

    def _key(self, node: Mapping[str, Any]) -> Key | None:
        name = node["class_type"]
        loader = self._loaders.get(name)
        if loader is None or nodes.NODE_CLASS_MAPPINGS.get(name) is not loader.cls:
            return None
        if getattr(loader.cls, FUNCTION) is not self._wrappers[name]:
            return None  # a pack has changed what the node does
        return _key(name, loader.inputs, node["inputs"])

    def _wrap(self, name: str, cls: Any, inputs: tuple[str, ...]) -> None:
        function, is_changed = getattr(cls, FUNCTION), vars(cls)["IS_CHANGED"].__func__
        self._loaders[name] = Loader(cls, function, is_changed, inputs)
        self._wrappers[name] = self._wrapped(name, function, inputs, Loads.take)
        setattr(cls, FUNCTION, self._wrappers[name])
        cls.IS_CHANGED = classmethod(self._wrapped(name, is_changed, inputs, Loads.digest))

    def _wrapped(
        self,
        name: str,
        original: Callable[..., Any],
        inputs: tuple[str, ...],
        ask: Callable[[Loads, Key], Any],
    ) -> Callable[..., Any]:
        @functools.wraps(original)
        def wrapper(*args: Any, **given: Any) -> Any:
            context = get_executing_context()
            run = self._runs.get(context.prompt_id) if context else None
            key = _key(name, inputs, given)
            found = ask(run.loads, key) if run is not None and key else None
            return original(*args, **given) if found is None else found

        return wrapper


def _key(name: str, inputs: tuple[str, ...], given: Mapping[str, Any]) -> Key | None:
    """Return a key; None where something is no text: it may be a link, or wrong."""
    values = [value for one in inputs if isinstance(value := given.get(one), str)]
    return (name, *values) if len(values) == len(inputs) else None


def _is_comfyuis(registered: Any, name: str) -> bool:
    function = getattr(registered, FUNCTION, None)
    return (
        getattr(registered, "FUNCTION", None) == FUNCTION
        and is_original(function, nodes.__name__)
        and getattr(function, "__qualname__", None) == f"{name}.{FUNCTION}"
        and isinstance(vars(registered).get("IS_CHANGED"), classmethod)
    )


def _without_second_try(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return ComfyUI's ``pillow`` such that it tries only once on threads of ours.

    Its second try sets a variable of Pillow's for the whole process and puts back what was there
    before: two threads at it could leave it set. So damaged pictures are left to the node.
    """

    @functools.wraps(original)
    def pillow(fn: Callable[[Any], Any], arg: Any) -> Any:
        is_ours = threading.current_thread().name.startswith(THREAD)
        return fn(arg) if is_ours else original(fn, arg)

    return pillow
