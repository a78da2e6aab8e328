"""The layers of the house: who may import whom. The table is that of docs/architecture.md."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "comfyui_stateless"

LAYERS = [
    [
        "texts",
        "errors",
        "wire",
        "naming",
        "access",
        "hosts",
        "origins",
        "packing",
        "stalls",
        "variables",
        "config",
        "readiness",
        "keys",
        "timing",
    ],
    ["storage"],
    ["media", "inline", "repositories", "cache", "images", "journal", "webhooks"],
    ["requests", "engine"],
    ["inputs", "prepare", "outputs", "uploads", "delivery", "bodies", "workflows", "manifest"],
    [
        "timeline",
        "progress",
        "turns",
        "job",
        "jobs",
        "report",
        "downloads",
        "pipeline",
        "examine",
        "messages",
        "recording",
        "shared",
        "idempotency",
        "background",
        "warmup",
        "system_events",
        "saladcloud",
        "draining",
        "metrics",
        "board",
    ],
    ["api", "host", "launcher"],
    ["plugin", "__main__"],
]
"""Top to bottom. A module imports from layers above its own, or from what stands before it."""

ORDER = {
    name: (row, column) for row, layer in enumerate(LAYERS) for column, name in enumerate(layer)
}

COMFYUI = {
    "server", "execution", "folder_paths", "nodes", "comfy", "comfy_execution", "comfy_api",
    "comfyui_version", "main", "torch", "psutil",
}  # fmt: skip

SOURCES = sorted(PACKAGE.rglob("*.py"))


def unit(path: Path) -> str:
    """Return the module, or the package, of the table that a file belongs to."""
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imports(path: Path, tree: ast.AST) -> Iterator[str]:
    """Yield what a file imports: ``.unit`` for our own, the top-level name for anything else."""
    package = path.relative_to(PACKAGE.parent).parts[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            yield str(node.module).split(".")[0]
        elif isinstance(node, ast.ImportFrom):
            anchor = package[: len(package) - node.level + 1]
            names = [node.module] if node.module else [alias.name for alias in node.names]
            yield from ("." + ".".join((*anchor, name)).split(".")[1] for name in names)


def violations(path: Path, source: str) -> list[str]:
    """Return what a file imports and may not."""
    own, found = unit(path), []
    for name in imports(path, ast.parse(source)):
        target = name.lstrip(".")
        if name.startswith(".") and target in ORDER and target != own and own != "__init__":
            if ORDER[target] >= ORDER[own] and ORDER[target][0] != ORDER[own][0]:
                found.append(f"{own} imports {target}, from a layer below it")
            elif ORDER[target][0] == ORDER[own][0] and ORDER[target][1] > ORDER[own][1]:
                found.append(f"{own} imports {target}, which stands behind it in its row")
        elif name in COMFYUI and own != "host":
            found.append(f"{own} imports {name}; only host touches ComfyUI")
        elif target == "comfyui_stateless":
            found.append(f"{own} imports the package by name; ComfyUI loads it under a path")
    return found


def reads_environment(source: str) -> bool:
    """Say whether a source reads the process's environment."""
    return any(
        (isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"})
        or (isinstance(node, ast.ImportFrom) and node.module == "os"
            and any(alias.name in {"environ", "getenv"} for alias in node.names))
        for node in ast.walk(ast.parse(source))
    )  # fmt: skip


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_imports_only_from_layers_above_it(path: Path) -> None:
    assert violations(path, path.read_text()) == []


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_only_config_reads_the_environment(path: Path) -> None:
    assert path.name == "config.py" or not reads_environment(path.read_text())


def test_every_module_stands_in_the_table() -> None:
    assert {unit(path) for path in SOURCES} - {"__init__"} == set(ORDER)


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("errors.py", "from .jobs import Job"),
        ("prepare.py", "from .outputs import Collector"),
        ("api/app.py", "import folder_paths"),
        ("api/app.py", "from ..host.engine import ComfyEngine"),
        ("jobs.py", "import comfyui_stateless.errors"),
        ("outputs.py", "def f():\n    from server import PromptServer"),
    ],
)
def test_a_violation_would_be_found(path: str, source: str) -> None:
    assert violations(PACKAGE / path, source)


@pytest.mark.parametrize("source", ["import os\nos.environ['A']", "from os import getenv"])
def test_reading_the_environment_would_be_found(source: str) -> None:
    assert reads_environment(source)
