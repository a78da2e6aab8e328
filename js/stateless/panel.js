// The sidebar tab: four sections, and above them what stands in the way.

import { keyForm } from "./access.js";
import { CallSection } from "./call.js";
import { button, fill, h, say } from "./dom.js";
import { JobsSection } from "./jobs.js";
import { PublishSection } from "./publish.js";
import { StatusSection } from "./status.js";
import { tabList } from "./tabs.js";

export class Panel {
  #ctx;
  #shown = null;
  #isOpen = false;
  #notice = "";

  constructor(ctx) {
    this.#ctx = ctx;
    this.sections = {
      call: new CallSection(ctx), publish: new PublishSection(ctx),
      jobs: new JobsSection(ctx), status: new StatusSection(ctx),
    };
    this.notice = h("div.st-notice", { hidden: true, role: "status" });
    this.tabs = this.#makeTabs();
    this.badge = h("span.st-badge", { hidden: true });
    this.tabs.buttons.get("jobs").append(this.badge);
    this.dot = h("span.st-dot", { "aria-hidden": "true" });
    this.tabs.buttons.get("status").append(this.dot);
    this.element = h("div.st-root", { "aria-label": "Stateless API", role: "region" },
      h("header.st-header", {}, h("h3", {}, "Stateless API")),
      this.tabs.list, this.notice, Object.values(this.sections).map(({ element }) => element));
    this.#listen();
    this.tabs.show("call");
  }

  #makeTabs() {
    const labels = { call: "Call", publish: "Publish", jobs: "Jobs", status: "Status" };
    const tabs = Object.entries(labels).map(([id, label]) => ({ id, label, panel: this.sections[id].element }));
    return tabList("Stateless API", tabs, (id) => this.#show(id));
  }

  #listen() {
    const ctx = this.#ctx;
    ctx.addEventListener("health", () => this.#showHealth());
    ctx.addEventListener("active", () => {
      this.badge.hidden = !ctx.active;
      say(this.badge, ctx.active > 99 ? "99+" : ctx.active);
    });
    // Not every change of the graph is announced: coming here is a time to look.
    for (const event of ["pointerenter", "focusin"]) {
      this.element.addEventListener(event, () => ctx.current.look());
    }
  }

  /** Show the panel in ComfyUI's place for it. */
  open(place) {
    if (this.element.parentElement === place) return;
    place.replaceChildren(this.element);
    this.#isOpen = true;
    this.#ctx.feed.open();
    this.#ctx.checkHealth();
    this.#ctx.current.learnModels();
    this.sections[this.#shown]?.shown();
  }

  /** Be taken away: nothing is followed any more. */
  close() {
    this.#isOpen = false;
    this.sections[this.#shown]?.hidden();
    this.#ctx.feed.close();
    this.element.remove();
  }

  /** Go to a section. */
  choose(id) {
    this.tabs.show(id);
  }

  #show(id) {
    if (this.#shown === id) return;
    if (this.#isOpen) this.sections[this.#shown]?.hidden();
    this.#shown = id;
    if (this.#isOpen) this.sections[id].shown();
  }

  #showHealth() {
    const { health, feed } = this.#ctx;
    this.dot.dataset.ready = String(health.isReady);
    const isRefused = feed.error?.status === 401;
    const isMissing = feed.error && !isRefused && feed.state === "lost";
    const kind = isRefused ? "key" : health.isReady === false ? `${health.title}: ${health.reason}` : isMissing ? feed.error.message : "";
    if (kind === this.#notice) return;
    this.#notice = kind;
    this.notice.hidden = !kind;
    if (kind === "key") fill(this.notice, h("p", {}, "This server needs an API key."), keyForm(this.#ctx));
    else if (kind) fill(this.notice, h("p", {}, kind), button("Try again", () => feed.reopen(), { icon: "refresh" }));
  }
}
