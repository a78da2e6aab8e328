"""``comfyui-stateless workflow``: endpoint files out of exported graphs, and a check of files."""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from . import node_packages
from .base import WorkflowFileError
from .checking import Checker, NoServer, definitions_of
from .graph_file import parse_graph
from .guessing import Graph, Offer, Widget, name_of, named, offers, slug, usual_names, widgets_of
from .writing import Definitions, python_text, yaml_text

PROGRAM = "comfyui-stateless workflow"

_NEW = """\
Make an endpoint of a graph that was exported with "Export (API)" in ComfyUI's menu.
Without --all and --interactive it offers the widgets that most endpoints offer: the prompts, the
size, the seed and the sampler's settings, the checkpoint, images."""


class Refused(Exception):
    """The command cannot be done; the message says why."""


def main(argv: Sequence[str]) -> int:
    """Run a command and return its exit code: 1 when a file is wrong, 2 for a wrong command line."""
    options = _parser().parse_args(argv)
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        return run(options)
    except (Refused, NoServer, WorkflowFileError, node_packages.PackagesMissing) as error:
        sys.stderr.write(f"{error}\n")
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=PROGRAM, description="Make and check endpoints.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_new(commands.add_parser("new", help="make an endpoint of a graph", description=_NEW))
    check = commands.add_parser("check", help="load files as the server would")
    check.set_defaults(run=_check)
    check.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a file, or a folder")
    check.add_argument("--server", metavar="URL", help="a ComfyUI, to check against its nodes")
    packages = commands.add_parser("packages", help="install what .js and .ts files need")
    packages.set_defaults(run=_packages)
    packages.add_argument("folder", type=Path, metavar="FOLDER")
    return parser


def _add_new(new: argparse.ArgumentParser) -> None:
    new.set_defaults(run=_new)
    new.add_argument("graph", type=Path, metavar="GRAPH.json")
    new.add_argument("--output", type=Path, metavar="DIR", help="default: the graph's folder")
    new.add_argument("--name", help="the endpoint's path; default: the graph's name")
    new.add_argument(
        "--input", action="append", default=[], metavar="NODE.WIDGET=NAME", dest="inputs",
        help="offer this widget under this name too; one name for several widgets sets them all",
    )  # fmt: skip
    which = new.add_mutually_exclusive_group()
    which.add_argument("--all", action="store_true", help="offer every widget")
    which.add_argument("--interactive", action="store_true", help="ask for each widget")
    new.add_argument("--python", action="store_true", help="make a Python file, not YAML")
    new.add_argument("--server", metavar="URL", help="a ComfyUI, for types and limits")
    new.add_argument("--force", action="store_true", help="replace files that are there")


def _new(options: argparse.Namespace) -> int:
    graph, _ = parse_graph(_text(options.graph), options.graph)
    definitions = asyncio.run(definitions_of(options.server)) if options.server else None
    by_hand = _named(graph, options.inputs)
    found = offers(graph, _chosen(graph, options, by_hand), set(by_hand.values()))
    written = _write(options, graph, found, definitions or {})
    sys.stdout.writelines(f"made {path}\n" for path in written)
    sys.stdout.writelines(f"{line}\n" for line in _listed(found))
    return asyncio.run(_checked([written[0]], Checker(definitions), is_quiet=True))


def _check(options: argparse.Namespace) -> int:
    definitions = asyncio.run(definitions_of(options.server)) if options.server else None
    return asyncio.run(_checked(options.files, Checker(definitions)))


async def _checked(files: Sequence[Path], checker: Checker, *, is_quiet: bool = False) -> int:
    """Load files and return the exit code; quietly, only errors are printed."""
    wrong = 0
    try:
        for path in files:
            result = await checker.check(path)
            wrong += len(result.errors)
            sys.stderr.writelines(f"{error}\n" for error in result.errors)
            sys.stdout.writelines(f"{line}\n" for line in (() if is_quiet else result.lines))
    finally:
        await checker.close()
    return 1 if wrong else 0


