// The endpoints that the server has.

import { button, fill, h, icon, iconButton, say } from "./dom.js";
import { encodedPath } from "./client.js";
import { copyFrom } from "./copying.js";
import { section } from "./fields.js";
import { exampleInput } from "./endpoint.js";
import { snippet } from "./snippets.js";

export class PublishedList {
  #ctx;
  #entries = new Map();

  /** @param {(entry: object) => void} onOpen @param {() => void} onChange others are there now */
  constructor(ctx, onOpen, onChange) {
    this.#ctx = ctx;
    this.onOpen = onOpen;
    this.onChange = onChange;
    this.list = h("ul.st-list", { "aria-label": "Published endpoints" });
    this.note = h("p.st-hint");
    this.count = h("span.st-count");
    this.element = section("Published", [this.note, this.list]);
    this.element.querySelector("summary").append(this.count);
  }

  /** What the server says of the endpoint at a path, null where there is none. */
  find(path) {
    return this.#entries.get(path) ?? null;
  }

  async load() {
    try {
      const { workflows = [], errors = [] } = await this.#ctx.client.get("/workflow");
      this.#entries = new Map(workflows.map((entry) => [entry.path, entry]));
      say(this.note, workflows.length ? "" : "Nothing is published yet.");
      say(this.count, workflows.length);
      fill(this.list, workflows.map((entry) => this.#row(entry)), errors.map(wrong));
    } catch (error) {
      this.#entries = new Map();
      fill(this.list);
      say(this.note, error.message);
      say(this.count, "?");
    }
    this.onChange();
  }

  #row(entry) {
    const { path, source, summary, error } = entry;
    const isGraph = source.endsWith(".json");
    const copier = iconButton(`Copy a call of ${path}`, "copy", () => copyFrom(copier, this.#call(entry)));
    const open = isGraph ? button(path, () => this.onOpen(entry), { kind: "link", title: `Open ${path} in the editor` }) : h("span", {}, path);
    const hint = error ? h("p.st-field-error", {}, error)
      : h("p.st-hint", {}, [!isGraph && source, summary].filter(Boolean).join(" · "));
    return h("li.st-item", {}, h("div.st-item-main", {}, open, hint),
      h("div.st-item-buttons", {}, copier, isGraph && this.#remover(entry)));
  }

  #call(entry) {
    const url = `${this.#ctx.address}/workflow/${encodedPath(entry.path)}`;
    const key = this.#ctx.key.get() || this.#ctx.needsKey ? {} : null;
    return snippet("curl", { url, body: { input: exampleInput(entry.schema) }, key });
  }

  /** A button that asks first; Escape, or going elsewhere, takes the question back. */
  #remover(entry) {
    const ask = iconButton(`Delete ${entry.path}`, "trash", () => {
      sure.hidden = false;
      sure.focus();
      ask.hidden = true;
    });
    const sure = button("Delete?", () => this.#remove(entry), {
      kind: "danger", hidden: true, "aria-label": `Really delete ${entry.path}`,
    });
    sure.addEventListener("blur", () => {
      sure.hidden = true;
      ask.hidden = false;
    });
    sure.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      event.stopPropagation();
      ask.hidden = false;
      ask.focus();
    });
    return this.#ctx.mayPublish !== false && h("span", {}, ask, sure);
  }

  async #remove(entry) {
    try {
      await this.#ctx.client.json("DELETE", `/workflow/${encodedPath(entry.path)}`);
      await this.load();
    } catch (error) {
      this.#ctx.host.toast("error", `${entry.path} is not deleted`, error.message);
    }
  }
}

function wrong({ file, line, reason }) {
  const place = line ? `${file}:${line}` : file;
  return h("li.st-item.st-item-wrong", {}, icon("exclamation-triangle"), h("span", {}, `${place}: ${reason}`));
}
