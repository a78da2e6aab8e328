"""ComfyUI's editor in a real browser, used as a person would."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from playwright.sync_api import BrowserContext, ConsoleMessage, Locator, Page, expect

from tests.comfyui.server import ComfyServer

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync",
    "--disable-background-networking", "--disable-component-update",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]  # fmt: skip

OWN_ERRORS = (
    # What ComfyUI's pages ask their server for and do not find: other files and routes than ours.
    r"Failed to load resource: .* 404 .*/(favicon\.ico|user\.css|templates/|api/(userdata|jobs)\b)",
    r"\[?Jobs API|JobsApiError",
    # Previews of files that are not there, and descriptions of packs.
    r"Failed to load resource: .*/api/view\?type=input",
    r"https://(api\.comfy\.org|huggingface\.co)/.*Content Security Policy.*/assets/",
    r"/assets/missingModel",
)
"""Errors that the frontends log for themselves, at one time or another."""

KEY = "comfyui-stateless.api-key"
EXTENSION = "/extensions/comfyui-stateless/"

Graph = Mapping[str, Any]


@dataclass
class Editor:
    """A page with the editor in it.

    Attributes:
        expected: Patterns of errors that the test brings about itself.
    """

    page: Page
    server: ComfyServer
    expected: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    @classmethod
    def open(
        cls,
        context: BrowserContext,
        server: ComfyServer,
        *,
        key: str = "",
        without_us: bool = False,
        url: str = "",
    ) -> Editor:
        """Load the editor, and wait until it can be used.

        Args:
            key: The API key that was kept in this browser.
            without_us: Load it as if this extension were not there.
            url: Where the server is reached, if not at its own address.
        """
        page = context.new_page()
        # The first load of a page begins with nothing kept; a reload goes on.
        page.add_init_script(
            "if (!sessionStorage.getItem('begun')) localStorage.clear();"
            "sessionStorage.setItem('begun', '1');"
        )
        editor = cls(page, server)
        page.on("console", editor._note)
        page.on("pageerror", lambda error: editor.errors.append(f"page: {error}"))
        if key:
            page.add_init_script(f"localStorage.setItem({KEY!r}, {key!r})")
        if without_us:
            page.route("**/api/extensions", _without_us)
        page.goto(url or server.url)
        page.wait_for_function("window.app?.extensionManager && window.app.graph?._nodes")
        page.wait_for_function("!document.querySelector('#splash-loader')")
        return editor

    def _note(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self.errors.append(f"{message.text} ({message.location.get('url', '')})")

    def unexpected(self, known: set[str]) -> list[str]:
        """Return the errors that neither the test expects nor the editor has without us."""
        return [
            error
            for error in self.errors
            if normal(error) not in known
            and not any(re.search(pattern, error) for pattern in (*OWN_ERRORS, *self.expected))
        ]

    def load(self, graph: Graph, name: str = "a workflow") -> None:
        """Open a graph, given in the API format."""
        self.page.evaluate("([graph, name]) => app.loadApiJson(graph, name)", [graph, name])
        self.page.wait_for_function("count => app.graph._nodes.length === count", arg=len(graph))

    def show(self, section: str = "Call") -> Locator:
        """Open the tab at a section; return the panel."""
        if not self.panel.is_visible():
            self.tab_button.click()
        self.tab(section).click()
        expect(self.tab(section)).to_have_attribute("aria-selected", "true")
        return self.section(section)

    @property
    def tab_button(self) -> Locator:
        return self.page.get_by_role("button", name="Stateless API", exact=True).first

    @property
    def panel(self) -> Locator:
        return self.page.get_by_role("region", name="Stateless API")

    def tab(self, section: str) -> Locator:
        tabs = self.panel.get_by_role("tablist", name="Stateless API")
        return tabs.get_by_role("tab", name=re.compile(f"^{section}"))

    def section(self, section: str) -> Locator:
        return self.panel.get_by_role("tabpanel", name=re.compile(f"^{section}"))

    @property
    def code(self) -> Locator:
        return self.section("Call").get_by_role("tabpanel", name=re.compile("^The call in"))

    @property
    def clipboard(self) -> str:
        return str(self.page.evaluate("navigator.clipboard.readText()"))

    def set_widget(self, node: int, widget: str, value: Any) -> None:
        """Change a value on the canvas, as the frontend itself tells of it."""
        self.page.evaluate(
            """([id, name, value]) => {
              const node = app.graph.getNodeById(id);
              node.widgets.find((one) => one.name === name).value = value;
              const tracker = app.extensionManager.workflow.activeWorkflow.changeTracker;
              (tracker.captureCanvasState ?? tracker.checkState).call(tracker);
            }""",
            [node, widget, value],
        )

    def selected(self) -> list[str]:
        """Return the ids of the nodes that are selected on the canvas."""
        found = self.page.evaluate(
            "Object.values(app.canvas.selected_nodes ?? {}).map((node) => String(node.id))"
        )
        return list(found)

    def title(self, node: int) -> str:
        return str(self.page.evaluate("id => app.graph.getNodeById(id).title", node))


def normal(error: str) -> str:
    """Return an error without what differs from run to run."""
    return re.sub(r"\d+", "0", re.sub(r"https?://[^/\s]+", "", error))[:300]


def _without_us(route: Any) -> None:
    response = route.fetch()
    route.fulfill(json=[name for name in response.json() if EXTENSION not in name])
