// The section Call: the open graph as a request, to be copied or sent.

import { OptionsForm } from "./call_form.js";
import { button, fill, h, icon, say } from "./dom.js";
import { showError } from "./errors.js";
import { section, textInput } from "./fields.js";
import { fileInputs } from "./inputs.js";
import { inputKey, isAsync, requestBody, UPLOADS } from "./request.js";
import { Run } from "./runs.js";
import { SnippetView } from "./snippet_view.js";

export class CallSection {
  #ctx;
  #urls = new Map();
  #shownFiles = "";

  constructor(ctx) {
    this.#ctx = ctx;
    this.form = new OptionsForm(() => this.#show());
    this.run = new Run(ctx);
    this.snippets = new SnippetView(ctx, () => ctx.current.refresh());
    this.files = h("div.st-stack");
    this.fileCount = h("span.st-count");
    this.fileSection = section("Inputs by URL", this.files, { hidden: true });
    this.fileSection.querySelector("summary").append(this.fileCount);
    this.trouble = h("div");
    this.sender = button("Send", () => this.send(), { kind: "primary", icon: "send" });
    this.element = this.#build();
    ctx.current.addEventListener("change", () => this.#show());
    ctx.addEventListener("address", () => this.#show());
  }

  #build() {
    this.empty = h("p.st-empty", {}, "The graph is empty. Open a workflow, and its request appears here.");
    this.body = h("div.st-stack", {}, this.snippets.element, this.fileSection, this.form.element, this.run.outcome);
    return h("div.st-panel", {},
      h("div.st-scroll", {}, this.trouble, this.empty, this.body),
      h("div.st-footer", {}, this.run.progress, this.sender));
  }

  shown() {
    this.#ctx.current.watch(true);
  }

  hidden() {
    this.#ctx.current.watch(false);
  }

  /** The request as it is now. */
  get request() {
    const { graph, workflow } = this.#ctx.current;
    return requestBody(graph, this.#urls, this.form.options, workflow);
  }

  /** Run the open graph through the API. */
  async send() {
    if (this.run.isRunning) return;
    await this.#ctx.current.refresh();
    const lacking = this.#lacking();
    if (lacking) {
      this.#ctx.host.toast("warn", lacking);
      return;
    }
    this.sender.disabled = true;
    const { options } = this.form;
    await this.run.send("/prompt", this.request, { isAsync: isAsync(options), titles: this.#ctx.current.titles });
    this.sender.disabled = false;
  }

  #lacking() {
    const { upload, target } = this.form.options;
    const field = UPLOADS[upload]?.fields.find(([name, , isRequired]) => isRequired && !target[name]?.trim());
    return field ? `The upload needs: ${field[1]}` : null;
  }

  /** The request as curl, for the command; brings it up to date first. */
  async copy() {
    await this.#ctx.current.refresh();
    return this.snippets.text;
  }

  #show() {
    const { current } = this.#ctx;
    const isEmpty = !Object.keys(current.graph).length;
    this.empty.hidden = !isEmpty;
    this.body.hidden = isEmpty;
    this.sender.disabled = isEmpty || this.run.isRunning;
    showError(this.trouble, current.error && { message: `The graph cannot be exported: ${current.error.message}` });
    this.#showFiles(fileInputs(current.inputs));
    const { options } = this.form;
    this.snippets.call = isEmpty ? null : {
      url: `${this.#ctx.address}/prompt`, body: this.request, answer: options.answer,
      isAsync: isAsync(options), extension: options.format || "png",
    };
  }

  #showFiles(files) {
    const key = JSON.stringify(files);
    if (key === this.#shownFiles) return;
    this.#shownFiles = key;
    const present = new Set(files.map(({ node, input }) => inputKey(node, input)));
    for (const one of this.#urls.keys()) if (!present.has(one)) this.#urls.delete(one);
    this.fileSection.hidden = !files.length;
    say(this.fileCount, files.length);
    fill(this.files, h("p.st-hint", {}, "Files that lie on this server. Give a URL for what the caller brings."),
      files.map((file) => this.#fileField(file)));
  }

  #fileField(file) {
    const key = inputKey(file.node, file.input);
    const input = textInput({
      type: "url", value: this.#urls.get(key) ?? "", placeholder: file.file === "model" ? "https://huggingface.co/…" : "https://…, s3://… or data:",
      "aria-label": `URL for ${file.input} of ${file.title}, now ${file.value}`,
      on: { input: () => {
        if (input.value.trim()) this.#urls.set(key, input.value.trim());
        else this.#urls.delete(key);
        this.#show();
      } },
    });
    return h("div.st-field", {},
      h("div.st-file-label", {},
        icon(file.file === "model" ? "box" : "image"),
        h("span.st-file-title", {}, `${file.title} · ${file.input}`),
        h("span.st-file-value", { title: String(file.value) }, String(file.value) || "none")),
      input);
  }
}
