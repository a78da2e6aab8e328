"""Loads workflow files outside of ComfyUI, as the server would, and says what is wrong with them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from ..config import Settings
from ..engine import FileForm, FileInput, MediaInput, ModelInput
from ..errors import ConfigError
from .base import Endpoint, JsonObject, Surroundings, WorkflowFileError
from .definitions import names_of, spec_of
from .folder import GRAPH, Source, scan
from .graph_file import GraphFile
from .loaders import Loaders
from .surroundings import SAMPLER

FOLDERS = (
    "checkpoints", "clip", "clip_vision", "configs", "controlnet", "diffusers", "diffusion_models",
    "embeddings", "gligen", "hypernetworks", "loras", "model_patches", "photomaker", "style_models",
    "text_encoders", "unet", "upscale_models", "vae", "vae_approx",
)  # fmt: skip
"""ComfyUI's model folders, for files that ask for them where no ComfyUI does."""

_NAMED = {
    "ckpt_name": "checkpoints",
    "control_net_name": "controlnet",
    "lora_name": "loras",
    "unet_name": "diffusion_models",
    "vae_name": "vae",
}
REPLY_S = 60


class NoServer(Exception):
    """The ComfyUI that was named does not answer as one; the message says how."""


class Checked(NamedTuple):
    """What became of a file, or of all in a folder."""

    lines: tuple[str, ...] = ()
    errors: tuple[WorkflowFileError, ...] = ()


@dataclass(slots=True)
class Checker:
    """Loads files.

    Attributes:
        definitions: ComfyUI's definitions of all its nodes; without them graphs are checked by
            themselves only.
    """

    definitions: Mapping[str, JsonObject] | None
    _loaders: Loaders | None = field(default=None, init=False)

    async def check(self, path: Path) -> Checked:
        """Load a file, or all endpoints in a folder."""
        sources, wrong = await asyncio.to_thread(_sources, path)
        results = [await self._one(source) for source in sources]
        lines = [result for result in results if isinstance(result, str)]
        errors = [result for result in results if isinstance(result, WorkflowFileError)]
        return Checked(tuple(lines), (*wrong, *errors))

    async def close(self) -> None:
        """End the processes that files run in."""
        if self._loaders is not None:
            await self._loaders.close()

    async def _one(self, source: Source) -> str | WorkflowFileError:
        try:
            return _said(source, await self.load(source))
        except WorkflowFileError as error:
            return error

    async def load(self, source: Source) -> Endpoint:
        """Return the endpoint of a file.

        Raises:
            WorkflowFileError: The file is wrong.
        """
        if self._loaders is None:
            self._loaders = _loaders(source.file)
        graph = await self._loaders.read(source) if source.file.suffix == GRAPH else None
        return await self._loaders.load(source, graph, self._surroundings(graph))

    def _surroundings(self, graph: GraphFile | None) -> Surroundings:
        folders: dict[str, Sequence[str]] = dict.fromkeys(FOLDERS, ())
        if self.definitions is None:
            # Of a class that nothing is known of, every input takes what the graph has there.
            names = graph.class_types if graph else ()
            unknown: JsonObject = {"input": {}}
            return Surroundings(models=folders, definitions=dict.fromkeys(names, unknown))
        sampler = self.definitions.get(SAMPLER)
        return Surroundings(
            samplers=_choices(spec_of(sampler, "sampler_name")),
            schedulers=_choices(spec_of(sampler, "scheduler")),
            models={**folders, **_models(self.definitions)},
            definitions=self.definitions,
            files={name: _files(each) for name, each in self.definitions.items()},
        )


async def definitions_of(server: str) -> dict[str, JsonObject]:
    """Ask a ComfyUI for the definitions of its nodes.

    Raises:
        NoServer: It does not answer, or not as ComfyUI does.
    """
    import aiohttp

    url = server.rstrip("/") + "/object_info"
    timeout = aiohttp.ClientTimeout(total=REPLY_S)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as reply:
            reply.raise_for_status()
            said = await reply.json()
    except (aiohttp.ClientError, asyncio.TimeoutError, ValueError) as error:
        raise NoServer(f"No ComfyUI answers at {server}: {error}") from None
    if not isinstance(said, dict) or SAMPLER not in said:
        raise NoServer(f"What answers at {server} is no ComfyUI")
    return said


def _loaders(file: Path) -> Loaders:
    try:
        settings = Settings.load()
    except ConfigError as error:
        raise WorkflowFileError(file, error.message) from None
    return Loaders(settings.cache_dir, settings.workflow_node_packages)


def _sources(path: Path) -> tuple[list[Source], list[WorkflowFileError]]:
    """Return the endpoints that a path means, and what is wrong there anyway. Blocks."""
    path = path.absolute()  # as Node.js wants it
    if path.is_dir():
        found = scan(path, is_expected=True)
        return list(found.sources.values()), list(found.errors)
    beside = scan(path.parent, is_expected=True)
    wanted = [s for s in beside.sources.values() if path in (s.file, s.description)]
    errors = [error for error in beside.errors if error.file == path]
    if not wanted and not errors:
        what = "it is no endpoint" if path.exists() else "it is not there"
        errors.append(WorkflowFileError(path, what))
    return wanted, errors


def _said(source: Source, endpoint: Endpoint) -> str:
    schema = endpoint.description.schema
    required = set(schema.get("required", ()))
    names = [f"{n}*" if n in required else n for n in schema.get("properties", {})]
    return f"{source.file}: takes {', '.join(names) or 'nothing'}"


def _files(definition: JsonObject) -> dict[str, FileInput]:
    """Return which inputs of a class name files, as far as its definition tells."""
    found: dict[str, FileInput] = {}
    for name in names_of(definition):
        spec = spec_of(definition, name)
        settings = spec[1] if isinstance(spec, list) and len(spec) > 1 else {}
        if isinstance(settings, dict) and any(str(key).endswith("_upload") for key in settings):
            found[name] = MediaInput(FileForm.NAME, is_marked=True)
        elif _is_choice(spec) and (name in _NAMED or name.startswith(("clip_name", "model_name"))):
            found[name] = ModelInput((_NAMED.get(name, "text_encoders"),))
    return found


def _models(definitions: Mapping[str, JsonObject]) -> dict[str, Sequence[str]]:
    """Return the models of the folders that ComfyUI's own loaders list."""
    loaders = {
        "checkpoints": ("CheckpointLoaderSimple", "ckpt_name"),
        "controlnet": ("ControlNetLoader", "control_net_name"),
        "diffusion_models": ("UNETLoader", "unet_name"),
        "loras": ("LoraLoader", "lora_name"),
        "text_encoders": ("CLIPLoader", "clip_name"),
        "upscale_models": ("UpscaleModelLoader", "model_name"),
        "vae": ("VAELoader", "vae_name"),
    }
    return {
        folder: _choices(spec_of(definitions.get(class_type), name))
        for folder, (class_type, name) in loaders.items()
    }


def _is_choice(spec: Any) -> bool:
    return (
        isinstance(spec, list) and bool(spec) and (isinstance(spec[0], list) or spec[0] == "COMBO")
    )


def _choices(spec: Any) -> tuple[str, ...]:
    if not _is_choice(spec):
        return ()
    options = spec[0] if isinstance(spec[0], list) else spec[1].get("options", ())
    return tuple(str(option) for option in options)
