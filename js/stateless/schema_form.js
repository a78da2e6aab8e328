// A form made from the JSON Schema of an endpoint's input.

import { h } from "./dom.js";
import { field, numberInput, select, textArea, textInput } from "./fields.js";
import { isNumeric, typed } from "./endpoint.js";

/** @returns {{element: HTMLElement, read: () => object}} what is left empty is not in `read()` */
export function schemaForm(schema) {
  const required = new Set(schema?.required ?? []);
  const made = Object.entries(schema?.properties ?? {}).map(([name, said]) => {
    const { control, read } = controlFor(said ?? {}, required.has(name));
    return { name, read, element: field(required.has(name) ? `${name} *` : name, control, hintFor(said ?? {})) };
  });
  const element = h("div.st-stack", {}, made.length ? made.map((one) => one.element) : h("p.st-hint", {}, "It takes no input."));
  const read = () =>
    Object.fromEntries(made.map((one) => [one.name, one.read()]).filter(([, value]) => value !== undefined));
  return { element, read };
}

function controlFor(said, isRequired) {
  if (Array.isArray(said.enum) && said.enum.length) return choice(said, isRequired);
  if (said.type === "boolean") return yesOrNo(said);
  if (isNumeric(said.type)) return number(said, isRequired);
  const isPlain = said.type === "string" || said.type === undefined;
  const shown = said.default === undefined ? "" : typeof said.default === "string" ? said.default : JSON.stringify(said.default);
  const make = isPlain && shown.length <= 40 ? textInput : textArea;
  const control = make({ value: shown, required: isRequired });
  return { control, read: () => (isPlain ? textOf(control, isRequired) : jsonOf(control.value)) };
}

function textOf(control, isRequired) {
  return control.value === "" && !isRequired ? undefined : control.value;
}

function jsonOf(text) {
  if (text.trim() === "") return undefined;
  try {
    return JSON.parse(text);
  } catch {
    return text; // the server says what is wrong with it
  }
}

function choice(said, isRequired) {
  const options = said.enum.map((value, index) => [String(index), String(value)]);
  if (said.default === undefined && !isRequired) options.unshift(["", ""]);
  const control = select(options);
  const chosen = said.enum.indexOf(said.default);
  if (chosen >= 0) control.value = String(chosen);
  return { control, read: () => (control.value === "" ? undefined : said.enum[Number(control.value)]) };
}

function yesOrNo(said) {
  const control = select([["true", "Yes"], ["false", "No"]], { value: String(Boolean(said.default)) });
  return { control, read: () => control.value === "true" };
}

function number(said, isRequired) {
  const control = numberInput({
    value: said.default ?? "", min: said.minimum, max: said.maximum,
    step: said.type === "integer" ? "1" : "any", required: isRequired,
  });
  return { control, read: () => typed(control.value, said.type) };
}

function hintFor(said) {
  const { minimum: least, maximum: most } = said;
  const limits = [least !== undefined && `from ${least}`, most !== undefined && `to ${most}`].filter(Boolean);
  return [said.description, limits.join(" ")].filter(Boolean).join(" · ") || null;
}
