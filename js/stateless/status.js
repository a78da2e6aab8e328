// The section Status: how the server is, what it fetches, and what it could not deliver.

import { addressLine, keyForm } from "./access.js";
import { fill, h, mark, say } from "./dom.js";
import { ago, bytes, duration, percent } from "./format.js";
import { section } from "./fields.js";
import { progressBar, setProgress } from "./progress.js";

const ROWS = [
  ["queue", "Queue"],
  ["cache", "Cache"],
  ["webhooks", "Webhooks due"],
  ["publish", "Publishing"],
  ["version", "Version"],
  ["comfyui", "ComfyUI"],
];

const UNKNOWN = "Not known: the server has not answered.";

export class StatusSection {
  #ctx;
  #values = new Map();
  #downloads = new Map();

  constructor(ctx) {
    this.#ctx = ctx;
    this.verdict = h("div.st-verdict", { role: "status" });
    this.facts = h("dl.st-facts", {}, ROWS.map(([key, label]) => this.#fact(key, label)));
    this.downloads = h("ul.st-list", { "aria-label": "Downloads" });
    this.noDownloads = h("p.st-hint");
    this.webhooks = h("ul.st-list", { "aria-label": "Failed webhooks" });
    this.noWebhooks = h("p.st-hint");
    this.links = h("ul.st-links");
    this.element = this.#build();
    ctx.addEventListener("health", () => this.#show());
    ctx.addEventListener("address", () => this.#showLinks());
    this.#show();
    this.#showLinks();
  }

  #fact(key, label) {
    const value = h("dd", {}, "–");
    this.#values.set(key, value);
    return [h("dt", {}, label), value];
  }

  #build() {
    const open = { open: true };
    return h("div.st-panel", {}, h("div.st-scroll", {},
      this.verdict, this.facts,
      section("Downloads", [this.noDownloads, this.downloads], open),
      section("Failed webhooks", [this.noWebhooks, this.webhooks], open),
      section("Access", [h("p.st-label", {}, "Address"), addressLine(this.#ctx), keyForm(this.#ctx)], open),
      section("Documentation", [this.links], open)));
  }

  shown() {
    this.#ctx.checkHealth();
  }

  hidden() {}

  /** Whether the server has said how it is. */
  get #isKnown() {
    return this.#ctx.feed.status !== null;
  }

  #show() {
    const { health } = this.#ctx;
    const status = this.#ctx.feed.status ?? {};
    this.#showVerdict(health);
    const says = {
      queue: queueText(status.queue), cache: cacheText(status.cache), webhooks: webhookText(status.webhooks),
      publish: { true: "Allowed", false: "Off" }[this.#ctx.mayPublish],
      version: status.version ?? health.version, comfyui: status.comfyui_version,
    };
    for (const [key, value] of this.#values) say(value, says[key] ?? "–");
    this.#showDownloads(status.downloads ?? []);
    this.#showWebhooks(status.webhooks?.failures ?? []);
  }

  #showVerdict({ isReady, title, reason }) {
    const shape = isReady === null ? "spinner pi-spin" : isReady ? "check-circle" : "exclamation-circle";
    const key = `${title}${reason}`;
    mark(this.verdict, "data-ready", String(isReady));
    if (this.verdict.dataset.key === key) return;
    this.verdict.dataset.key = key;
    fill(this.verdict, h("i", { class: `pi pi-${shape}`, "aria-hidden": "true" }),
      h("div", {}, h("p.st-verdict-title", {}, title), reason && h("p.st-verdict-reason", {}, reason)));
  }

  #showDownloads(downloads) {
    this.noDownloads.hidden = downloads.length > 0;
    say(this.noDownloads, this.#isKnown ? "Nothing is being fetched." : UNKNOWN);
    const present = new Set(downloads.map(({ url, folder }) => `${folder} ${url}`));
    for (const [key, { element }] of this.#downloads) {
      if (!present.has(key)) {
        element.remove();
        this.#downloads.delete(key);
      }
    }
    for (const download of downloads) this.#showDownload(download);
  }

  #showDownload({ url, folder, bytes: done, total, rate }) {
    const key = `${folder} ${url}`;
    let shown = this.#downloads.get(key);
    if (!shown) {
      const name = String(url ?? "").split(/[?#]/)[0].split("/").pop() || String(url);
      const bar = progressBar(`Download of ${name}`);
      const text = h("span.st-download-text");
      const head = h("div.st-download-head", {}, h("span.st-download-name", { title: url }, name), h("span.st-hint", {}, folder));
      shown = { bar, text, element: h("li.st-download", {}, head, bar, text) };
      this.#downloads.set(key, shown);
      this.downloads.append(shown.element);
    }
    const share = total ? done / total : null;
    setProgress(shown.bar, share);
    const size = total ? `${bytes(done)} of ${bytes(total)} · ${percent(share)}` : bytes(done);
    say(shown.text, rate ? `${size} · ${bytes(rate)}/s` : size);
  }

  #showWebhooks(webhooks) {
    this.noWebhooks.hidden = webhooks.length > 0;
    say(this.noWebhooks, this.#isKnown ? "No message has failed." : UNKNOWN);
    const key = JSON.stringify(webhooks);
    if (this.webhooks.dataset.key === key) return;
    this.webhooks.dataset.key = key;
    fill(this.webhooks, webhooks.map((one) => {
      const said = [one.error, one.attempts && `${one.attempts} ${one.attempts === 1 ? "try" : "tries"}`, one.at && ago(one.at)].filter(Boolean);
      return h("li.st-item", {}, h("div.st-item-main", {}, h("span.st-webhook-url", { title: one.url }, one.url),
        h("p.st-hint", {}, said.join(" · "))));
    }));
  }

  #showLinks() {
    const base = this.#ctx.host.address;
    const to = (href, label) => h("li", {}, h("a.st-link", { href, target: "_blank", rel: "noopener noreferrer" }, label, h("i.pi.pi-external-link", { "aria-hidden": "true" })));
    fill(this.links, to(`${base}/docs`, "All routes, to try out"), to(`${base}/openapi.json`, "OpenAPI document"));
  }
}

function queueText(queue) {
  if (!queue) return undefined;
  const text = `${queue.running} running · ${Math.max(0, queue.depth - queue.running)} waiting`;
  return queue.limit ? `${text} · limit ${queue.limit}` : text;
}

function cacheText(cache) {
  if (!Number.isFinite(cache?.bytes)) return undefined;
  const used = cache.limit_bytes ? `${bytes(cache.bytes)} of ${bytes(cache.limit_bytes)}` : bytes(cache.bytes);
  return `${used} · ${cache.files} ${cache.files === 1 ? "file" : "files"}`;
}

function webhookText(webhooks) {
  if (!Number.isFinite(webhooks?.due)) return undefined;
  return webhooks.due ? `${webhooks.due}, the oldest for ${duration(webhooks.oldest_due_s * 1000)}` : "None";
}
