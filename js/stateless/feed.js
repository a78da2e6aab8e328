// What the API does, from one stream of events of all jobs: open while somebody looks.

const FIRST_WAIT_MS = 1000;
const LONGEST_WAIT_MS = 30_000;
const SILENCE_MS = 60_000;

/**
 * Events: `jobs` (detail: {all: boolean, runs: Set}), `status`, `state`.
 * `state` is "off", "connecting", "open" or "lost"; `error` says why it is lost.
 */
export class Feed extends EventTarget {
  jobs = new Map();
  status = null;
  state = "off";
  error = null;
  #client;
  #wanted = false;
  #stop = null;
  #again = null;
  #wait = FIRST_WAIT_MS;
  #dirty = { all: false, runs: new Set() };
  #frame = null;

  constructor(client) {
    super();
    this.#client = client;
    document.addEventListener("visibilitychange", () => this.#adjust());
  }

  /** Follow, until `close`. */
  open() {
    this.#wanted = true;
    this.#adjust();
  }

  close() {
    this.#wanted = false;
    this.#adjust();
  }

  /** Connect anew, as when there is another key. */
  reopen() {
    this.#disconnect();
    this.#wait = FIRST_WAIT_MS;
    this.#adjust();
  }

  #adjust() {
    const isWatched = this.#wanted && !document.hidden;
    if (isWatched && !this.#stop && !this.#again) this.#connect();
    if (!isWatched) this.#disconnect();
  }

  #disconnect() {
    clearTimeout(this.#again);
    this.#again = null;
    this.#stop?.abort();
    this.#stop = null;
    this.#enter("off");
  }

  async #connect() {
    const stop = (this.#stop = new AbortController());
    this.#enter("connecting", this.error);
    let error = null;
    try {
      await this.#follow(stop);
    } catch (caught) {
      error = caught;
    }
    if (this.#stop !== stop) return; // closed, or connected anew
    this.#stop = null;
    this.#lose(error);
  }

  async #follow(stop) {
    const watch = new Silence(SILENCE_MS, () => stop.abort());
    try {
      const options = { signal: stop.signal, onBytes: () => watch.heard() };
      for await (const event of this.#client.events("GET", "/events", undefined, options)) {
        if (this.#stop === stop) this.#take(event);
      }
    } finally {
      watch.end();
    }
  }

  #lose(error) {
    this.#enter("lost", error);
    // Without a key that fits, or without the route, there is nothing to try again soon.
    const isHopeless = [401, 403, 404, 405].includes(error?.status);
    const wait = isHopeless ? LONGEST_WAIT_MS * 2 : this.#wait * (0.75 + Math.random() / 2);
    this.#wait = Math.min(this.#wait * 2, LONGEST_WAIT_MS);
    this.#again = setTimeout(() => {
      this.#again = null;
      this.#adjust();
    }, wait);
  }

  #enter(state, error = null) {
    this.state = state;
    this.error = error;
    this.dispatchEvent(new Event("state"));
  }

  #take({ name, data }) {
    if (this.state !== "open") {
      this.#wait = FIRST_WAIT_MS;
      this.#enter("open");
    }
    if (name === "snapshot") this.#begin(data);
    if (name === "job") this.#job(data);
    if (name === "removed") this.#remove(data.run);
    if (name === "status") this.#statusIs(data);
  }

  #begin(data) {
    this.jobs = new Map(data.jobs.map((job) => [job.run, job]));
    this.#touch(null);
    this.#statusIs(data.status);
  }

  #job(job) {
    this.jobs.set(job.run, job);
    this.#touch(job.run);
  }

  #remove(run) {
    this.jobs.delete(run);
    this.#touch(run);
  }

  #statusIs(status) {
    this.status = status;
    this.dispatchEvent(new Event("status"));
  }

  /** Say once for each frame which jobs have changed, however many events came. */
  #touch(run) {
    if (run === null) this.#dirty.all = true;
    else this.#dirty.runs.add(run);
    this.#frame ??= requestAnimationFrame(() => {
      const detail = this.#dirty;
      this.#dirty = { all: false, runs: new Set() };
      this.#frame = null;
      this.dispatchEvent(new CustomEvent("jobs", { detail }));
    });
  }
}

/** Calls when nothing was heard for a time: a connection can be dead without anyone saying so. */
class Silence {
  #timer = null;

  constructor(afterMs, onSilence) {
    this.afterMs = afterMs;
    this.onSilence = onSilence;
    this.heard();
  }

  heard() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(this.onSilence, this.afterMs);
  }

  end() {
    clearTimeout(this.#timer);
  }
}
