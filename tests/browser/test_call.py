"""The section Call: the open graph as a request."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import Locator, expect

from tests.browser.editor import Editor
from tests.browser.frontends import Frontend, only_own
from tests.browser.graphs import PHOTO, failing, node, saved, waiting
from tests.cache.origin import Origin
from tests.comfyui.receiver import Receiver

NASTY = 'it\'s "quoted" `touch a` $(touch b) $HOME !! \\ \n 100% <b>&amp; \u202e\x9b ü 🙂'
SECONDS = 30


def run(language: str, text: str, folder: Path, key: str) -> str:
    """Run a copied call as a person would: pasted into a terminal, or saved and started."""
    environment = {**os.environ, "STATELESS_API_KEY": key}
    if language == "curl":
        command = ["bash", "-c", text]
    elif language == "Python":
        (folder / "call.py").write_text(text)
        command = [sys.executable, "call.py"]
    else:
        (folder / "call.mjs").write_text(text)
        command = ["node", "call.mjs"]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=SECONDS
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def copied(editor: Editor, language: str) -> str:
    call = editor.show("Call")
    call.get_by_role("tab", name=language, exact=True).click()
    call.get_by_role("button", name="Copy").first.click()
    expect(call.get_by_role("button", name="Copied")).to_be_visible()
    return editor.clipboard


def body_of(curl: str) -> Any:
    """Return the JSON of a copied curl."""
    return json.loads(curl.partition("<<'JSON'\n")[2].removesuffix("JSON\n"))


def opened(call: Locator, part: str) -> Locator:
    """Open a part that is folded away."""
    call.get_by_text(part, exact=True).click()
    return call


def test_the_request_follows_the_graph(editor: Editor) -> None:
    editor.show("Call")
    expect(editor.code).to_contain_text('"width": 64')
    editor.set_widget(1, "width", 72)
    expect(editor.code).to_contain_text('"width": 72')
    expect(editor.code).to_contain_text(f"{editor.server.url}/api/stateless/prompt")
    editor.load(saved(width=80))
    expect(editor.code).to_contain_text('"width": 80')


@only_own
def test_a_change_that_nobody_announced_is_seen_when_one_comes_back(editor: Editor) -> None:
    call = editor.show("Call")
    expect(editor.code).to_contain_text('"width": 64')
    editor.page.evaluate("app.graph.getNodeById(1).widgets[0].value = 88")
    call.hover(position={"x": 5, "y": 5})
    expect(editor.code).to_contain_text('"width": 88')


def test_copied_calls_run_whatever_is_in_the_graph(
    editor: Editor, frontend: Frontend, tmp_path: Path
) -> None:
    graph = {**saved(title=NASTY), "5": node("PrimitiveStringMultiline", "Text", value=NASTY)}
    editor.load(graph, NASTY)
    out = run("curl", copied(editor, "curl"), tmp_path, frontend.key)
    assert json.loads(out)["prompt"]["5"]["inputs"]["value"] == NASTY
    for language in ("Python", "JavaScript"):
        folder = tmp_path / language
        folder.mkdir()
        run(language, copied(editor, language), folder, frontend.key)
        [picture] = folder.glob("*.png")
        assert picture.name.endswith("_00001_.png")
        assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_key_is_read_from_the_environment_unless_it_is_asked_for(
    editor: Editor, frontend: Frontend
) -> None:
    if not frontend.key:
        assert "X-API-Key" not in copied(editor, "curl")
        return
    text = copied(editor, "curl")
    assert '-H "X-API-Key: $STATELESS_API_KEY"' in text
    assert frontend.key not in text
    editor.section("Call").get_by_label("Put the API key in").check()
    assert f"-H 'X-API-Key: {frontend.key}'" in copied(editor, "curl")


@only_own
def test_a_file_of_the_graph_can_come_by_url(editor: Editor, origin: Origin) -> None:
    origin.put("/photo.png", editor.page.screenshot())
    editor.load(PHOTO)
    call = opened(editor.show("Call"), "Inputs by URL")
    call.get_by_label("URL for image of Photo, now example.png").fill(origin.url("/photo.png"))
    expect(editor.code).to_contain_text(origin.url("/photo.png"))
    call.get_by_role("button", name="Send").click()
    expect(call.get_by_role("img", name="Output of node 9")).to_be_visible()


@only_own
def test_options_become_fields_of_the_request(editor: Editor) -> None:
    call = opened(editor.show("Call"), "Options")
    call.get_by_label("Image format").select_option("WebP")
    call.get_by_label("Quality").fill("61")
    call.get_by_label("Lossless").check()
    call.get_by_label("Upload to").select_option("S3 bucket")
    call.get_by_label("Bucket").fill("pictures")
    call.get_by_label("Webhook").fill("https://example.com/hook")
    call.get_by_label("Id", exact=True).fill("order-17")
    call.get_by_label("Timeout (s)").fill("90")
    call.get_by_label("Priority").fill("5")
    body = body_of(copied(editor, "curl"))
    del body["prompt"]
    assert body == {
        "id": "order-17",
        "convert_output": {"format": "webp", "options": {"quality": 61, "lossless": True}},
        "s3": {"bucket": "pictures", "async": False},
        "webhook_v2": "https://example.com/hook",
        "timeout_s": 90,
        "priority": 5,
    }


@only_own
def test_an_upload_without_its_bucket_is_not_sent(editor: Editor) -> None:
    call = opened(editor.show("Call"), "Options")
    call.get_by_label("Upload to").select_option("S3 bucket")
    call.get_by_role("button", name="Send").click()
    expect(editor.page.get_by_text("The upload needs: Bucket").first).to_be_visible()


@only_own
def test_the_picture_comes_in_the_format_that_was_chosen(editor: Editor) -> None:
    call = opened(editor.show("Call"), "Options")
    call.get_by_label("Image format").select_option("JPEG")
    call.get_by_role("button", name="Send").click()
    expect(call.get_by_role("link", name=re.compile(r"^Save .*\.jpeg$"))).to_be_visible()


def test_send_shows_the_picture_the_timings_and_the_reply(editor: Editor) -> None:
    call = editor.show("Call")
    call.get_by_role("button", name="Send").click()
    result = call.get_by_role("region", name="Result")
    picture = result.get_by_role("img", name="Output of node 9")
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.decode().then(() => image.naturalWidth)") == 64
    expect(result).to_contain_text(re.compile(r"Done in \d"))
    expect(result).to_contain_text("ComfyUI")
    result.get_by_text("Raw JSON").click()
    expect(result.get_by_label("The reply as JSON")).to_contain_text('"node_id": "9"')
    result.get_by_role("button", name="Copy JSON").click()
    expect(result.get_by_role("button", name="Copied")).to_be_visible()
    assert json.loads(editor.clipboard)["outputs"][0]["width"] == 64


@only_own
def test_send_with_a_webhook_says_that_it_was_accepted(editor: Editor, receiver: Receiver) -> None:
    call = opened(editor.show("Call"), "Options")
    call.get_by_label("Webhook").fill(f"{receiver.origin}/editor")
    call.get_by_role("button", name="Send").click()
    expect(call.get_by_role("region", name="Result")).to_contain_text("Accepted")


def test_an_error_leads_to_its_node(editor: Editor) -> None:
    editor.expected.append("status of 400|status of 500")
    editor.load(failing("the <b>tensor</b> is wrong"))
    call = editor.show("Call")
    call.get_by_role("button", name="Send").click()
    alert = call.get_by_role("alert")
    expect(alert).to_contain_text("the <b>tensor</b> is wrong")
    expect(alert).to_contain_text("execution_error")
    call.get_by_role("button", name="Show node 2").click()
    assert editor.selected() == ["2"]


@only_own
def test_a_wrong_value_is_shown_with_the_node_that_has_it(editor: Editor) -> None:
    editor.expected.append("status of 400")
    editor.load(PHOTO)
    call = editor.show("Call")
    call.get_by_role("button", name="Send").click()
    expect(call.get_by_role("alert")).to_contain_text("prompt.2.inputs.image")
    call.get_by_role("button", name="Show node 2").click()
    assert editor.selected() == ["2"]


def test_a_call_can_be_cancelled(editor: Editor, frontend: Frontend) -> None:
    editor.load(waiting(60, "cancelled"))
    call = editor.show("Call")
    call.get_by_role("button", name="Send").click()
    expect(call.get_by_text("Wait", exact=True)).to_be_visible()
    expect(call.get_by_role("progressbar", name="Progress of the call")).to_be_visible()
    call.get_by_role("button", name="Cancel").click()
    expect(call.get_by_text("Cancelled.")).to_be_visible()
    expect(call.get_by_role("button", name="Send")).to_be_enabled()


@only_own
def test_an_empty_graph_says_so(editor: Editor) -> None:
    editor.page.evaluate("app.graph.clear()")
    call = editor.show("Call")
    expect(call.get_by_text("The graph is empty.")).to_be_visible()
    expect(call.get_by_role("button", name="Send")).to_be_disabled()
