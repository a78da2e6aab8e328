// The open graph, exported when it has changed and somebody looks.

import { inputsOf } from "./inputs.js";
import { plainTitle } from "./marks.js";

const QUIET_MS = 250;
const LOOK_MS = 1000;

/** Event `change`: `graph`, `workflow`, `inputs` or `error` are others than before. */
export class CurrentGraph extends EventTarget {
  graph = {};
  workflow = null;
  inputs = [];
  error = null;
  #ctx;
  #signature = null;
  #timer = null;
  #clock = null;
  #isWatched = false;
  #models = {};

  constructor(ctx) {
    super();
    this.#ctx = ctx;
    ctx.host.addEventListener("graph", () => this.#soon());
  }

  /** Keep up with the graph, or stop doing so. */
  watch(isWatched) {
    this.#isWatched = isWatched;
    clearInterval(this.#clock);
    if (!isWatched) return;
    this.#soon(0);
    // Frontends do not announce every graph that is opened.
    let stamp = this.#ctx.host.stamp;
    this.#clock = setInterval(() => {
      if (stamp === this.#ctx.host.stamp) return;
      stamp = this.#ctx.host.stamp;
      this.#soon();
    }, LOOK_MS);
  }

  /** Look whether the graph has changed: not every change is announced. */
  look() {
    if (this.#isWatched) this.#soon();
  }

  /** Learn which models are there, by which inputs for models are known. */
  async learnModels() {
    try {
      this.#models = await this.#ctx.client.get("/models");
      this.#signature = null;
      this.look();
    } catch {
      // Known by their names alone then.
    }
  }

  /** Export now, whatever is watched. */
  async refresh() {
    const signature = this.#ctx.host.signature();
    if (signature === this.#signature) return;
    try {
      const { graph, workflow } = await this.#ctx.host.exported();
      this.graph = graph;
      this.workflow = workflow;
      this.inputs = inputsOf(graph, (name) => this.#ctx.host.definition(name), this.#models);
      this.error = null;
      this.#signature = signature;
    } catch (error) {
      this.error = error;
    }
    this.dispatchEvent(new Event("change"));
  }

  /** The titles of the nodes, by their id. */
  get titles() {
    return new Map(Object.entries(this.graph).map(([id, node]) => [id, plainTitle(node._meta?.title) || node.class_type]));
  }

  #soon(after = QUIET_MS) {
    if (!this.#isWatched) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.refresh(), after);
  }
}
