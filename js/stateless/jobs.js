// The section Jobs: what the API does now and did last. Only what changes is touched.

import { fill, h, say } from "./dom.js";
import { moment } from "./format.js";
import { JobRow } from "./job_row.js";

const EMPTY = {
  open: ["No jobs yet", "Calls of the API appear here as they come."],
  connecting: ["Connecting…", ""],
  lost: ["Not connected", "Jobs appear here once the server answers."],
};

export class JobsSection {
  #ctx;
  #rows = new Map();
  #clock = null;
  // Thumbnails are fetched for the rows that somebody sees.
  #seen = new IntersectionObserver((entries) => entries.forEach((entry) => this.#see(entry)));

  constructor(ctx) {
    this.#ctx = ctx;
    this.list = h("ul.st-jobs", { "aria-label": "Jobs: those that run, that wait, that ended" });
    this.emptyTitle = h("p");
    this.emptyHint = h("p.st-hint");
    this.empty = h("div.st-blank", {}, h("i.pi.pi-inbox", { "aria-hidden": "true" }), this.emptyTitle, this.emptyHint);
    this.summary = h("p.st-summary", { role: "status" });
    this.notice = h("p.st-hint", { hidden: true });
    this.element = h("div.st-panel", { tabindex: "0" }, h("div.st-scroll", {}, this.summary, this.notice, this.empty, this.list));
    ctx.feed.addEventListener("jobs", ({ detail }) => this.#take(detail));
    ctx.feed.addEventListener("state", () => this.#showState());
    this.#summarize();
    this.#showState();
  }

  shown() {
    this.#clock ??= setInterval(() => this.#tick(), 1000);
    this.#tick();
  }

  hidden() {
    clearInterval(this.#clock);
    this.#clock = null;
  }

  #take({ all, runs }) {
    const { jobs } = this.#ctx.feed;
    if (all) {
      for (const run of this.#rows.keys()) if (!jobs.has(run)) this.#drop(run);
      for (const job of [...jobs.values()].sort(byAge)) this.#show(job);
    } else {
      for (const run of runs) {
        if (jobs.has(run)) this.#show(jobs.get(run));
        else this.#drop(run);
      }
    }
    this.#summarize();
  }

  #show(job) {
    const known = this.#rows.get(job.run);
    if (known) {
      known.update(job);
      this.#place(known);
      return;
    }
    const row = new JobRow(this.#ctx, job);
    this.#rows.set(job.run, row);
    this.#place(row);
    this.#seen.observe(row.element);
  }

  /** Put a row in its place; one that is there already is not touched. */
  #place(row) {
    const { element } = row;
    const isAbove = (other) => !other || !precedes(row, this.#rows.get(other.dataset.run));
    const isBelow = (other) => !other || !precedes(this.#rows.get(other.dataset.run), row);
    if (element.parentNode && isAbove(element.previousElementSibling) && isBelow(element.nextElementSibling)) return;
    let below = this.list.firstElementChild;
    while (below && (below === element || isAbove(below))) below = below.nextElementSibling;
    const focused = element.contains(document.activeElement) ? document.activeElement : null;
    this.list.insertBefore(element, below);
    focused?.focus({ preventScroll: true }); // moving an element takes the focus from it
  }

  #drop(run) {
    const row = this.#rows.get(run);
    if (!row) return;
    this.#seen.unobserve(row.element);
    row.remove();
    this.#rows.delete(run);
  }

  #summarize() {
    const states = [...this.#ctx.feed.jobs.values()].map(({ state }) => state);
    const running = states.filter((state) => state === "running" || state === "delivering").length;
    const waiting = states.filter((state) => state === "queued" || state === "preparing").length;
    this.empty.hidden = states.length > 0;
    const shown = states.length ? `${running} running · ${waiting} waiting · ${states.length - running - waiting} ended` : "";
    say(this.summary, shown);
    this.#ctx.active = running + waiting;
  }

  #showState() {
    const { feed } = this.#ctx;
    const isLost = feed.state === "lost" && feed.jobs.size > 0;
    this.notice.hidden = !isLost;
    if (isLost) fill(this.notice, "Not connected: this is how it was last.");
    // Only a server that has answered is known to have no jobs.
    const [title, hint] = EMPTY[feed.state] ?? EMPTY.connecting;
    say(this.emptyTitle, title);
    say(this.emptyHint, hint);
  }

  #see({ target, isIntersecting }) {
    const row = this.#rows.get(target.dataset.run);
    if (!row) return;
    row.isSeen = isIntersecting;
    if (isIntersecting) row.showPicture();
  }

  #tick() {
    const now = Date.now();
    for (const row of this.#rows.values()) row.tick(now);
  }
}

/** Whether one row stands above another: what runs, then what waits by its turn, then what ended last. */
function precedes(one, other) {
  const [place, order, age] = one.place;
  const [otherPlace, otherOrder, otherAge] = other.place;
  return (place - otherPlace || order - otherOrder || age - otherAge) < 0;
}

function byAge(one, other) {
  return moment(one.created) - moment(other.created);
}
