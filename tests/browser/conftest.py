"""A browser, and a real ComfyUI for each frontend that the tab has to work in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, sync_playwright

from docker.browser import CHROMIUM
from tests.browser.editor import FLAGS, Editor, normal
from tests.browser.frontends import FRONTENDS, NEWER, SETTINGS, Frontend
from tests.browser.graphs import SIMPLE
from tests.cache.origin import Origin, serving
from tests.comfyui.conftest import installs, required
from tests.comfyui.receiver import SECRET, Receiver, receiving
from tests.comfyui.server import ComfyServer


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("comfyui")


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    if not CHROMIUM.is_file():
        pytest.fail(f"{CHROMIUM} is not there; run the suite with `make test`, or install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def origin() -> Iterator[Origin]:
    """A server of files that may be fetched."""
    with serving() as origin:
        yield origin


@pytest.fixture(scope="package")
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture(scope="package", params=FRONTENDS, ids=lambda frontend: str(frontend.name))
def frontend(request: pytest.FixtureRequest) -> Frontend:
    found: Frontend = request.param
    if found.arguments and not (NEWER / "index.html").is_file():
        pytest.fail(f"{NEWER} is not there; run the suite with `make test`")
    return found


@pytest.fixture(scope="package")
def server(
    frontend: Frontend,
    origin: Origin,
    receiver: Receiver,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ComfyServer]:
    """A ComfyUI with one of the frontends, for all tests."""
    base = tmp_path_factory.mktemp(f"editor-{frontend.name}")
    (base / "workflows").mkdir()
    env = {
        "WORKFLOW_DIR": str(base / "workflows"),
        "ALLOW_PUBLISH": "true",
        "API_KEYS": frontend.key,
        "HTTP_TRUSTED_ORIGINS": f"{origin.url('')},{receiver.origin}",
        "PROMPT_WEBHOOK_RETRIES": "0",
        "WEBHOOK_SECRET": SECRET,
    }
    install = required(next(iter(installs()), None))
    with ComfyServer(install, base, env, frontend.arguments) as server:
        server.wait_until_ready()
        server.post("/settings", SETTINGS)
        yield server


@pytest.fixture(scope="package")
def context(browser: Browser, server: ComfyServer) -> Iterator[BrowserContext]:
    """A browser's profile that has the frontend in its cache."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    context.set_default_timeout(15_000)
    yield context
    context.close()


@pytest.fixture(scope="package")
def known_errors(context: BrowserContext, server: ComfyServer) -> set[str]:
    """The errors that this frontend has with this server without us."""
    editor = Editor.open(context, server, without_us=True)
    editor.load(SIMPLE)
    editor.page.wait_for_load_state("networkidle")
    editor.page.close()
    return {normal(error) for error in editor.errors}


@pytest.fixture
def open_editor(
    context: BrowserContext, server: ComfyServer, known_errors: set[str]
) -> Iterator[Callable[..., Editor]]:
    """Opens editors; the test fails if one of them logs an error that is not its own."""
    opened: list[Editor] = []

    def opener(**options: str) -> Editor:
        opened.append(Editor.open(context, server, **options))  # type: ignore[arg-type]
        return opened[-1]

    yield opener
    for editor in opened:
        editor.page.close()
    for editor in opened:
        assert editor.unexpected(known_errors) == []


@pytest.fixture
def editor(open_editor: Callable[..., Editor], frontend: Frontend) -> Editor:
    """An editor with a simple graph, whose browser knows the key."""
    editor = open_editor(key=frontend.key)
    editor.load(SIMPLE)
    return editor
