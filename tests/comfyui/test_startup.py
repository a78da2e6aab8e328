"""What the extension costs ComfyUI's start, and what it says where it cannot do its work."""

from __future__ import annotations

import re
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.comfyui.graphs import saved
from tests.comfyui.receiver import SECRET, receiving
from tests.comfyui.server import CHECKOUT, ComfyServer, Install

HEAVY = (
    "azure", "boto3", "botocore", "cryptography", "git", "hf_xet", "huggingface_hub", "prometheus_client",
    "pyvips", "requests", "s3transfer", "swagger_ui", "urllib3",
)  # fmt: skip
"""Packages that cost tens of milliseconds each, or that nobody needs for a plain prompt."""

IMPORT = re.compile(r"import time:\s+\d+ \|\s+\d+ \|( +)(\S.*)")


def imported(log: str) -> list[tuple[int, str]]:
    """Return the modules that a process imported, in order, with how deep; an importer comes last."""
    return [(len(indent), name) for indent, name in IMPORT.findall(log)]


def imported_for(modules: list[tuple[int, str]], ending: str) -> set[str]:
    """Return the modules that were imported because somebody imported the one with this ending."""
    (place,) = [n for n, (_, name) in enumerate(modules) if name.endswith(ending)]
    depth, found = modules[place][0], set()
    for deeper, name in reversed(modules[:place]):
        if deeper <= depth:
            break
        found.add(name)
    return found


def package(name: str) -> str:
    return name.partition(".")[0]


def test_neither_the_start_nor_a_plain_prompt_imports_what_they_do_not_need(
    install: Install, tmp_path: Path
) -> None:
    with ComfyServer(install, tmp_path, {"PYTHONPROFILEIMPORTTIME": "1"}) as server:
        server.wait_until_ready()
        ours = imported_for(imported(server.log), ".comfyui_stateless.plugin")
        assert len([name for name in ours if ".comfyui_stateless." in name]) > 50
        assert {package(name) for name in ours} & set(HEAVY) == set()
        before = len(imported(server.log))
        assert server.prompt(saved(1)).status == 200
        later = {name for _, name in imported(server.log)[before:]}
        assert {package(name) for name in later} & set(HEAVY) == set()


def wait_for_reason(server: ComfyServer, words: str) -> None:
    deadline = time.monotonic() + 20
    while words not in server.get("/api/stateless/ready").body.decode():
        assert time.monotonic() < deadline, server.get("/api/stateless/ready").body
        time.sleep(0.1)


def require_refusal(server: ComfyServer, words: str) -> None:
    """See that the routes say why they do nothing, and that ComfyUI does its own work."""
    wait_for_reason(server, words)
    health, ready = (server.get(f"/api/stateless/{probe}") for probe in ("health", "ready"))
    assert (health.status, ready.status) == (500, 503)
    for reply in (
        server.prompt(saved(1)),
        server.prompt(saved(1), webhook_v2="https://example.com/hook"),
        server.post("/api/stateless/validate", {"prompt": saved(1)}),
        server.post("/api/stateless/download", {"url": "https://a.example/b", "model_type": "vae"}),
    ):
        assert (reply.status, reply.json["code"]) == (503, "unavailable")
        assert words in reply.json["error"]
    assert server.plain(saved(1))["status"]["status_str"] == "success"


@pytest.mark.parametrize("variable", ["STATE_DIR", "CACHE_DIR"])
def test_a_folder_that_cannot_be_used_is_a_reason_not_a_crash(
    install: Install, tmp_path: Path, variable: str
) -> None:
    file = tmp_path / "no-folder"
    file.write_text("")
    env = {variable: str(file / "below")}
    with ComfyServer(install, tmp_path / "comfyui", env) as server:
        require_refusal(server, f"{variable} ({file}")
        (line,) = [line for line in server.log.splitlines() if variable in line]
        assert "cannot get ready" in line


def test_a_damaged_journal_is_put_aside_and_one_of_the_future_is_left_alone(
    install: Install, tmp_path: Path
) -> None:
    with receiving() as receiver:
        env = {"WEBHOOK_SECRET": SECRET, "HTTP_TRUSTED_ORIGINS": receiver.origin}
        server = ComfyServer(install, tmp_path / "comfyui", env)
        journal = tmp_path / "comfyui" / "state" / "journal.sqlite3"
        journal.parent.mkdir(parents=True)
        journal.write_bytes(b"SQLite format 3\0" + bytes(range(256)) * 64)
        with server:
            server.wait_until_ready()
            assert "The journal is damaged" in server.log
            hook = f"{receiver.origin}/hook"
            assert server.prompt(saved(1), id="new", webhook_v2=hook).status == 202
            assert receiver.wait_for("new").body["type"] == "prompt.complete"
        (aside,) = journal.parent.glob("damaged-*")
        assert (aside / journal.name).read_bytes().startswith(b"SQLite format 3\0\x00\x01\x02")
        with closing(sqlite3.connect(journal)) as database:
            database.execute("PRAGMA user_version = 99")
        with server:
            require_refusal(server, "newer version")
        with closing(sqlite3.connect(journal)) as database:
            assert database.execute("PRAGMA user_version").fetchone() == (99,)
            assert database.execute("SELECT count(*) FROM results").fetchone() == (1,)


TAKES = """
from aiohttp import web
from server import PromptServer

NODE_CLASS_MAPPINGS = {}


@PromptServer.instance.routes.post("/stateless/prompt")
async def answer(request):
    return web.json_response({"mine": True})
"""


def test_a_pack_that_has_taken_a_route_is_told_of_and_comfyui_goes_on(
    install: Install, tmp_path: Path
) -> None:
    pack = tmp_path / "takes_routes"
    pack.mkdir()
    (pack / "__init__.py").write_text(TAKES)
    with ComfyServer(install, tmp_path / "base", packs={pack.name: pack}) as server:
        wait_for_reason(server, "POST /api/stateless/prompt")
        assert server.get("/api/stateless/ready").status == 503
        assert server.prompt(saved(1)).json == {"mine": True}
        refused = server.post("/api/stateless/validate", {"prompt": saved(1)})
        assert (refused.status, refused.json["code"]) == (503, "unavailable")
        (line,) = [line for line in server.log.splitlines() if "Another pack has taken" in line]
        assert "POST /api/stateless/prompt of the stateless API" in line
        assert pack.name in line
        assert server.plain(saved(1))["status"]["status_str"] == "success"


@pytest.mark.parametrize("env", [{}, {"MAX_QUEUE_DEPTH": "wrong"}], ids=["works", "misconfigured"])
def test_a_second_copy_says_which_one_works_and_leaves_it_alone(
    install: Install, tmp_path: Path, env: dict[str, str]
) -> None:
    packs = {"zzz-copy": CHECKOUT}
    with ComfyServer(install, tmp_path / "base", env, packs=packs) as server:
        if env:
            wait_for_reason(server, "MAX_QUEUE_DEPTH")
        else:
            server.wait_until_ready()
            assert server.prompt(saved(1)).status == 200
        (line,) = [line for line in server.log.splitlines() if "does nothing" in line]
        first, second = re.findall(r"\S+/custom_nodes/[\w-]+", line)
        assert {Path(first).name, Path(second).name} == {"comfyui-stateless", "zzz-copy"}
        tabs = [path for path in server.get("/extensions").json if path.endswith("/stateless.js")]
        assert tabs == [f"/extensions/{Path(first).name}/stateless.js"]
        server.signal(signal.SIGTERM)
        server.ended(20)
        assert server.log.count("Draining") == (0 if env else 1)
