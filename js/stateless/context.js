// What the sections share: the server, the graph, and how things stand.

import { ApiError, Client } from "./client.js";
import { CurrentGraph } from "./current.js";
import { Feed } from "./feed.js";
import { Key } from "./key.js";

export const ADDRESS_SETTING = "StatelessAPI.Address";

/** Events: `address` (calls look different), `health`, `active` (how many jobs are under way). */
export class Context extends EventTarget {
  health = { isReady: null, title: "Connecting…", reason: "", version: undefined };
  needsKey = false;
  #active = 0;

  constructor(host) {
    super();
    this.host = host;
    this.key = new Key();
    this.client = new Client((path, options) => host.fetch(path, options), this.key);
    this.feed = new Feed(this.client);
    this.current = new CurrentGraph(this);
    this.feed.addEventListener("state", () => this.#connectionChanged());
    this.feed.addEventListener("status", () => this.#statusChanged());
    this.key.addEventListener("change", () => this.feed.reopen());
  }

  /** Where others call the API: what the setting says, else as this page does. */
  get address() {
    const said = String(this.host.setting(ADDRESS_SETTING) ?? "").trim().replace(/\/+$/, "");
    return /^https?:\/\//i.test(said) ? said : this.host.address;
  }

  /** Whether the server lets clients publish; null where it has not said. */
  get mayPublish() {
    return this.feed.status?.publish ?? null;
  }

  get active() {
    return this.#active;
  }

  set active(count) {
    if (count === this.#active) return;
    this.#active = count;
    this.dispatchEvent(new Event("active"));
  }

  /** Show a node on the canvas, or say that it is not in the open graph. */
  showNode(id) {
    if (!this.host.showNode(id)) this.host.toast("warn", `Node ${id} is not in the open graph.`);
  }

  /** An address for a thumbnail, fetched as everything else: with the key where one is needed. */
  async picture(path) {
    if (!/^jobs\/[\w-]+\/thumbnail$/.test(path)) throw new Error(`${path} is none of ours`);
    const response = await this.client.call("GET", `/${path}`);
    return URL.createObjectURL(await response.blob());
  }

  /** Ask the server how it is. */
  async checkHealth() {
    try {
      this.#setHealth(await this.client.get("/ready"));
    } catch (error) {
      if (error instanceof ApiError && error.status === 503) this.#setHealth(error.body);
      else this.#set({ isReady: false, title: "Not available", reason: error.message });
    }
  }

  #setHealth({ status, reason, version }) {
    const isReady = status === "ready";
    this.#set({ isReady, title: isReady ? "Ready" : "Not ready", reason: reason ?? "", version });
  }

  #statusChanged() {
    const { ready: isReady, reason, version } = this.feed.status;
    this.#set({ isReady, title: isReady ? "Ready" : "Not ready", reason: reason ?? "", version });
  }

  #connectionChanged() {
    const { state, error } = this.feed;
    this.needsKey = error?.status === 401 || Boolean(this.key.get());
    if (state === "open" || state === "lost") this.dispatchEvent(new Event("address"));
    if (state === "lost") this.checkHealth();
    this.dispatchEvent(new Event("health"));
  }

  #set(health) {
    this.health = { ...this.health, ...health };
    this.dispatchEvent(new Event("health"));
  }
}
