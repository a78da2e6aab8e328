"""The section Status, and what the tab says where something stands in the way."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import BrowserContext, expect

from tests.browser.editor import Editor
from tests.browser.frontends import SETTINGS, Frontend, only_newer, only_own
from tests.browser.graphs import SIMPLE
from tests.cache.origin import Origin
from tests.comfyui.conftest import installs, required
from tests.comfyui.server import ComfyServer

MIB = 1024 * 1024


def headers(frontend: Frontend) -> dict[str, str]:
    return {"X-API-Key": frontend.key} if frontend.key else {}


def test_it_says_how_the_server_is(editor: Editor) -> None:
    status = editor.show("Status")
    expect(status).to_contain_text("Ready")
    expect(status).to_contain_text("0.3.75")
    expect(status).to_contain_text("0 running · 0 waiting")
    expect(status).to_contain_text("Allowed")
    link = status.get_by_role("link", name="All routes, to try out")
    assert link.get_attribute("href") == f"{editor.server.url}/api/stateless/docs"


def test_a_download_is_followed(editor: Editor, frontend: Frontend, origin: Origin) -> None:
    gate = threading.Event()
    name = f"large-{frontend.name}.safetensors"
    url = origin.put(f"/{name}", b"\0" * MIB, gate=gate)
    status = editor.show("Status")
    expect(status.get_by_text("Nothing is being fetched.")).to_be_visible()
    body = {"url": url, "model_type": "loras"}
    started = editor.server.request("POST", "/api/stateless/download", body, headers(frontend))
    assert started.status == 202, started.body
    bar = status.get_by_role("progressbar", name=f"Download of {name}")
    expect(bar).to_be_visible()
    expect(status).to_contain_text("of 1.0 MiB")
    gate.set()
    expect(status.get_by_text("Nothing is being fetched.")).to_be_visible()


@only_own
def test_a_webhook_that_was_not_taken_is_listed(
    editor: Editor, frontend: Frontend, origin: Origin
) -> None:
    url = origin.url(f"/not-there-{frontend.name}")
    body = {"prompt": SIMPLE, "webhook_v2": url}
    assert (
        editor.server.request("POST", "/api/stateless/prompt", body, headers(frontend)).status
        == 202
    )
    status = editor.show("Status")
    listed = status.get_by_role("list", name="Failed webhooks")
    expect(listed).to_contain_text(f"not-there-{frontend.name}", timeout=15_000)
    expect(listed).to_contain_text("1 try")


@only_newer  # its server needs one
def test_a_key_is_asked_for_and_stays_in_the_browser(
    open_editor: Callable[..., Editor], frontend: Frontend
) -> None:
    editor = open_editor()
    editor.expected.append("status of 401")
    editor.load(SIMPLE)
    call = editor.show("Call")
    expect(editor.panel.get_by_text("This server needs an API key.")).to_be_visible()
    expect(editor.code).to_contain_text("X-API-Key: $STATELESS_API_KEY")
    asked = editor.panel.get_by_label("API key").first
    asked.fill("a wrong one")
    asked.press("Enter")
    expect(editor.panel.get_by_text("This server needs an API key.")).to_be_visible()
    asked.fill(frontend.key)
    asked.press("Enter")
    expect(editor.panel.get_by_text("This server needs an API key.")).to_be_hidden()
    call.get_by_role("button", name="Send").click()
    expect(call.get_by_role("img", name="Output of node 9")).to_be_visible()
    assert frontend.key not in editor.server.get("/settings").body.decode()
    assert editor.page.evaluate("Object.values(localStorage).join()").count(frontend.key) == 0
    assert frontend.key not in editor.panel.inner_html()


@only_own
def test_without_the_leave_to_publish_and_with_wrong_settings_the_tab_says_so(
    context: BrowserContext, known_errors: set[str], tmp_path: Path
) -> None:
    install = required(next(iter(installs()), None))
    with ComfyServer(install, tmp_path / "plain") as server:
        server.wait_until_ready()
        server.post("/settings", SETTINGS)
        editor = Editor.open(context, server)
        editor.load(SIMPLE)
        publish = editor.show("Publish")
        expect(publish.get_by_text("started without ALLOW_PUBLISH=true")).to_be_visible()
        button = publish.get_by_role("button", name="Publish")
        expect(button).to_have_attribute("aria-disabled", "true")
        editor.page.close()
        assert editor.unexpected(known_errors) == []
    wrong = {"MAX_QUEUE_DEPTH": "many"}
    with ComfyServer(install, tmp_path / "wrong", wrong) as server:
        server.post("/settings", SETTINGS)
        editor = Editor.open(context, server)
        editor.expected.append("status of 503")
        editor.show("Call")
        expect(editor.panel.get_by_text("MAX_QUEUE_DEPTH").first).to_be_visible()
        editor.page.close()
        assert editor.unexpected(known_errors) == []
