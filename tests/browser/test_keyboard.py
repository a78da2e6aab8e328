"""Everything can be reached and used with the keyboard, and is named for screen readers."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.editor import Editor
from tests.browser.frontends import only_own

UNNAMED = """() => [...document.querySelectorAll(
    '.st-root button, .st-root input, .st-root select, .st-root textarea, .st-root a[href]')]
  .filter((one) => one.checkVisibility())
  .filter((one) => !(one.getAttribute('aria-label') || one.textContent.trim()
    || [...(one.labels ?? [])].some((label) => label.textContent.trim())))
  .map((one) => one.outerHTML)"""


def focused(editor: Editor) -> str:
    return str(
        editor.page.evaluate(
            "document.activeElement.getAttribute('aria-label')"
            " || document.activeElement.textContent.trim() || document.activeElement.id"
        )
    )


def test_the_tabs_move_with_the_arrow_keys(editor: Editor) -> None:
    editor.show("Call")
    editor.tab("Call").focus()
    for key, section in [
        ("ArrowRight", "Publish"), ("ArrowRight", "Jobs"), ("End", "Status"),
        ("ArrowRight", "Call"), ("ArrowLeft", "Status"), ("Home", "Call"),
    ]:  # fmt: skip
        editor.page.keyboard.press(key)
        expect(editor.tab(section)).to_be_focused()
        expect(editor.section(section)).to_be_visible()
    expect(editor.section("Jobs")).to_be_hidden()


def test_a_call_is_copied_and_sent_without_a_mouse(editor: Editor) -> None:
    editor.tab_button.focus()
    editor.page.keyboard.press("Enter")
    expect(editor.tab("Call")).to_be_visible()
    expect(editor.code).to_contain_text('"width": 64')
    editor.tab("Call").focus()
    seen: list[str] = []
    while "Send" not in seen:
        assert len(seen) < 20, seen
        editor.page.keyboard.press("Tab")
        seen.append(focused(editor))
        if seen[-1] == "Copy":
            editor.page.keyboard.press("Enter")
    expect(editor.section("Call").get_by_role("button", name="Copied")).to_be_visible()
    assert editor.clipboard.startswith("curl ")
    editor.page.keyboard.press("Enter")
    expect(editor.section("Call").get_by_role("img", name="Output of node 9")).to_be_visible()


def test_every_control_has_a_name_and_shows_its_focus(editor: Editor) -> None:
    for section in ("Call", "Publish", "Jobs", "Status"):
        shown = editor.show(section)
        for summary in shown.locator("details:not([open]) > summary").all():
            if summary.is_visible():
                summary.click()
        assert editor.page.evaluate(UNNAMED) == []
        editor.tab(section).focus()
        editor.page.keyboard.press("Tab")
        assert editor.page.evaluate("document.activeElement.closest('.st-root') !== null")
        outline = editor.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline == "solid", section


@only_own
def test_the_keys_of_the_editor_do_not_act_on_what_is_typed(editor: Editor) -> None:
    publish = editor.show("Publish")
    editor.page.evaluate("app.canvas.selectNode(app.graph.getNodeById(1))")
    name = publish.get_by_label("Name", exact=True).first
    name.click()
    editor.page.keyboard.type("rnwq")
    editor.page.keyboard.press("Delete")
    editor.page.keyboard.press("Backspace")
    expect(name).to_have_value("rnw")
    assert editor.page.evaluate("app.graph._nodes.length") == 2
    expect(editor.panel).to_be_visible()
