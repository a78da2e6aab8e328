// What callers will see of an endpoint: its form, which also tries it, its schema, and a call.

import { button, fill, h, say } from "./dom.js";
import { encodedPath } from "./client.js";
import { endpointSchema, exampleInput } from "./endpoint.js";
import { Run } from "./runs.js";
import { schemaForm } from "./schema_form.js";
import { SnippetView } from "./snippet_view.js";
import { tabList } from "./tabs.js";

export class EndpointPreview {
  #ctx;
  #endpoint = null;
  #entry = null;
  #shown = "";
  #form = null;

  constructor(ctx) {
    this.#ctx = ctx;
    this.run = new Run(ctx);
    this.place = h("div");
    this.hint = h("p.st-hint");
    this.trier = button("Call it", null, { icon: "play", type: "submit" });
    this.form = h("form.st-stack", { novalidate: true, on: { submit: (event) => this.#try(event) } },
      this.place, this.hint, h("div", {}, this.trier), this.run.progress, this.run.outcome);
    this.schema = h("pre.st-code", { tabindex: "0" });
    this.snippets = new SnippetView(ctx);
    this.tabs = tabList("Endpoint", [
      { id: "form", label: "Form", panel: this.form },
      { id: "schema", label: "Schema", panel: this.schema },
      { id: "call", label: "Call", panel: this.snippets.element },
    ], () => {}, "st-segments");
    this.element = h("div.st-group", {}, this.tabs.list, this.form, this.schema, this.snippets.element);
    this.tabs.show("form");
  }

  choose(id) {
    this.tabs.show(id);
  }

  /**
   * Show an endpoint.
   * @param {object|null} entry what the server says of it, if it is published
   * @param {boolean} isSaved whether it is published as it is now
   */
  show(endpoint, entry, isSaved) {
    this.#endpoint = endpoint;
    this.#entry = entry;
    const schema = isSaved && entry?.schema ? entry.schema : endpointSchema(endpoint.inputs, (input) => this.#offered(input));
    const key = JSON.stringify([schema, endpoint.path, Boolean(entry), isSaved, this.#ctx.address]);
    if (key === this.#shown) return;
    this.#shown = key;
    this.#form = schemaForm(schema);
    fill(this.place, this.#form.element);
    say(this.schema, JSON.stringify(schema, null, 2));
    say(this.hint, !entry ? "It can be called once it is published." : isSaved ? "" : "Changed since it was published.");
    this.trier.disabled = !entry;
    this.snippets.call = {
      url: `${this.#ctx.address}/workflow/${encodedPath(endpoint.path || "name")}`,
      body: { input: exampleInput(schema) },
    };
  }

  #offered({ node, input }) {
    return this.#ctx.current.inputs.find((one) => one.node === node && one.input === input)?.choices;
  }

  async #try(event) {
    event.preventDefault();
    if (!this.#entry || this.run.isRunning) return;
    this.trier.disabled = true;
    const titles = this.#ctx.current.titles;
    await this.run.send(`/workflow/${encodedPath(this.#endpoint.path)}`, { input: this.#form.read() }, { isAsync: false, titles });
    this.trier.disabled = !this.#entry;
  }
}
