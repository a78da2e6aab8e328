"""What ComfyUI's start need not wait for: modules that are imported when they are first needed."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "comfyui_stateless"

LATE = {
    "api.archive",
    "api.forms",
    "api.multipart",
    "api.openapi",
    "api.schemas",
    "examine",
    "journal.journal",
    "launcher",
    "manifest",
    "metrics.page",
    "repositories.clone",
    "repositories.git",
    "sqlite3",
    "storage.hub_commits",
    "webhooks",
    "workflows.javascript",
    "workflows.python",
}
"""Each is needed by few servers, few requests, or only once the server runs."""

MAX_DATACLASSES = 50
"""Each costs the start half a millisecond, a ``NamedTuple`` a fifth of that."""


def file_of(module: str) -> Path | None:
    """Return the file of a module of ours, None where it is a name inside of one."""
    path = PACKAGE.joinpath(*module.split(".")) if module else PACKAGE
    files = (path / "__init__.py", path.with_suffix(".py"))
    return next((file for file in files if file.exists()), None)


def at_once(tree: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """Yield the imports that run when the module does."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            yield node
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        elif not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield from at_once(node)


def targets(module: str, file: Path) -> Iterator[str]:
    """Yield what a module imports at once; ours without the package's name in front."""
    package = module.split(".") if file.name == "__init__.py" else module.split(".")[:-1]
    for node in at_once(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif node.level == 0:
            yield str(node.module)
        else:
            anchor = package[: len(package) - node.level + 1]
            place = [*anchor, *(node.module or "").split(".")] if node.module else anchor
            yield ".".join(place)
            yield from (".".join((*place, alias.name)) for alias in node.names)


def imported(start: str) -> dict[str, Path | None]:
    """Return all that is imported with a module, and the files of those that are ours."""
    found: dict[str, Path | None] = {}
    waiting = [start]
    while waiting:
        module = waiting.pop()
        if module in found:
            continue
        found[module] = file = file_of(module)
        if file is not None:
            parts = module.split(".")
            waiting += [".".join(parts[:count]) for count in range(1, len(parts))]
            waiting += targets(module, file)
    return found


def test_what_few_need_is_imported_late() -> None:
    assert imported("plugin").keys() & LATE == set()


def test_every_late_module_is_there() -> None:
    assert [name for name in LATE - {"sqlite3"} if file_of(name) is None] == []


def test_an_import_at_the_start_would_be_found() -> None:
    found = imported("journal.journal")
    assert {"sqlite3", "journal.values", "journal"} <= found.keys()


def test_few_of_the_values_that_are_imported_at_the_start_are_dataclasses() -> None:
    files = {file for file in imported("plugin").values() if file is not None}
    classes = [
        node
        for file in files
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.ClassDef)
        and any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list)
    ]
    assert len(classes) <= MAX_DATACLASSES
