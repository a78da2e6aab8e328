"""The tab as a part of ComfyUI's frontend: commands, menus, settings, themes."""

from __future__ import annotations

import json
from pathlib import Path

from playwright.sync_api import expect

from tests.browser.editor import Editor
from tests.browser.frontends import Frontend

# How far the text of each kind is from what is behind it, after WCAG 2.
CONTRAST = """() => {
  const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const light = ([r, g, b]) => [r, g, b]
    .map((one) => one / 255)
    .map((one) => (one <= 0.03928 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4))
    .reduce((sum, one, at) => sum + one * [0.2126, 0.7152, 0.0722][at], 0);
  const behind = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const color = rgba(getComputedStyle(at).backgroundColor);
      if (color[3] > 250) return color;
    }
    return [255, 255, 255, 255];
  };
  const faint = [];
  for (const element of document.querySelectorAll('.st-root *')) {
    const own = [...element.childNodes].some((one) => one.nodeType === 3 && one.data.trim());
    const isOff = element.closest(':disabled, [aria-disabled]');
    if (!own || !element.checkVisibility() || isOff) continue;
    const [one, other] = [rgba(getComputedStyle(element).color), behind(element)].map(light);
    const ratio = (Math.max(one, other) + 0.05) / (Math.min(one, other) + 0.05);
    // ComfyUI's own main button has 3.5 in its dark theme.
    const least = element.closest('.st-primary, .st-badge') ? 3 : 4.5;
    if (ratio < least) faint.push(`${element.textContent.slice(0, 30)}: ${ratio.toFixed(2)}`);
  }
  return faint;
}"""


def test_the_commands_copy_and_export_the_graph(editor: Editor, tmp_path: Path) -> None:
    run = "id => app.extensionManager.command.execute(id)"
    editor.page.evaluate(run, "StatelessAPI.CopyRequest")
    expect(editor.page.get_by_text("The open graph as an API request").first).to_be_visible()
    assert editor.clipboard.startswith("curl ")
    assert '"width": 64' in editor.clipboard
    with editor.page.expect_download() as download:
        editor.page.evaluate(run, "StatelessAPI.ExportGraph")
    assert download.value.suggested_filename.endswith("_api.json")
    download.value.save_as(tmp_path / "graph.json")
    graph = json.loads((tmp_path / "graph.json").read_text())
    assert graph["1"]["inputs"]["width"] == 64


def test_the_settings_hold_the_address_and_no_key(editor: Editor, frontend: Frontend) -> None:
    editor.show("Call")
    editor.page.evaluate(
        "app.extensionManager.setting.set('StatelessAPI.Address', 'https://gateway.example.com/')"
    )
    expect(editor.code).to_contain_text("https://gateway.example.com/prompt")
    editor.page.evaluate("app.extensionManager.setting.set('StatelessAPI.Address', '')")
    expect(editor.code).to_contain_text(f"{editor.server.url}/api/stateless/prompt")
    editor.page.evaluate("app.extensionManager.command.execute('Comfy.ShowSettingsDialog')")
    editor.page.get_by_text("Stateless API", exact=True).last.click()
    key = editor.page.get_by_role("dialog").get_by_label("API key", exact=True)
    expect(key).to_be_visible()
    key.fill("typed-in-the-settings")
    key.press("Enter")
    stored = editor.server.get("/settings").json
    assert "typed-in-the-settings" not in json.dumps(stored)
    assert "StatelessAPI.Key" not in stored
    if frontend.key:
        editor.expected.append("status of 401")


def test_texts_can_be_read_in_every_theme(editor: Editor) -> None:
    for theme in ("light", "dark"):
        editor.page.evaluate(
            "theme => app.extensionManager.setting.set('Comfy.ColorPalette', theme)", theme
        )
        for section in ("Call", "Publish", "Jobs", "Status"):
            editor.show(section)
            assert editor.page.evaluate(CONTRAST) == [], (theme, section)


def test_nothing_is_cut_off_at_the_side(editor: Editor) -> None:
    for width in (1920, 1280):
        editor.page.set_viewport_size({"width": width, "height": 800})
        for section in ("Call", "Publish", "Jobs", "Status"):
            shown = editor.show(section)
            for summary in shown.locator("details:not([open]) > summary").all():
                if summary.is_visible():
                    summary.click()
            wide = shown.evaluate(
                """(panel) => [...panel.querySelectorAll('.st-scroll, .st-footer')]
                  .filter((one) => one.scrollWidth > one.clientWidth)
                  .map((one) => `${one.className} ${one.scrollWidth} > ${one.clientWidth}`)"""
            )
            assert wide == [], (width, section)
            box = editor.panel.bounding_box()
            assert box is not None
            assert box["width"] >= 350