def _packages(options: argparse.Namespace) -> int:
    folder = options.folder.absolute()
    if not node_packages.are_in(folder):
        asyncio.run(node_packages.install(folder))
    sys.stdout.write(f"WORKFLOW_NODE_PACKAGES={folder}\n")
    return 0


def _named(graph: Graph, inputs: Sequence[str]) -> dict[tuple[str, str], str]:
    try:
        return dict(named(graph, text) for text in inputs)
    except ValueError as error:
        raise Refused(f"--input: {error}") from None


def _chosen(
    graph: Graph, options: argparse.Namespace, by_hand: Mapping[tuple[str, str], str]
) -> dict[tuple[str, str], str]:
    """Return the widgets to offer, with their names."""
    usual = {place: known.name for place, known in usual_names(graph).items()}
    if options.all:
        all_names = {w.place: name_of(w) for w in widgets_of(graph)}
        return {**all_names, **usual, **by_hand}
    if options.interactive:
        return dict(_asked(widgets_of(graph), {**usual, **by_hand}))
    return {**usual, **by_hand}


def _asked(
    widgets: Sequence[Widget], suggested: Mapping[tuple[str, str], str]
) -> Iterator[tuple[tuple[str, str], str]]:
    sys.stdout.write("For each widget: Enter takes what is in brackets, - leaves it out.\n")
    for widget in widgets:
        name = suggested.get(widget.place, "-")
        title = f" ({widget.title})" if widget.title else ""
        shown = f"{widget.node}.{widget.input} of {widget.class_type}{title} = {widget.value!r}"
        answer = _answer(f"{shown[:150]} [{name}] ") or name
        while answer != "-" and slug(answer) != answer:
            answer = _answer(f"A name such as {slug(answer)}: ") or name
        if answer != "-":
            yield widget.place, answer


def _answer(question: str) -> str:
    sys.stdout.write(question)
    sys.stdout.flush()
    line = sys.stdin.readline()
    if not line:
        raise Refused("the answers ended; nothing was made")
    return line.strip()


def _write(
    options: argparse.Namespace, graph: Graph, found: Sequence[Offer], definitions: Definitions
) -> list[Path]:
    """Write the files; return them, the one that is loaded first."""
    name = options.name or options.graph.stem
    if Path(name).is_absolute() or ".." in Path(name).parts:
        raise Refused(f"--name: {name} leads out of the folder")
    folder = options.output or options.graph.parent
    stem = folder / name
    summary = Path(name).name.replace("-", " ").replace("_", " ").capitalize()
    if options.python:
        files = {_with(stem, ".py"): python_text(graph, found, summary, definitions)}
    else:
        files = {
            _with(stem, ".json"): _text(options.graph),
            _with(stem, ".yaml"): yaml_text(options.graph.name, found, summary),
        }
    for path, text in files.items():
        _write_one(
            path, text, is_own=path.exists() and path.samefile(options.graph), options=options
        )
    return list(files)


def _write_one(path: Path, text: str, *, is_own: bool, options: argparse.Namespace) -> None:
    if is_own:
        return
    if path.exists() and not options.force:
        raise Refused(f"{path} is there already; --force replaces it")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Refused(f"{path} cannot be written: {error.strerror}") from None


def _with(stem: Path, ending: str) -> Path:
    # Not with_suffix: "sd1.5" has none.
    return stem.with_name(stem.name + ending)


def _listed(found: Sequence[Offer]) -> Iterator[str]:
    for offer in found:
        places = ", ".join(f"{widget.node}.{widget.input}" for widget in offer.widgets)
        is_required = offer.usual is not None and offer.usual.required
        yield f"  {offer.name}{' (required)' if is_required else ''} -> {places}"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise Refused(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise Refused(f"{path} is not UTF-8 text") from None
