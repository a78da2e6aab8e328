"""The section Publish: values of the graph become the inputs of an endpoint."""

from __future__ import annotations

import json
import os
import re
import subprocess

from playwright.sync_api import Locator, expect

from tests.browser.editor import Editor
from tests.browser.frontends import Frontend, only_own
from tests.browser.graphs import saved


def choose(publish: Locator, value: str) -> Locator:
    """Make a value of the graph an input; return its card."""
    chooser = publish.get_by_label("A value of the graph to be an input")
    option = chooser.locator("option", has_text=re.compile(f"^{value}:"))
    chooser.select_option(value=option.first.get_attribute("value"))
    publish.get_by_role("button", name="Add", exact=True).click()
    card = publish.get_by_role("list", name="Inputs", exact=True).get_by_role("listitem").last
    expect(card.get_by_label("Name")).to_be_focused()
    return card


def name_it(publish: Locator, name: str) -> None:
    publish.get_by_label("Name", exact=True).first.fill(name)


def publish_it(publish: Locator) -> None:
    publish.get_by_role("button", name=re.compile("^(Publish|Update)$")).click()
    expect(publish.get_by_role("button", name="Update")).to_be_enabled()
    expect(publish.get_by_text("Changed since it was published.")).to_be_hidden()


def called(curl: str, key: str) -> dict[str, object]:
    """Run a copied call in a terminal."""
    environment = {**os.environ, "STATELESS_API_KEY": key}
    done = subprocess.run(
        ["bash", "-c", curl], env=environment, capture_output=True, text=True, timeout=30
    )
    reply: dict[str, object] = json.loads(done.stdout)
    return reply


def test_the_minute_from_the_graph_to_a_call_in_a_terminal(
    editor: Editor, frontend: Frontend
) -> None:
    publish = editor.show("Publish")
    card = choose(publish, "width")
    card.get_by_label("Minimum").fill("16")
    card.get_by_label("Maximum").fill("128")
    name_it(publish, f"minute/{frontend.name}")
    publish.get_by_label("Summary").fill("A picture of one colour")
    publish_it(publish)
    calls = publish.get_by_role("tab", name="Call", exact=True)
    expect(calls).to_have_attribute("aria-selected", "true")
    publish.get_by_role("button", name="Copy", exact=True).click()
    expect(publish.get_by_role("button", name="Copied")).to_be_visible()
    curl = editor.clipboard
    assert f"/api/stateless/workflow/minute/{frontend.name}" in curl
    reply = called(curl, frontend.key)
    assert reply["input"] == {"width": 64}
    assert reply["outputs"][0]["width"] == 64  # type: ignore[index]
    refused = called(curl.replace('"width": 64', '"width": 400'), frontend.key)
    assert refused["location"] == "input.width"
    assert editor.title(1) == "Background @width=width"


def test_the_form_and_the_schema_are_those_of_the_endpoint(editor: Editor) -> None:
    publish = editor.show("Publish")
    card = choose(publish, "height")
    card.get_by_label("Name").fill("tall")
    card.get_by_label("Description").fill("In pixels")
    name_it(publish, "seen")
    publish_it(publish)
    publish.get_by_role("tab", name="Schema").click()
    schema = json.loads(publish.get_by_role("tabpanel", name="Schema").inner_text())
    assert schema["properties"]["tall"]["default"] == 48
    assert schema["properties"]["tall"]["description"] == "In pixels"
    publish.get_by_role("tab", name="Form").click()
    form = publish.get_by_role("tabpanel", name="Form")
    form.get_by_label("tall").fill("40")
    form.get_by_role("button", name="Call it").click()
    picture = form.get_by_role("img", name="Output of node 9")
    expect(picture).to_be_visible()
    assert picture.evaluate("image => image.decode().then(() => image.naturalHeight)") == 40


def test_a_published_endpoint_is_opened_where_its_nodes_lay_and_updated(editor: Editor) -> None:
    editor.page.evaluate("app.graph.getNodeById(9).pos = [900, 333]")
    publish = editor.show("Publish")
    choose(publish, "width")
    name_it(publish, "again")
    publish_it(publish)
    editor.load(saved(title="Another"))
    expect(publish.get_by_label("Name", exact=True).first).to_have_value("")
    publish.get_by_text("Published", exact=True).click()
    publish.get_by_role("button", name="again", exact=True).click()
    expect(publish.get_by_label("Name", exact=True).first).to_have_value("again")
    assert editor.title(1) == "Background @width=width"
    assert editor.page.evaluate("[...app.graph.getNodeById(9).pos]") == [900, 333]
    choose(publish, "height")
    publish_it(publish)
    found = editor.server.get("/api/stateless/workflow/again", X_API_Key="one-of-the-keys").json
    assert list(found["schema"]["properties"]) == ["width", "height"]
    assert found["definition"]["graph"]["1"]["_meta"]["title"] == (
        "Background @width=width @height=height"
    )


