// What we use of ComfyUI's frontend. Its versions differ: what one lacks is done without.

export class Host extends EventTarget {
  #app;
  #api;

  constructor(app, api) {
    super();
    this.#app = app;
    this.#api = api;
    api.addEventListener?.("graphChanged", () => this.graphMayHaveChanged());
  }

  /** The API's own address, as others would call it. */
  get address() {
    const path = this.#api.apiURL?.("/stateless") ?? "/api/stateless";
    return new URL(path, location.href).href;
  }

  /** Call a route of ComfyUI's API, as its own frontend does. */
  fetch(path, options) {
    // Newer frontends give up after a time: an answer of ours may take as long as its downloads.
    if (this.#api.fetchApi) return this.#api.fetchApi(path, { ...options, timeoutMs: null });
    return fetch(`/api${path}`, options);
  }

  /** Tell those who listen for `graph` to look again. */
  graphMayHaveChanged() {
    this.dispatchEvent(new Event("graph"));
  }

  get #graph() {
    return this.#app.rootGraph ?? this.#app.graph;
  }

  /** Something cheap that mostly is another one when the graph is. */
  get stamp() {
    const graph = this.#graph;
    return `${this.title} ${graph?._nodes?.length} ${graph?._version}`;
  }

  /** A text that is another one when the graph is. */
  signature() {
    try {
      return JSON.stringify(this.#graph.serialize());
    } catch {
      return String(Math.random());
    }
  }

  /** The open graph in the API format, and in the editor's own. */
  async exported() {
    const { output, workflow } = await this.#app.graphToPrompt();
    return { graph: output ?? {}, workflow };
  }

  /** The name of the open workflow, without its folder and ending. */
  get title() {
    const open = this.#app.extensionManager?.workflow?.activeWorkflow;
    return String(open?.filename ?? open?.path ?? "workflow").split("/").pop().replace(/\.json$/i, "");
  }

  /** What the server says of a class of nodes, null for one that is not there. */
  definition(classType) {
    return globalThis.LiteGraph?.registered_node_types?.[classType]?.nodeData ?? null;
  }

  /** What of ours is kept in the workflow itself, with which it is saved. */
  get kept() {
    return this.#graph?.extra?.stateless ?? null;
  }

  set kept(value) {
    const graph = this.#graph;
    if (!graph) return;
    graph.extra ??= {};
    if (value) graph.extra.stateless = value;
    else delete graph.extra.stateless;
    this.#changed();
  }

  /** A node by its id in the API format, where `5:3` is node 3 inside the subgraph 5. */
  node(id, graph = this.#graph) {
    const text = String(id);
    const found = nodeIn(graph, text);
    const at = text.indexOf(":");
    if (found || at < 0) return found; // opened in the API format, a node itself may be named `5:3`
    const { subgraph } = nodeIn(graph, text.slice(0, at)) ?? {};
    return subgraph ? this.node(text.slice(at + 1), subgraph) : null;
  }

  /**
   * The id of a node in the API format, null for one that is not in the open graph.
   * Of a subgraph that is used more than once, it is that of the first use.
   */
  idOf(node, graph = this.#graph, within = "") {
    for (const one of graph?._nodes ?? []) {
      if (one === node) return `${within}${one.id}`;
      const inside = one.subgraph ? this.idOf(node, one.subgraph, `${within}${one.id}:`) : null;
      if (inside) return inside;
    }
    return null;
  }

  /** Show a node in the middle of the canvas, selected. Returns whether it is there. */
  showNode(id) {
    const node = this.node(id);
    const canvas = this.#app.canvas;
    if (!node || !canvas) return false;
    if (node.graph && canvas.graph !== node.graph) canvas.setGraph?.(node.graph);
    canvas.deselectAll?.();
    canvas.selectNode?.(node);
    canvas.centerOnNode?.(node);
    canvas.setDirty?.(true, true);
    return true;
  }

  /** Give nodes new titles, as one change that can be undone. @param {Map<string, string>} titles */
  retitle(titles) {
    for (const [id, title] of titles) {
      const node = this.node(id);
      if (node && node.title !== title) node.title = title;
    }
    this.#changed();
  }

  #changed() {
    this.#app.canvas?.setDirty?.(true, true);
    const tracker = this.#app.extensionManager?.workflow?.activeWorkflow?.changeTracker;
    if (tracker?.captureCanvasState) tracker.captureCanvasState();
    else tracker?.checkState?.();
  }

  /** Open a graph in the API format as a new workflow, with the places its `_meta` may have. */
  async open(graph, name) {
    if (!this.#app.loadApiJson) throw new Error("This ComfyUI cannot open graphs in the API format.");
    await this.#app.loadApiJson(graph, name);
    for (const [id, said] of Object.entries(graph)) place(this.node(id), said._meta?.place);
    this.#app.canvas?.setDirty?.(true, true);
    this.graphMayHaveChanged();
  }

  /** A graph whose nodes say where they lie, so that `open` can put them there again. */
  withPlaces(graph) {
    const entries = Object.entries(graph).map(([id, said]) => {
      const node = id.includes(":") ? null : this.node(id);
      if (!node?.pos || !node.size) return [id, said];
      const spot = [...node.pos, ...node.size].map(Math.round);
      return [id, { ...said, _meta: { ...said._meta, place: spot } }];
    });
    return Object.fromEntries(entries);
  }

  /** Say something in a corner. @param {"success"|"info"|"warn"|"error"} kind */
  toast(kind, title, detail = "") {
    const toast = this.#app.extensionManager?.toast;
    const newer = { success: "success", info: "info", warn: "warning", error: "error" }[kind];
    const life = kind === "error" ? 8000 : 3500;
    if (typeof toast?.[newer] === "function") toast[newer](title, { description: detail, duration: life });
    else toast?.add?.({ severity: kind, summary: title, detail, life });
  }

  /** The value of one of ComfyUI's settings. */
  setting(id) {
    return this.#app.extensionManager?.setting?.get?.(id) ?? this.#app.ui?.settings?.getSettingValue?.(id);
  }

  /** Have our tab open. */
  showTab(id) {
    const sidebar = this.#app.extensionManager?.sidebarTab;
    if (!sidebar) return;
    if (sidebar.activeSidebarTabId !== id) sidebar.toggleSidebarTab?.(id);
  }
}

function nodeIn(graph, id) {
  return graph?.getNodeById?.(/^\d+$/.test(id) ? Number(id) : id) ?? graph?.getNodeById?.(id) ?? null;
}

function place(node, spot) {
  if (!node || !Array.isArray(spot) || spot.length !== 4 || !spot.every(Number.isFinite)) return;
  node.pos = [spot[0], spot[1]];
  node.setSize?.([spot[2], spot[3]]);
}
