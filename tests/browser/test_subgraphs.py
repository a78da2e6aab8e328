"""Graphs with subgraphs, and another graph under one's hands."""

from __future__ import annotations

import json
from typing import Any

from playwright.sync_api import Locator, expect

from tests.browser.editor import Editor
from tests.browser.frontends import Frontend
from tests.browser.graphs import SIMPLE, node, saved

# Node 1 goes into a subgraph, which is used twice: as nodes 10 and 11; its width is a widget of both.
NEST = """() => {
  const root = app.rootGraph ?? app.graph;
  const { node, subgraph } = root.convertToSubgraph(new Set([root.getNodeById(1)]));
  const inner = subgraph._nodes[0];
  const slot = inner.inputs.findIndex(({ name }) => name === 'width');
  subgraph.addInput('width', 'INT').connect(inner.inputs[slot], inner);
  const again = LiteGraph.createNode(subgraph.id);
  root.add(again);
  again.connect(0, root.getNodeById(8), 0);
  again.widgets[0].value = 99;
  return [node.id, again.id].map(String);
}"""

MENU = """inside => {
  const node = (app.rootGraph ?? app.graph)._nodes.find(({ subgraph }) => subgraph);
  const items = app.canvas.getNodeMenuOptions(inside ? node.subgraph._nodes[0] : node);
  const { options } = items.find((item) => item?.content === 'Publish as API input').submenu;
  options[0].callback();
  return options.map(({ content }) => content);
}"""


def nested(editor: Editor) -> list[str]:
    """Open a graph with a subgraph that is used twice; return the ids of the two."""
    second = node("SaveImage", "Second", images=["1", 0], filename_prefix="second")
    editor.load({**saved(), "8": second})
    ids = editor.page.evaluate(NEST)
    return [str(one) for one in ids]


def chosen(publish: Locator, place: list[str]) -> None:
    chooser = publish.get_by_label("A value of the graph to be an input")
    chooser.select_option(value=json.dumps(place, separators=(",", ":")))
    publish.get_by_role("button", name="Add", exact=True).click()


def endpoint(editor: Editor, frontend: Frontend, path: str) -> Any:
    headers = {"X-API-Key": frontend.key} if frontend.key else {}
    return editor.server.get(f"/api/stateless/workflow/{path}", **headers).json


def test_two_uses_of_a_subgraph_are_told_apart(editor: Editor, frontend: Frontend) -> None:
    first, second = nested(editor)
    editor.show("Call")
    expect(editor.code).to_contain_text(f'"{first}:1"')
    expect(editor.code).to_contain_text('"width": 99')
    publish = editor.show("Publish")
    cards = publish.get_by_role("list", name="Inputs", exact=True).get_by_role("listitem")
    for count, use in enumerate((second, first), start=1):
        chosen(publish, [f"{use}:1", "width"])
        expect(cards).to_have_count(count)
        expect(cards.last.get_by_role("button", name=f"Show node {use}:1")).to_be_visible()
    publish.get_by_label("Name", exact=True).first.fill("uses")
    publish.get_by_role("button", name="Publish").click()
    expect(publish.get_by_role("button", name="Update")).to_be_enabled()
    inputs = endpoint(editor, frontend, "uses")["definition"]["inputs"]
    assert [(name, said["node"], said["default"]) for name, said in inputs.items()] == [
        ("width", f"{second}:1", 99), ("width_2", f"{first}:1", 64),
    ]  # fmt: skip
    cards.last.get_by_role("button", name=f"Show node {first}:1").click()
    assert editor.selected() == ["1"]


def test_the_menus_of_a_subgraph_and_of_a_node_in_it_publish(editor: Editor) -> None:
    first, _ = nested(editor)
    assert editor.page.evaluate(MENU, False) == ["width"]
    cards = editor.panel.get_by_role("list", name="Inputs", exact=True).get_by_role("listitem")
    expect(cards.get_by_role("button", name=f"Show node {first}:1")).to_be_visible()
    cards.get_by_role("button", name="Remove width").click()
    expect(cards).to_have_count(0)
    assert editor.page.evaluate(MENU, True) == ["width", "height", "batch_size", "color"]
    expect(cards.get_by_label("Name")).to_have_value("width")


def test_what_was_typed_does_not_go_into_a_graph_that_is_opened_meanwhile(editor: Editor) -> None:
    publish = editor.show("Publish")
    name = publish.get_by_label("Name", exact=True).first
    name.fill("of-the-first")
    editor.page.wait_for_function("app.graph.extra.stateless?.path === 'of-the-first'")
    editor.page.evaluate("graph => void app.loadApiJson(graph, 'other')", SIMPLE)
    editor.page.wait_for_function("!app.graph.extra.stateless && app.graph._nodes.length === 2")
    editor.show("Call")
    editor.show("Publish")
    expect(name).to_have_value("")
    assert editor.page.evaluate("app.graph.extra.stateless ?? null") is None