def test_marks_made_by_hand_are_inputs_and_what_is_said_of_them_stays_in_the_workflow(
    editor: Editor,
) -> None:
    editor.load(saved(title="Background @wide=width"))
    publish = editor.show("Publish")
    cards = publish.get_by_role("list", name="Inputs", exact=True)
    expect(cards).to_contain_text("wide")
    cards.get_by_text("wide", exact=True).click()
    cards.get_by_label("Maximum").fill("99")
    name_it(publish, "kept")
    editor.page.wait_for_function("app.graph.extra.stateless?.path === 'kept'")
    stored = editor.page.evaluate("app.graph.serialize()")
    editor.load(saved())
    expect(cards).to_be_hidden()
    editor.page.evaluate("graph => app.loadGraphData(graph)", stored)
    expect(publish.get_by_label("Name", exact=True).first).to_have_value("kept")
    cards.get_by_text("wide", exact=True).click()
    expect(cards.get_by_label("Maximum")).to_have_value("99")


@only_own
def test_renaming_and_removing_an_input_changes_the_mark(editor: Editor) -> None:
    publish = editor.show("Publish")
    card = choose(publish, "width")
    card.get_by_label("Name").fill("wide")
    card.get_by_label("Name").press("Tab")
    editor.page.wait_for_function("app.graph.getNodeById(1).title === 'Background @wide=width'")
    card.get_by_label("Name").fill("2 wide")
    expect(card.get_by_role("alert")).to_contain_text("A name is made of letters")
    expect(publish.get_by_role("button", name="Publish")).to_have_attribute("aria-disabled", "true")
    card.get_by_role("button", name=re.compile("^Remove")).click()
    editor.page.wait_for_function("app.graph.getNodeById(1).title === 'Background'")


@only_own
def test_an_error_of_the_server_is_shown_where_one_publishes(editor: Editor) -> None:
    editor.expected.append("status of 400")
    publish = editor.show("Publish")
    card = choose(publish, "width")
    card.get_by_label("Maximum").fill("99999999")
    name_it(publish, "wrong")
    publish.get_by_role("button", name="Publish").click()
    expect(publish.get_by_text("ComfyUI's own maximum").first).to_be_visible()


@only_own
def test_deleting_asks_first_and_escape_takes_it_back(editor: Editor) -> None:
    publish = editor.show("Publish")
    name_it(publish, "gone")
    publish_it(publish)
    publish.get_by_text("Published", exact=True).click()
    publish.get_by_role("button", name="Delete gone").press("Enter")
    sure = publish.get_by_role("button", name="Really delete gone")
    expect(sure).to_be_focused()
    sure.press("Escape")
    ask = publish.get_by_role("button", name="Delete gone")
    expect(ask).to_be_focused()
    ask.press("Enter")
    sure.press("Enter")
    expect(publish.get_by_role("button", name="gone", exact=True)).to_be_hidden()
    assert editor.server.get("/api/stateless/workflow/gone").status == 404


def test_a_value_is_published_from_the_menu_of_its_node(editor: Editor) -> None:
    items = editor.page.evaluate(
        """() => {
          const items = app.canvas.getNodeMenuOptions(app.graph.getNodeById(1));
          const ours = items.find((item) => item?.content === 'Publish as API input');
          const options = ours.submenu.options;
          options.find(({ content }) => content === 'height').callback();
          return options.map(({ content }) => content);
        }"""
    )
    assert items == ["width", "height", "batch_size", "color"]
    cards = editor.panel.get_by_role("list", name="Inputs", exact=True)
    expect(cards.get_by_label("Name")).to_have_value("height")
    expect(cards.get_by_label("Name")).to_be_focused()
    assert editor.title(1) == "Background @height=height"


@only_own
def test_the_menu_of_a_node_can_be_used_with_the_mouse(editor: Editor) -> None:
    place = editor.page.evaluate(
        """() => {
          const node = app.graph.getNodeById(1);
          app.canvas.centerOnNode(node);
          const [x, y] = app.canvas.ds.convertOffsetToCanvas(
            [node.pos[0] + 60, node.pos[1] - 12]);
          const box = app.canvas.canvas.getBoundingClientRect();
          return { x: box.x + x, y: box.y + y };
        }"""
    )
    editor.page.mouse.click(place["x"], place["y"], button="right")
    editor.page.get_by_text("Publish as API input").click()
    editor.page.locator(".litemenu-entry", has_text=re.compile("^width$")).click()
    cards = editor.panel.get_by_role("list", name="Inputs", exact=True)
    expect(cards.get_by_label("Name")).to_have_value("width")
