"""Makes the pictures of the tab that the README shows: `make screenshots`."""

from __future__ import annotations

import io
import json
import re
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, expect, sync_playwright

from docker.browser import CHROMIUM
from tests.browser.editor import FLAGS, Editor
from tests.browser.frontends import SETTINGS
from tests.browser.graphs import failing, waiting
from tests.cache.origin import serving
from tests.comfyui.conftest import installs, required
from tests.comfyui.server import CHECKOUT, ComfyServer

FOLDER = CHECKOUT / "docs" / "screenshots"
GRAPH = json.loads((CHECKOUT / "examples" / "first_image.json").read_text())["prompt"]
SIZE = {"width": 1280, "height": 800}
MIB = 1024 * 1024


def main() -> None:
    """Make every picture, and say where they are."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        _server(Path(folder)) as server,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=FLAGS)
        for theme in ("dark", "light"):
            _call(browser, server, theme)
        _publish(browser, server)
        _jobs(browser, server)
        _status(browser, server)
        browser.close()
    print(f"The screenshots are in {FOLDER}")  # noqa: T201  it is a command


@contextmanager
def _server(folder: Path) -> Iterator[ComfyServer]:
    (folder / "workflows").mkdir()
    env = {
        "ALLOW_PUBLISH": "true",
        "WORKFLOW_DIR": str(folder / "workflows"),
        "HTTP_TRUSTED_ORIGINS": "*",
        "PROMPT_WEBHOOK_RETRIES": "0",
    }
    with ComfyServer(required(next(iter(installs()), None)), folder / "comfyui", env) as server:
        server.wait_until_ready()
        server.post("/settings", SETTINGS)
        yield server


@contextmanager
def _editor(browser: Browser, server: ComfyServer, theme: str = "dark") -> Iterator[Editor]:
    server.post("/settings", {"Comfy.ColorPalette": theme})
    context = browser.new_context(viewport=SIZE)  # type: ignore[arg-type]  # a dict of its keys
    editor = Editor.open(context, server)
    editor.load(GRAPH, "first image")
    editor.page.keyboard.press("Escape")
    editor.page.evaluate("app.canvas.ds.offset[0] += 330; app.canvas.setDirty(true, true)")
    yield editor
    context.close()


def _call(browser: Browser, server: ComfyServer, theme: str) -> None:
    with _editor(browser, server, theme) as editor:
        call = editor.show("Call")
        call.get_by_role("button", name="Send").click()
        expect(call.get_by_role("img")).to_be_visible()
        call.get_by_text("Timings").click()
        _keep(editor, "call" if theme == "dark" else f"call-{theme}")


def _publish(browser: Browser, server: ComfyServer) -> None:
    with _editor(browser, server) as editor:
        publish = editor.show("Publish")
        chooser = publish.get_by_label("A value of the graph to be an input")
        for index in (1, 2):
            chooser.select_option(index=index)
            publish.get_by_role("button", name="Add", exact=True).click()
            editor.page.keyboard.press("Escape")
        publish.get_by_label("Name", exact=True).first.fill("demo/first-image")
        publish.get_by_label("Summary").fill("A picture that needs no model")
        publish.get_by_role("button", name="Publish").click()
        expect(publish.get_by_role("button", name="Update")).to_be_enabled()
        publish.locator(".st-card summary").first.click()
        publish.get_by_role("tab", name="Call", exact=True).focus()
        expect(editor.page.get_by_text("POST …/workflow")).to_be_hidden()
        _keep(editor, "publish")


def _jobs(browser: Browser, server: ComfyServer) -> None:
    with _editor(browser, server) as editor:
        jobs = editor.show("Jobs")
        for number in range(2):
            server.prompt(GRAPH, id=f"order-{1041 + number}")
        server.prompt(failing("The picture has no alpha channel"), id="order-1043")
        server.prompt(GRAPH, id="order-1044")
        graphs = {f"order-{1045 + number}": waiting(20, str(number)) for number in range(3)}
        threads = []
        for name, graph in graphs.items():
            threads.append(
                threading.Thread(target=server.prompt, args=(graph,), kwargs={"id": name})
            )
            threads[-1].start()
            expect(jobs.get_by_text(name)).to_be_visible()
        expect(jobs.get_by_text("2 ahead")).to_be_visible()
        expect(jobs.get_by_role("img").first).to_be_visible()
        _keep(editor, "jobs")
        for name in graphs:
            server.post("/api/stateless/interrupt", {"id": name})
        for thread in threads:
            thread.join()


def _status(browser: Browser, server: ComfyServer) -> None:
    with serving() as origin, _editor(browser, server) as editor:
        url = origin.put("/style.safetensors", bytes(64 * MIB), rate=2 * MIB, ranges=False)
        server.prompt(GRAPH, webhook_v2=origin.url("/hook"))
        server.post("/api/stateless/download", {"url": url, "model_type": "loras"})
        status = editor.show("Status")
        expect(status.get_by_text(re.compile("1[0-9]%"))).to_be_visible(timeout=30_000)
        expect(status.get_by_text("1 try")).to_be_visible()
        _keep(editor, "status")


def _keep(editor: Editor, name: str) -> None:
    """Keep what the page shows, in few colours."""
    editor.page.mouse.move(900, 700)
    picture = Image.open(io.BytesIO(editor.page.screenshot(animations="disabled")))
    few = picture.convert("RGB").quantize(256, kmeans=3, dither=Image.Dither.NONE)
    few.save(FOLDER / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
