// The API key. It is a secret: it stays in this browser and is never one of ComfyUI's settings,
// which lie in a file on the server.

const NAME = "comfyui-stateless.api-key";

export class Key extends EventTarget {
  #stores;
  #value = null;

  /** @param {Storage} session for this tab @param {Storage} local for this browser */
  constructor(session = globalThis.sessionStorage, local = globalThis.localStorage) {
    super();
    this.#stores = { session, local };
  }

  get() {
    return this.#value ?? read(this.#stores.session) ?? read(this.#stores.local) ?? "";
  }

  get isRemembered() {
    return Boolean(read(this.#stores.local));
  }

  /** Keep a key for this tab, or for this browser; an empty one forgets it. */
  set(value, { remember = false } = {}) {
    // What a header cannot hold would make every call fail in a way that nobody understands.
    const key = value.trim().replace(/[^\x21-\x7e]/g, "");
    this.#value = key;
    write(this.#stores.session, remember ? "" : key);
    write(this.#stores.local, remember ? key : "");
    this.dispatchEvent(new Event("change"));
  }
}

// A browser may refuse storage altogether: the key then lasts as long as the page.
function read(storage) {
  try {
    return storage?.getItem(NAME) || null;
  } catch {
    return null;
  }
}

function write(storage, value) {
  try {
    if (value) storage?.setItem(NAME, value);
    else storage?.removeItem(NAME);
  } catch {
    // As above.
  }
}
