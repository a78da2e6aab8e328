// One job in the list of them.

import { fill, h, iconButton, mark, say } from "./dom.js";
import { nodeLink, nodesOf } from "./errors.js";
import { ago, duration, moment, percent } from "./format.js";
import { progressBar, setProgress } from "./progress.js";

const STATES = {
  preparing: ["Fetching inputs", "download"],
  queued: ["Queued", "clock"],
  running: ["Running", "play"],
  delivering: ["Delivering", "upload"],
  succeeded: ["Done", "check"],
  failed: ["Failed", "times"],
  interrupted: ["Cancelled", "ban"],
};
const ENDED = new Set(["succeeded", "failed", "interrupted"]);
const WAITING = new Set(["queued", "preparing"]);

export class JobRow {
  #ctx;
  #address = null;
  #error = "";
  #isGone = false;
  #nodes = new Map();

  constructor(ctx, job) {
    this.#ctx = ctx;
    this.isSeen = false;
    this.created = moment(job.created) ?? 0;
    this.#build(job);
    this.update(job);
  }

  #build(job) {
    this.icon = h("i.pi", { "aria-hidden": "true" });
    this.state = h("span.st-state-text");
    this.id = h("span.st-job-id", { title: job.id }, job.id);
    this.source = h("span.st-job-source");
    this.times = h("span.st-job-times");
    this.picture = h("div.st-thumb", { hidden: true });
    this.bar = progressBar(`Progress of ${job.id}`);
    this.nodes = h("div.st-job-nodes");
    this.trouble = h("div.st-job-error", { hidden: true });
    this.stopper = iconButton(`Cancel ${job.id}`, "times", () => this.#cancel());
    this.element = h(
      "li.st-job",
      { "data-run": job.run },
      h("div.st-job-head", {},
        h("span.st-state", {}, this.icon, this.state), this.source, this.times, this.stopper),
      h("div.st-job-body", {}, this.picture, h("div.st-job-main", {}, this.id, this.bar, this.nodes, this.trouble)),
    );
  }

  /** Show what has changed. */
  update(job) {
    this.job = job;
    const isActive = !ENDED.has(job.state);
    const [label, name] = STATES[job.state] ?? [String(job.state), "circle"];
    mark(this.element, "data-state", job.state);
    mark(this.icon, "class", `pi pi-${name}`);
    say(this.state, this.#stateText(job, label));
    say(this.source, job.mode === "accepted" ? `${job.source} · webhook or upload` : job.source);
    this.stopper.hidden = !isActive;
    this.stopper.disabled = !isActive;
    this.bar.hidden = !isActive || job.state === "queued";
    setProgress(this.bar, job.state === "preparing" && !job.progress ? null : job.progress);
    this.#showNodes(isActive ? job.nodes : []);
    this.#showError(job.error);
    if (this.isSeen) this.showPicture();
    this.tick(Date.now());
  }

  /** Where it stands in the list: group, place in the group, and age; the smaller is above. */
  get place() {
    const { state, position, ended } = this.job;
    if (ENDED.has(state)) return [2, -(moment(ended) ?? 0), -this.created];
    if (WAITING.has(state)) return [1, Number.isInteger(position) ? position : Number.MAX_SAFE_INTEGER, this.created];
    return [0, 0, this.created];
  }

  #stateText(job, label) {
    if (job.state === "queued" && Number.isInteger(job.position)) {
      return job.position === 0 ? "Queued · next" : `Queued · ${job.position} ahead`;
    }
    return job.state === "running" && job.progress ? `${label} · ${percent(job.progress)}` : label;
  }

  /** Show the times anew. */
  tick(now) {
    const { started, ended } = this.job;
    const from = moment(started) ?? this.created;
    const end = moment(ended);
    say(this.times, end === null ? duration(now - (this.job.state === "queued" ? this.created : from))
      : `${duration(end - from)} · ${ago(end, now)}`);
  }

  #showNodes(nodes) {
    const wanted = new Map(nodes.map((node) => [String(node.node_id), node]));
    for (const [id, { element }] of this.#nodes) {
      if (!wanted.has(id)) {
        element.remove();
        this.#nodes.delete(id);
      }
    }
    for (const [id, node] of wanted) this.#showNode(id, node);
  }

  #showNode(id, node) {
    let shown = this.#nodes.get(id);
    if (!shown) {
      const bar = progressBar(`Progress of node ${id}`);
      const label = h("span.st-node-label");
      shown = { bar, label, element: h("div.st-node", {}, label, bar) };
      this.#nodes.set(id, shown);
      this.nodes.append(shown.element);
    }
    say(shown.label, `${node.class_type ?? "Node"} ${id}`);
    setProgress(shown.bar, node.max ? node.value / node.max : null);
  }

  #showError(error) {
    const key = error ? JSON.stringify(error) : "";
    if (key === this.#error) return;
    this.#error = key;
    this.trouble.hidden = !error;
    if (!error) return;
    const links = [...nodesOf(error).keys()].map((id) => nodeLink(id, (node) => this.#ctx.showNode(node)));
    fill(this.trouble, h("span.st-job-message", {}, error.error ?? error.message ?? error.code), links);
  }

  /** Have the thumbnail, if there is one, shown; for when the row is seen. */
  async showPicture() {
    const { thumbnail } = this.job;
    if (!thumbnail || this.#address) return;
    this.#address = "coming";
    try {
      this.#address = await this.#ctx.picture(thumbnail);
      if (this.#isGone) {
        URL.revokeObjectURL(this.#address);
        return;
      }
      fill(this.picture, h("img", { src: this.#address, alt: `Output of ${this.job.id}` }));
      this.picture.hidden = false;
    } catch {
      this.picture.hidden = true; // not kept any more
    }
  }

  async #cancel() {
    this.stopper.disabled = true;
    try {
      await this.#ctx.client.json("POST", `/jobs/${encodeURIComponent(this.job.run)}/interrupt`);
    } catch (error) {
      this.#ctx.host.toast("error", "Not cancelled", error.message);
      this.stopper.disabled = false;
    }
  }

  remove() {
    this.#isGone = true;
    if (this.#address) URL.revokeObjectURL(this.#address);
    this.element.remove();
  }
}
