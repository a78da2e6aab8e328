// The section Publish: values of the graph become the inputs of an endpoint with a name.

import { button, fill, h, mark, newId, say } from "./dom.js";
import { EndpointPreview } from "./endpoint_preview.js";
import { formInput, newInput, pathTrouble, wireInputs } from "./endpoint.js";
import { showError } from "./errors.js";
import { field, select, textArea, textInput } from "./fields.js";
import { encodedPath } from "./client.js";
import { InputCard } from "./input_card.js";
import { keptOf, nameFor, noEndpoint, readEndpoint, titlesFor } from "./marked.js";
import { PublishedList } from "./published_list.js";

const STORE_MS = 400;

export class PublishSection {
  #ctx;
  #cards = [];
  #storing = null;
  #saved = "";
  #seen = null; // what the open workflow held when it was read or written here last

  constructor(ctx) {
    this.#ctx = ctx;
    this.endpoint = noEndpoint();
    this.preview = new EndpointPreview(ctx);
    this.published = new PublishedList(ctx, (entry) => this.open(entry.path), () => this.#showState());
    this.#makeFields();
    this.element = this.#build();
    ctx.current.addEventListener("change", () => this.#load());
    ctx.host.addEventListener("loaded", () => this.#forget());
    ctx.feed.addEventListener("status", () => this.#showState());
    ctx.addEventListener("address", () => this.#showState());
    this.#showEndpoint();
  }

  #makeFields() {
    const edits = (name) => ({ target }) => {
      this.endpoint[name] = target.value.trim();
      this.#edited();
    };
    this.path = textInput({ placeholder: "portraits/sdxl", maxlength: "200", on: { input: edits("path") } });
    this.summary = textInput({ placeholder: "What it makes, in a line", on: { input: edits("summary") } });
    this.description = textArea({ on: { input: edits("description") } });
    this.cards = h("ul.st-cards", { "aria-label": "Inputs" });
    this.chooser = select([], { id: newId(), "aria-label": "A value of the graph to be an input" });
    this.adder = button("Add", () => this.#addChosen(), { icon: "plus" });
    this.trouble = h("div");
    this.why = h("p.st-hint", { role: "status", id: newId() });
    this.saver = button("Publish", () => this.save(), { kind: "primary", icon: "cloud-upload", "aria-describedby": this.why.id });
  }

  #build() {
    this.empty = h("p.st-empty", {}, "The graph is empty. Open a workflow to publish it.");
    this.pathError = h("p.st-field-error", { role: "alert" });
    this.none = h("p.st-hint", {}, "No inputs yet. Choose a value here, or in the context menu of a node.");
    this.editor = h("div.st-stack", {},
      field("Name", this.path, "Its address ends in /workflow/ and this."), this.pathError,
      field("Summary", this.summary), field("Description", this.description),
      h("h4", {}, "Inputs"), this.none, this.cards,
      h("div.st-add", {}, this.chooser, this.adder),
      h("h4", {}, "Endpoint"), this.preview.element);
    return h("div.st-panel", {},
      h("div.st-scroll", {}, this.published.element, this.empty, this.editor),
      h("div.st-footer", {}, this.trouble, this.why, this.saver));
  }

  shown() {
    this.#ctx.current.watch(true);
    if (!this.#isSeen) this.#load();
    this.published.load();
  }

  hidden() {
    if (this.#storing) this.#store();
    this.#ctx.current.watch(false);
  }

  /** Make a value of the graph an input, as from a node's context menu. */
  async add(node, input) {
    await this.#ctx.current.refresh();
    const found = this.#ctx.current.inputs.find((one) => one.node === node && one.input === input);
    if (!found) {
      this.#ctx.host.toast("warn", `${input} of node ${node} is no value that can be an input.`);
      return;
    }
    const { inputs } = this.endpoint;
    if (!inputs.some((one) => one.node === node && one.input === input)) {
      inputs.push(newInput(found, nameFor(input, inputs)));
      this.#showEndpoint();
      this.#store();
    }
    this.#openCard(inputs.findIndex((one) => one.node === node && one.input === input));
  }

  #addChosen() {
    if (!this.chooser.value) return;
    const [node, input] = JSON.parse(this.chooser.value);
    this.add(node, input);
  }

  #openCard(index) {
    const details = this.#cards[index]?.element.querySelector("details");
    if (!details) return;
    details.open = true;
    details.querySelector("input")?.focus();
    details.scrollIntoView?.({ block: "nearest" });
  }

  #remove(input) {
    const { inputs } = this.endpoint;
    const index = inputs.indexOf(input);
    inputs.splice(index, 1);
    this.#showEndpoint();
    this.#store();
    const next = this.#cards[Math.min(index, this.#cards.length - 1)]?.element.querySelector("summary");
    (next ?? this.chooser).focus();
  }

  /** Read the endpoint from the graph, where it is not being edited here. */
  #load() {
    const { current, host } = this.#ctx;
    this.#showChoices();
    this.#showState();
    if (this.#isSeen && (this.#storing || this.#isBroken())) return;
    this.#stopStoring();
    this.#seen = JSON.stringify(host.kept);
    const read = readEndpoint(host.kept, current.graph, current.inputs);
    if (JSON.stringify(read) === JSON.stringify(this.endpoint)) return;
    this.endpoint = read;
    this.#showEndpoint();
  }

  #forget() {
    this.#stopStoring();
    this.#seen = null;
    this.endpoint = noEndpoint();
    this.#showEndpoint();
  }

  /** Whether the open workflow is still the one that was read: nobody may tell of another. */
  get #isSeen() {
    return this.#seen === JSON.stringify(this.#ctx.host.kept);
  }

  #stopStoring() {
    clearTimeout(this.#storing);
    this.#storing = null;
  }

  #isBroken() {
    return this.#cards.filter((card) => card.check()).length > 0;
  }

