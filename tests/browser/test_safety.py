"""Text that came from outside is text, wherever it is shown."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.editor import Editor
from tests.browser.frontends import Frontend, only_own
from tests.browser.graphs import node
from tests.comfyui.server import CHECKOUT

HOSTILE = "<img src=x onerror=window.hit=1><script>window.hit=1</script>\"'`${window.hit=1}"
MARKUP = ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function(")


def test_nothing_is_made_of_markup() -> None:
    files = [*(CHECKOUT / "js").rglob("*.js")]
    assert len(files) > 20
    found = [
        f"{file.name}: {word}" for file in files for word in MARKUP if word in file.read_text()
    ]
    assert found == []


def test_hostile_titles_values_ids_and_errors_are_shown_as_they_are(
    editor: Editor, frontend: Frontend
) -> None:
    editor.expected.append("status of 400|status of 500")
    graph = {
        "1": node("EmptyImage", HOSTILE, width=8, height=8, batch_size=1, color=0),
        "2": node("TestRaises", HOSTILE, image=["1", 0], kind="ValueError", message=HOSTILE),
        "3": node("LoadImage", HOSTILE, image=HOSTILE),
        "9": node("SaveImage", HOSTILE, images=["2", 0], filename_prefix=HOSTILE[:20]),
    }
    editor.load(graph, HOSTILE)
    call = editor.show("Call")
    expect(editor.code).to_contain_text("onerror=window.hit=1")
    call.get_by_text("Inputs by URL").click()
    call.get_by_text("Options", exact=True).click()
    call.get_by_label("Id", exact=True).fill(HOSTILE)
    call.get_by_role("button", name="Send").click()
    expect(call.get_by_role("alert")).to_contain_text("prompt.3.inputs.image")
    publish = editor.show("Publish")
    chooser = publish.get_by_label("A value of the graph to be an input")
    assert HOSTILE in str(chooser.locator("optgroup").first.get_attribute("label"))
    headers = {"X-API-Key": frontend.key} if frontend.key else {}
    del graph["3"]
    body = {"prompt": graph, "id": HOSTILE}
    assert editor.server.request("POST", "/api/stateless/prompt", body, headers).status == 500
    jobs = editor.show("Jobs")
    expect(jobs.get_by_role("listitem").first).to_contain_text(HOSTILE)
    editor.show("Status")
    inside = editor.panel.locator("script, img[src='x'], [onerror]")
    expect(inside).to_have_count(0)
    assert editor.page.evaluate("window.hit") is None


@only_own
def test_addresses_that_would_run_are_no_links(editor: Editor) -> None:
    found = editor.page.evaluate(
        """async () => {
          const { h, safeLink, safeSource } =
            await import('/extensions/comfyui-stateless/stateless/dom.js');
          const bad = ['javascript:alert(1)', ' java\\nscript:alert(1)', 'data:text/html,x',
            'data:image/svg+xml;base64,PHN2Zz4=', 'vbscript:x', 'file:///etc/passwd'];
          return {
            bad: bad.filter((url) => safeLink(url) || safeSource(url)),
            href: h('a', { href: 'javascript:alert(1)' }).outerHTML,
            good: ['https://example.com/a', 'blob:http://x/1'].every(safeLink)
              && Boolean(safeSource('data:image/png;base64,AAAA')),
          };
        }"""
    )
    assert found == {"bad": [], "href": "<a></a>", "good": True}
