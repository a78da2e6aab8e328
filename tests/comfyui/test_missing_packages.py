"""Packages that only some features need: without them the others work, and these say what to do."""

from __future__ import annotations

import base64
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.comfyui.graphs import node, saved
from tests.comfyui.server import ComfyServer, Install, Reply

FEATURES = (
    "azure", "boto3", "botocore", "hf_xet", "isal", "prometheus_client", "pybase64", "pyvips",
    "s3transfer", "swagger_ui",
)  # fmt: skip
"""All that ComfyUI itself works without."""

GATE = """
import sys
from importlib.machinery import ModuleSpec, PathFinder


class Broken:
    def create_module(self, spec):
        return None

    def exec_module(self, module):
        raise AttributeError("module 'lib' has no attribute 'X509_V_FLAG_NOTIFY_POLICY'")


class Gate(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] in {names!r}:
            return None if {missing!r} else ModuleSpec(name, Broken())
        return super().find_spec(name, path, target)


sys.meta_path[sys.meta_path.index(PathFinder)] = Gate
"""

HIDES = """
import sys
from importlib.machinery import PathFinder
from pathlib import Path


class Hides:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == "sqlite3":
            found = PathFinder.find_spec(name, [str(Path(__file__).parent)])
            if found is None:
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)
            return found


sys.meta_path.insert(0, Hides)
for name in [name for name in sys.modules if name.partition(".")[0] == "sqlite3"]:
    del sys.modules[name]
NODE_CLASS_MAPPINGS = {}
"""

AZURE = "DefaultEndpointsProtocol=https;AccountName=outputs;AccountKey=a2V5;EndpointSuffix=core.windows.net"

PIXEL = base64.b64decode(
    b"iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
)


@pytest.fixture(scope="module", params=["missing", "broken"])
def without(
    request: pytest.FixtureRequest, install: Install, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ComfyServer]:
    """A ComfyUI whose Python lacks these packages, or has them in a state that fails."""
    folder = tmp_path_factory.mktemp(request.param)
    gate = GATE.format(names=set(FEATURES), missing=request.param == "missing")
    (folder / "sitecustomize.py").write_text(gate)
    env = {"PYTHONPATH": str(folder), "AZURE_STORAGE_CONNECTION_STRING": AZURE}
    with ComfyServer(install, folder / "comfyui", env) as server:
        server.wait_until_ready()
        yield server


def inverted(image: str) -> dict[str, object]:
    return {
        "1": node("LoadImage", image=image),
        "2": node("ImageInvert", image=["1", 0]),
        "3": node("SaveImage", images=["2", 0]),
    }


def require(reply: Reply, packages: str) -> None:
    assert reply.status >= 500 or reply.json["code"] == "invalid_input", reply.body
    advice = rf"pip install (--force-reinstall )?{packages}"
    assert re.search(advice, reply.json["error"]), reply.body
    assert reply.json["details"].get("reason", "missing_dependency") == "missing_dependency"


def test_a_prompt_runs(without: ComfyServer) -> None:
    reply = without.prompt(saved(1))
    assert reply.status == 200
    assert reply.images[0].startswith(b"\x89PNG")


def test_base64_is_read(without: ComfyServer) -> None:
    reply = without.prompt(inverted(base64.b64encode(PIXEL).decode()))
    assert reply.status == 200, reply.body


def test_events_are_streamed(without: ComfyServer) -> None:
    assert without.prompt(saved(2), accept="text/event-stream").body.count(b"event: succeeded") == 1


@pytest.mark.parametrize("path", ["health", "ready", "models", "openapi.json", "download"])
def test_the_other_routes_answer(without: ComfyServer, path: str) -> None:
    assert without.get(f"/api/stateless/{path}").status == 200


def test_the_log_says_nothing_of_being_off(without: ComfyServer) -> None:
    assert "The stateless API is off" not in without.log


def test_a_conversion_says_how_to_get_libvips(without: ComfyServer) -> None:
    reply = without.prompt(saved(3), convert_output={"format": "webp"})
    require(reply, "pyvips pyvips-binary")


def test_an_s3_upload_says_how_to_get_boto3(without: ComfyServer) -> None:
    reply = without.prompt(saved(4), s3={"bucket": "b", "prefix": "p/", "async": False})
    require(reply, "boto3")


def test_an_s3_input_says_how_to_get_boto3(without: ComfyServer) -> None:
    require(without.prompt(inverted("s3://bucket/picture.png")), "boto3")


def test_an_azure_upload_says_how_to_get_its_sdk(without: ComfyServer) -> None:
    upload = {"container": "c", "blob_prefix": "p/", "async": False}
    reply = without.prompt(saved(5), azure_blob_upload=upload)
    require(reply, "azure-storage-blob")


def test_the_docs_page_says_how_to_get_swagger_ui(without: ComfyServer) -> None:
    require(without.get("/api/stateless/docs"), "swagger-ui-py")


def test_metrics_say_how_to_get_the_prometheus_client(without: ComfyServer) -> None:
    require(without.get("/api/stateless/metrics"), "prometheus-client")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (None, "ModuleNotFoundError: No module named 'sqlite3'"),
        ("def connect(:", "SyntaxError: invalid syntax (sqlite3.py, line 1)"),
        ("threadsafety = 3", "AttributeError: module 'sqlite3' has no attribute"),
    ],
    ids=["gone", "broken", "another"],
)
def test_a_pack_that_hides_what_is_imported_later_is_told_in_one_line_and_comfyui_goes_on(
    install: Install, tmp_path: Path, code: str | None, said: str
) -> None:
    pack = tmp_path / "hides"
    pack.mkdir()
    if code is not None:
        (pack / "sqlite3.py").write_text(code)
    (pack / "__init__.py").write_text(HIDES)
    with ComfyServer(install, tmp_path / "comfyui", packs={"hides": pack}) as server:
        deadline = time.monotonic() + 30
        while "cannot get ready" not in server.get("/api/stateless/health").body.decode():
            assert time.monotonic() < deadline, server.log
            time.sleep(0.05)
        told = server.get("/api/stateless/health").json["reason"]
        assert said in told
        assert "-m pip install -r" in told
        assert server.prompt(saved(1)).status == 503
        assert server.plain(saved(2))["status"]["status_str"] == "success"
        (line,) = (line for line in server.log.splitlines() if "cannot get ready" in line)
        assert told in line
        assert "comfyui_stateless/warmup.py" not in server.log  # no traceback


@pytest.mark.parametrize("name", ["pydantic_settings", "aiohttp"])
def test_without_what_all_of_it_needs_comfyui_starts_and_the_log_says_what_to_install(
    install: Install, tmp_path: Path, name: str
) -> None:
    gate = GATE.format(names={name}, missing=True)
    entry = Path(__file__).parents[2] / "__init__.py"
    program = tmp_path / "loads_packs.py"
    # As ComfyUI's nodes.py does it: a whole ComfyUI would not start without aiohttp.
    program.write_text(
        f"{gate}\n"
        "import importlib.util, types\n"
        "sys.modules['folder_paths'] = types.ModuleType('folder_paths')\n"
        f"spec = importlib.util.spec_from_file_location('pack_x', {str(entry)!r})\n"
        "pack = sys.modules['pack_x'] = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(pack)\n"
        "print(pack.NODE_CLASS_MAPPINGS)\n"
    )
    done = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "{}\n"
    assert f"No module named '{name}'" in done.stderr
    assert f"{sys.executable} -m pip install -r {entry.parent}/requirements.txt" in done.stderr
