// The form of a request's options: conversion, upload, webhook and the like.

import { fill, h } from "./dom.js";
import { checkbox, field, numberInput, row, section, select, textInput } from "./fields.js";
import { FORMATS, NO_OPTIONS, UPLOADS } from "./request.js";

const ANSWERS = [
  ["json", "JSON"],
  ["zip", "ZIP archive"],
  ["file", "The only file"],
];

export class OptionsForm {
  /** @param {() => void} onChange */
  constructor(onChange) {
    this.options = { ...NO_OPTIONS, target: {} };
    this.onChange = () => {};
    this.details = h("div.st-row");
    this.target = h("div.st-stack");
    this.element = section("Options", this.#fields());
    this.#showFormat();
    this.#showUpload();
    this.onChange = onChange;
  }

  #fields() {
    const [embeds] = this.#box("Embed the workflow in the images", "embedsWorkflow");
    return [
      row(
        field("Answer", this.#choice(ANSWERS, "answer")),
        field("Image format", this.#choice(
          [["", "As saved"], ...Object.entries(FORMATS).map(([key, { label }]) => [key, label])],
          "format", () => this.#showFormat(),
        )),
      ),
      this.details,
      field("Upload to", this.#choice(
        [["", "Nowhere: return them"], ...Object.entries(UPLOADS).map(([key, { label }]) => [key, label])],
        "upload", () => this.#showUpload(),
      )),
      this.target,
      field("Webhook", this.#text("webhook", { type: "url", placeholder: "https://example.com/hook" }),
        "Gets one message at the end. The answer is then 202 at once."),
      row(field("Id", this.#text("id", { maxlength: "255", placeholder: "a new UUID" })),
        field("Timeout (s)", this.#number("timeout", { min: "0" })),
        field("Priority", this.#number("priority", { step: "1" }))),
      embeds,
    ];
  }

  #set(name, value) {
    this.options = { ...this.options, [name]: value };
    this.onChange();
  }

  #choice(options, name, then = () => {}) {
    const made = select(options, { value: this.options[name], on: {
      change: () => {
        this.#set(name, made.value);
        then();
      },
    } });
    return made;
  }

  #text(name, given) {
    return textInput({ ...given, on: { input: (event) => this.#set(name, event.target.value.trim()) } });
  }

  #number(name, given) {
    const read = ({ target }) => this.#set(name, target.value === "" ? null : target.valueAsNumber);
    return numberInput({ ...given, on: { input: read } });
  }

  #box(label, name) {
    return checkbox(label, { on: { change: (event) => this.#set(name, event.target.checked) } });
  }

  #showFormat() {
    const format = FORMATS[this.options.format];
    this.#set("quality", null);
    this.#set("lossless", false);
    this.#set("metadata", null);
    if (!format) return fill(this.details);
    const [metadata] = checkbox("Keep the workflow in the file", {
      checked: this.options.format === "png",
      on: { change: ({ target }) => this.#set("metadata", target.checked) },
    });
    return fill(
      this.details,
      format.quality !== null && field("Quality", this.#number("quality", { min: "1", max: "100", step: "1", placeholder: String(format.quality) })),
      h("div.st-stack", {}, format.isLossless && this.#box("Lossless", "lossless")[0], metadata),
    );
  }

  #showUpload() {
    const upload = UPLOADS[this.options.upload];
    this.options.target = {};
    if (!upload) return fill(this.target);
    const [waits] = checkbox("Wait for the upload, and answer with the URLs", {
      checked: this.options.waits, on: { change: ({ target }) => this.#set("waits", target.checked) },
    });
    return fill(this.target, h("div.st-group", {}, row(upload.fields.map((one) => this.#targetField(one))), waits));
  }

  #targetField([name, label, isRequired, choices]) {
    const given = {
      required: isRequired, "aria-required": String(isRequired),
      on: { input: ({ target }) => this.#set("target", { ...this.options.target, [name]: target.value }) },
    };
    return field(label, choices ? select([["", ""], ...choices.map((one) => [one, one])], given) : textInput(given));
  }
}
