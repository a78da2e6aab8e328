// A call in the language of one's choice, with a button that copies it.

import { button, h, say } from "./dom.js";
import { copyFrom } from "./copying.js";
import { checkbox } from "./fields.js";
import { LANGUAGES, snippet } from "./snippets.js";
import { tabList } from "./tabs.js";

const REMEMBERED = "comfyui-stateless.language";

export class SnippetView {
  #ctx;
  #call = null;
  #language = "curl";

  /** @param {object} ctx @param {() => Promise<void>} [before] brings the call up to date */
  constructor(ctx, before = async () => {}) {
    this.#ctx = ctx;
    this.before = before;
    this.code = h("pre.st-code.st-snippet", { tabindex: "0", role: "tabpanel" });
    this.copier = button("Copy", () => this.copy(), { icon: "copy", "aria-live": "polite" });
    const [withKey, box] = checkbox("Put the API key in", { on: { change: () => this.#show() } });
    this.box = box;
    this.withKey = withKey;
    const tabs = LANGUAGES.map(([id, label]) => ({ id, label }));
    const { list, show, buttons } = tabList("Language", tabs, (id) => this.#choose(id), "st-segments");
    this.#link(buttons);
    this.element = h("div.st-snippets", {}, h("div.st-bar-line", {}, list, this.copier), this.code, this.withKey);
    show(remembered());
    ctx.key.addEventListener("change", () => this.#show());
  }

  #link(buttons) {
    this.code.id = `${[...buttons.values()][0].id}-code`;
    for (const each of buttons.values()) each.setAttribute("aria-controls", this.code.id);
  }

  /** Show another call. @param {object|null} call as `snippet` takes it, without its key */
  set call(call) {
    this.#call = call;
    this.#show();
  }

  /** Copy the call as it is now. */
  async copy() {
    await this.before();
    return copyFrom(this.copier, this.text);
  }

  get text() {
    return this.#call ? snippet(this.#language, { ...this.#call, key: this.#key(this.box.checked) }) : "";
  }

  #key(isLiteral) {
    const key = this.#ctx.key.get();
    if (isLiteral && key) return { literal: key };
    return key || this.#ctx.needsKey ? {} : null;
  }

  #choose(language) {
    this.#language = language;
    try {
      localStorage.setItem(REMEMBERED, language);
    } catch {
      // It is curl again the next time.
    }
    this.code.setAttribute("aria-label", `The call in ${LANGUAGES.find(([id]) => id === language)[1]}`);
    this.#show();
  }

  #show() {
    this.withKey.hidden = !this.#ctx.key.get();
    say(this.code, this.text);
    this.copier.disabled = !this.#call;
  }
}

function remembered() {
  try {
    const language = localStorage.getItem(REMEMBERED);
    return LANGUAGES.some(([id]) => id === language) ? language : "curl";
  } catch {
    return "curl";
  }
}
