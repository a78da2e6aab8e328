// One call that is sent from here: followed while it runs, and what came of it.

import { button, fill, h, say } from "./dom.js";
import { errorBox } from "./errors.js";
import { percent } from "./format.js";
import { progressBar, setProgress } from "./progress.js";
import { Result } from "./result.js";
import { ApiError } from "./client.js";

/** Sends calls one at a time; shows how far they are, and their results. */
export class Run {
  #ctx;
  #stop = null;
  #id = null;
  #titles = new Map();

  constructor(ctx) {
    this.#ctx = ctx;
    this.result = new Result(ctx);
    this.#build();
  }

  #build() {
    this.bar = progressBar("Progress of the call");
    this.text = h("span.st-run-text", {});
    this.stopper = button("Cancel", () => this.cancel(), { icon: "times" });
    const state = h("div.st-run-state", { "aria-live": "polite" }, this.text);
    this.progress = h("div.st-run", { hidden: true }, h("div.st-run-line", {}, state, this.stopper), this.bar);
    this.outcome = h("div.st-outcome", {});
  }

  get isRunning() {
    return this.#stop !== null;
  }

  /**
   * Send a call, and show what comes of it.
   * @param {string} path of the route
   * @param {object} body
   * @param {{isAsync: boolean, titles?: Map<string, string>}} given titles: of nodes, by their id
   */
  async send(path, body, { isAsync, titles = new Map() }) {
    const stop = (this.#stop = new AbortController());
    // An id of our own, so that this call and no other is cancelled.
    this.#id = body.id ?? `editor-${randomId()}`;
    this.#titles = titles;
    this.#begin();
    const started = performance.now();
    try {
      const reply = await this.#reply(path, { ...body, id: this.#id }, isAsync, stop);
      this.#end(this.result.show(reply, { isAccepted: isAsync, took: performance.now() - started, titles }));
    } catch (error) {
      this.#fail(error);
    }
    this.#stop = null;
  }

  async #reply(path, body, isAsync, stop) {
    const { client } = this.#ctx;
    if (isAsync) return client.json("POST", path, body, { signal: stop.signal });
    for await (const { name, data } of client.events("POST", path, body, { signal: stop.signal })) {
      if (name === "succeeded") return data;
      if (name === "failed") throw new ApiError(data.status ?? 500, data);
      this.#tell(name, data);
    }
    throw new ApiError(0, { error: "The connection ended before the result came.", code: "cut_off" });
  }

  /** Stop the call that is running. */
  async cancel() {
    const stop = this.#stop;
    if (!stop) return;
    say(this.text, "Stopping…");
    try {
      await this.#ctx.client.json("POST", "/interrupt", { id: this.#id });
    } catch {
      stop.abort(); // not there any more, or the server is not: leaving is what is left
    }
  }

  #begin() {
    fill(this.outcome);
    this.progress.hidden = false;
    setProgress(this.bar, null);
    say(this.text, "Sending…");
  }

  #tell(name, data) {
    if (name === "queued") say(this.text, data.position ? `Waiting: ${data.position} before it` : "Waiting for its turn");
    if (name === "preparing") this.#preparing(data);
    if (name === "started") say(this.text, "Running");
    if (name === "node" && !data.cached) say(this.text, this.#nameOf(data.node_id, data.class_type));
    if (name === "progress") {
      setProgress(this.bar, data.overall);
      say(this.text, `${this.#nameOf(data.node_id)} · ${percent(data.value / (data.max || 1))}`);
    }
  }

  #preparing({ url, bytes, total }) {
    const share = total ? ` ${percent(bytes / total)}` : "";
    say(this.text, `Fetching ${String(url ?? "inputs").split("/").pop()}${share}`);
    if (total) setProgress(this.bar, bytes / total);
  }

  #nameOf(id, classType = null) {
    return this.#titles.get(String(id)) ?? classType ?? `Node ${id}`;
  }

  #end(element) {
    this.progress.hidden = true;
    fill(this.outcome, element);
    element.scrollIntoView?.({ block: "nearest" });
  }

  #fail(error) {
    if (error.name === "AbortError" || error.code === "interrupted") {
      this.#end(h("p.st-empty", { role: "status" }, "Cancelled."));
      return;
    }
    this.#end(errorBox(error, (id) => this.#ctx.showNode(id)));
  }
}

function randomId() {
  const bytes = crypto.getRandomValues(new Uint8Array(8));
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
