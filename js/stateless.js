// The entry that ComfyUI's frontend loads: it registers the tab, the commands and the settings.
// Every other module here does nothing by being loaded.

import { api } from "../../scripts/api.js";
import { app } from "../../scripts/app.js";
import { keyForm } from "./stateless/access.js";
import { ADDRESS_SETTING, Context } from "./stateless/context.js";
import { copy, save } from "./stateless/copying.js";
import { Host } from "./stateless/host.js";
import { menuItems } from "./stateless/node_menu.js";
import { Panel } from "./stateless/panel.js";

const TAB = "stateless-api";
const NAME = "comfyui-stateless.panel";

const host = new Host(app, api);
const ctx = new Context(host);
let panel = null;

function thePanel() {
  panel ??= new Panel(ctx);
  return panel;
}

function addStyles() {
  const link = document.createElement("link");
  link.rel = "stylesheet";
  link.href = new URL("./stateless.css", import.meta.url).href;
  document.head.append(link);
}

async function copyRequest() {
  const text = await thePanel().sections.call.copy();
  if (!text) host.toast("warn", "The graph is empty.");
  else if (await copy(text)) host.toast("success", "Copied", "The open graph as an API request");
  else host.toast("error", "Not copied", "The browser does not allow it here.");
}

async function exportGraph() {
  const { graph } = await host.exported();
  save(`${host.title.replace(/[^\w.-]+/g, "_") || "workflow"}_api.json`, JSON.stringify(graph, null, 2), "application/json");
}

function publishInput(node, input) {
  host.showTab(TAB);
  thePanel().choose("publish");
  thePanel().sections.publish.add(node, input);
}

function itemsFor(node) {
  return menuItems(host, node, publishInput);
}

/** Add to the menus of frontends that do not ask extensions for entries. */
function addToOlderMenus() {
  const canvas = globalThis.LGraphCanvas?.prototype;
  if (typeof app.collectNodeMenuItems === "function" || !canvas?.getNodeMenuOptions) return;
  const before = canvas.getNodeMenuOptions;
  canvas.getNodeMenuOptions = function getNodeMenuOptions(node, ...rest) {
    const items = before.call(this, node, ...rest);
    items.push(...itemsFor(node));
    return items;
  };
}

function registerTab() {
  app.extensionManager?.registerSidebarTab?.({
    id: TAB,
    icon: "pi pi-code",
    title: "Stateless API",
    label: "API",
    tooltip: "Stateless API",
    type: "custom",
    render: (element) => {
      element.style.height = "100%";
      thePanel().open(element);
    },
    destroy: () => panel?.close(),
  });
}

app.registerExtension({
  name: NAME,
  commands: [
    { id: "StatelessAPI.CopyRequest", icon: "pi pi-copy", label: "Copy as API request", function: copyRequest },
    { id: "StatelessAPI.ExportGraph", icon: "pi pi-download", label: "Export API graph", function: exportGraph },
  ],
  menuCommands: [{ path: ["File"], commands: ["StatelessAPI.CopyRequest", "StatelessAPI.ExportGraph"] }],
  settings: [
    {
      id: ADDRESS_SETTING,
      name: "Address in calls (empty: that of this page)",
      category: ["Stateless API", "Calls", "Address"],
      type: "text",
      defaultValue: "",
      tooltip: "Where callers reach the API, such as https://gateway.example.com",
      // It is told of before the setting can be read.
      onChange: () => setTimeout(() => ctx.dispatchEvent(new Event("address"))),
    },
    {
      // Drawn by us, never set: a key is no setting that lies on the server.
      id: "StatelessAPI.Key",
      name: "API key (kept in this browser)",
      category: ["Stateless API", "Access", "API key"],
      defaultValue: "",
      type: () => keyForm(ctx),
    },
  ],
  getNodeMenuItems: itemsFor,
  afterConfigureGraph() {
    host.dispatchEvent(new Event("loaded"));
    host.graphMayHaveChanged();
  },
  setup() {
    addStyles();
    addToOlderMenus();
    registerTab();
  },
});
