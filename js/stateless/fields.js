// Labelled form fields.

import { h, newId } from "./dom.js";

/** A label above a control, with a hint below it. Returns the wrapper. */
export function field(label, control, hint) {
  control.id ||= newId();
  const hintId = hint ? newId() : null;
  if (hintId) control.setAttribute("aria-describedby", hintId);
  return h(
    "div.st-field",
    {},
    h("label", { for: control.id }, label),
    control,
    hint && h("p.st-hint", { id: hintId }, hint),
  );
}

/** A line of text. */
export function textInput(given = {}) {
  return h("input.st-input", { type: "text", autocomplete: "off", spellcheck: "false", ...given });
}

/** A number, or nothing. */
export function numberInput(given = {}) {
  return h("input.st-input", { type: "number", step: "any", autocomplete: "off", ...given });
}

/** Several lines of text. */
export function textArea(given = {}) {
  return h("textarea.st-input", { rows: "2", spellcheck: "false", ...given });
}

/** A choice. @param {Array<[string, string]>} options value and label of each */
export function select(options, given = {}) {
  const { value, ...rest } = given;
  const made = h("select.st-input", rest, options.map(([key, label]) => h("option", { value: key }, label)));
  if (value !== undefined) made.value = value;
  return made;
}

/** A box to tick, with its label behind it. Returns [wrapper, box]. */
export function checkbox(label, given = {}) {
  const box = h("input", { type: "checkbox", id: newId(), ...given });
  return [h("div.st-check", {}, box, h("label", { for: box.id }, label)), box];
}

/** A part that can be folded away. */
export function section(title, children, given = {}) {
  return h("details.st-section", given, h("summary", {}, h("span", {}, title)), h("div.st-body", {}, children));
}

/** Several fields beside each other. */
export function row(...fields) {
  return h("div.st-row", {}, fields);
}