  #edited() {
    this.#showState();
    clearTimeout(this.#storing);
    this.#storing = setTimeout(() => this.#store(), STORE_MS);
  }

  /** Write the endpoint into the open workflow. */
  #store() {
    this.#stopStoring();
    const { host, current } = this.#ctx;
    if (!this.#isSeen) this.#load();
    if (this.#isBroken()) return;
    const kept = keptOf(this.endpoint);
    if (JSON.stringify(kept) !== JSON.stringify(host.kept)) host.kept = kept;
    this.#seen = JSON.stringify(host.kept);
    const titles = titlesFor(this.endpoint.inputs, current.graph, (id) => host.node(id));
    if (titles.size) host.retitle(titles);
    host.graphMayHaveChanged();
  }

  #showEndpoint() {
    const { endpoint } = this;
    for (const name of ["path", "summary", "description"]) {
      if (this[name].value.trim() !== endpoint[name]) this[name].value = endpoint[name];
    }
    this.#cards = endpoint.inputs.map((input) => this.#card(input));
    fill(this.cards, this.#cards.map((card) => card.element));
    this.#showChoices();
    this.#showState();
  }

  #card(input) {
    const title = this.#ctx.current.titles.get(input.node) ?? `Node ${input.node}`;
    return new InputCard(input, {
      title,
      others: () => new Set(this.endpoint.inputs.filter((one) => one !== input).map(({ name }) => name)),
      onChange: () => this.#edited(),
      onRename: () => this.#store(),
      onRemove: () => this.#remove(input),
      showNode: (id) => this.#ctx.showNode(id),
    });
  }

