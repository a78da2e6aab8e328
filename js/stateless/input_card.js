// One input of the endpoint that is being made, with its name, type, default and limits.

import { fill, h, iconButton, say } from "./dom.js";
import { checkbox, field, numberInput, row, select, textArea, textInput } from "./fields.js";
import { inputTrouble, isNumeric, typed, TYPES } from "./endpoint.js";

export class InputCard {
  /**
   * @param {object} input is changed in place
   * @param {{title: string, others: () => Set<string>, onChange: () => void,
   *   onRename: () => void, onRemove: () => void, showNode: (id: string) => void}} given
   */
  constructor(input, given) {
    this.input = input;
    this.given = given;
    this.label = h("span.st-card-name", {}, input.name);
    this.trouble = h("p.st-field-error", { role: "alert" });
    this.limits = h("div.st-stack");
    this.element = this.#build();
    this.#showLimits();
  }

  #build() {
    const { input, given } = this;
    const where = `${given.title} · ${input.input}`;
    const remove = iconButton(`Remove ${input.name}`, "trash", given.onRemove);
    const goto = iconButton(`Show node ${input.node}`, "arrow-up-right", () => given.showNode(input.node));
    const summary = h("summary", {}, this.label, h("span.st-card-where", { title: where }, where));
    const body = h("div.st-body", {}, row(this.#name(), this.#kind()), this.limits, this.#text(), this.trouble);
    return h("li.st-card", {}, h("details", {}, summary, body), h("div.st-card-buttons", {}, goto, remove));
  }

  #name() {
    const made = textInput({ value: this.input.name, maxlength: "64", on: {
      input: () => {
        this.input.name = made.value.trim();
        say(this.label, this.input.name);
        this.#changed();
      },
      change: () => this.given.onRename(),
    } });
    return field("Name", made);
  }

  #kind() {
    const type = select(TYPES, { value: this.input.type, on: {
      change: () => {
        this.input.type = type.value;
        this.input.default = typed(this.input.default ?? "", type.value);
        this.#showLimits();
        this.#changed();
      },
    } });
    return field("Type", type);
  }

  #required() {
    const [wrapper, box] = checkbox("Required", { checked: this.input.isRequired, on: {
      change: () => {
        this.input.isRequired = box.checked;
        this.#showLimits();
        this.#changed();
        this.limits.querySelector("input[type=checkbox]").focus();
      },
    } });
    return wrapper;
  }

  #text() {
    const made = textInput({ value: this.input.description, on: {
      input: () => {
        this.input.description = made.value.trim();
        this.#changed();
      },
    } });
    return field("Description", made);
  }

  #showLimits() {
    const { type, isRequired } = this.input;
    const hasChoices = type === "enum" || type === "string" || this.input.choices !== "";
    fill(
      this.limits,
      row(
        !isRequired && field("Default", this.#default()),
        isNumeric(type) && field("Minimum", this.#limit("minimum")),
        isNumeric(type) && field("Maximum", this.#limit("maximum")),
      ),
      this.#required(),
      hasChoices && field("Choices, one a line", this.#choices(),
        type === "enum" ? "Empty: those that ComfyUI has." : "Empty: every text is taken."),
    );
  }

  #default() {
    const { input } = this;
    if (input.type === "boolean") return this.#yesOrNo();
    const make = isNumeric(input.type) ? numberInput : String(input.default ?? "").length > 40 ? textArea : textInput;
    const made = make({ value: String(input.default ?? ""), on: {
      input: () => {
        input.default = typed(made.value, input.type);
        this.#changed();
      },
    } });
    return made;
  }

  #yesOrNo() {
    const made = select([["true", "Yes"], ["false", "No"]], { value: String(Boolean(this.input.default)), on: {
      change: () => {
        this.input.default = made.value === "true";
        this.#changed();
      },
    } });
    return made;
  }

  #limit(name) {
    const made = numberInput({ value: this.input[name] ?? "", on: {
      input: () => {
        this.input[name] = made.value === "" ? undefined : made.valueAsNumber;
        this.#changed();
      },
    } });
    return made;
  }

  #choices() {
    const made = textArea({ value: this.input.choices, on: {
      input: () => {
        this.input.choices = made.value;
        this.#changed();
      },
    } });
    return made;
  }

  /** Say what is wrong with the input. @returns {boolean} whether anything is */
  check() {
    const trouble = inputTrouble(this.input, this.given.others());
    say(this.trouble, trouble ?? "");
    this.element.classList.toggle("st-wrong", trouble !== null);
    return trouble !== null;
  }

  #changed() {
    this.check();
    this.given.onChange();
  }
}