  #showChoices() {
    const { current } = this.#ctx;
    const isEmpty = !Object.keys(current.graph).length;
    this.empty.hidden = !isEmpty;
    this.editor.hidden = isEmpty;
    const used = new Set(this.endpoint.inputs.map(({ node, input }) => JSON.stringify([node, input])));
    const groups = grouped(current.inputs);
    const before = this.chooser.value;
    fill(this.chooser, h("option", { value: "" }, "Choose a value…"), [...groups].map(([id, inputs]) =>
      h("optgroup", { label: `${inputs[0].title} (${id})` }, inputs.map((one) => choice(one, used)))));
    this.chooser.value = before;
    if (this.chooser.selectedIndex < 0 || this.chooser.selectedOptions[0]?.disabled) this.chooser.value = "";
  }

  #showState() {
    const { endpoint } = this;
    const entry = this.published.find(endpoint.path);
    const trouble = pathTrouble(endpoint.path);
    const isAllowed = this.#ctx.mayPublish;
    this.none.hidden = endpoint.inputs.length > 0;
    say(this.pathError, endpoint.path ? (trouble ?? "") : "");
    say(this.saver.querySelector("span"), entry ? "Update" : "Publish");
    const isEmpty = !Object.keys(this.#ctx.current.graph).length;
    const why = isEmpty ? "There is no graph to publish." : isAllowed === false ? "This server does not let clients publish: it is started without ALLOW_PUBLISH=true."
      : trouble ?? (this.#isBroken() ? "An input needs a correction." : "");
    say(this.why, why);
    mark(this.saver, "aria-disabled", why ? "true" : null);
    this.preview.show(endpoint, entry, this.#saved === this.#said());
  }

  /** Write the endpoint to the server. */
  async save() {
    if (this.saver.getAttribute("aria-disabled")) return;
    this.#store();
    await this.#ctx.current.refresh();
    const { path, summary, description, inputs } = this.endpoint;
    const graph = this.#ctx.host.withPlaces(this.#ctx.current.graph);
    const body = { graph, inputs: wireInputs(inputs), ...(summary && { summary }), ...(description && { description }) };
    this.saver.disabled = true;
    try {
      await this.#ctx.client.json("PUT", `/workflow/${encodedPath(path)}`, body);
      showError(this.trouble, null);
      this.#saved = this.#said();
      await this.published.load();
      this.#ctx.host.toast("success", "Published", `POST …/workflow/${path}`);
      this.preview.choose("call");
      this.preview.element.scrollIntoView?.({ block: "nearest" });
    } catch (error) {
      showError(this.trouble, error, (id) => this.#ctx.showNode(id));
    }
    this.saver.disabled = false;
    this.#showState();
  }

  /** What would be published of the endpoint beside its graph. */
  #said() {
    const { path, summary, description, inputs } = this.endpoint;
    return JSON.stringify([path, summary, description, wireInputs(inputs)]);
  }

  /** Open a published endpoint in the editor, to be looked at or changed. */
  async open(path) {
    const { client, host, current } = this.#ctx;
    try {
      const { definition, summary, description } = await client.get(`/workflow/${encodedPath(path)}`);
      await host.open(definition.graph, path.split("/").pop());
      await current.refresh();
      const inputs = Object.entries(definition.inputs).map(([name, said]) => formInput(name, said));
      const marked = inputs.length ? inputs : readEndpoint(null, current.graph, current.inputs).inputs;
      this.endpoint = { path, summary: summary ?? "", description: description ?? "", inputs: marked };
      this.#saved = this.#said();
      this.#showEndpoint();
      this.#seen = JSON.stringify(host.kept);
      this.#store();
    } catch (error) {
      host.toast("error", `${path} cannot be opened`, error.message);
    }
  }
}

function choice({ node, input, value }, used) {
  const key = JSON.stringify([node, input]);
  const text = String(value).replace(/\s+/g, " ");
  const shown = text.length > 40 ? `${text.slice(0, 39)}…` : text;
  return h("option", { value: key, disabled: used.has(key) }, `${input}: ${shown}`);
}

/** The inputs by their node. */
function grouped(inputs) {
  const groups = new Map();
  for (const one of inputs) groups.set(one.node, [...(groups.get(one.node) ?? []), one]);
  return groups;
}
