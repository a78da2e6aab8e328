// The endpoint that is being made: its inputs, as the server takes them, and as a JSON Schema.

import { INPUT_NAME } from "./marks.js";

/** The types that an input may have. */
export const TYPES = [
  ["string", "Text"],
  ["integer", "Whole number"],
  ["number", "Number"],
  ["boolean", "Yes or no"],
];

const PATH = /^[A-Za-z0-9][\w.-]*(\/[A-Za-z0-9][\w.-]*)*$/;

/** What is wrong with a path, null for nothing. */
export function pathTrouble(path) {
  if (!path) return "Give the endpoint a name.";
  if (!PATH.test(path)) return "Letters, digits, - _ . and / for folders; no leading dot or slash.";
  return null;
}

/** What is wrong with an input, null for nothing. @param {Set<string>} others names of the others */
export function inputTrouble(input, others) {
  if (!INPUT_NAME.test(input.name)) return "A name is made of letters, digits and _, no digit first.";
  if (others.has(input.name)) return `There is another input named ${input.name}.`;
  const { minimum: least, maximum: most } = input;
  if (isNumber(least) && isNumber(most) && least > most) return "The minimum is above the maximum.";
  if (input.default === undefined || !isNumeric(input.type)) return null;
  if (isNumber(least) && input.default < least) return "The default is below the minimum.";
  return isNumber(most) && input.default > most ? "The default is above the maximum." : null;
}

/** An endpoint input for a graph's input, as a start. */
export function newInput(found, name) {
  const { node, input, type, value, minimum, maximum, choices, file, description } = found;
  const listed = choices?.length && !file && choices.length <= 100;
  return {
    name, node, input, type, minimum, maximum, description: description ?? "",
    default: value, isRequired: false,
    choices: listed ? choices.map(String).join("\n") : "",
  };
}

/** The inputs as `PUT /workflow/{path}` takes them. */
export function wireInputs(inputs) {
  return Object.fromEntries(inputs.map((input) => [input.name, wireInput(input)]));
}

function wireInput(input) {
  const said = { node: input.node, input: input.input, type: input.type };
  if (!input.isRequired && input.default !== undefined) said.default = input.default;
  if (isNumeric(input.type)) {
    if (isNumber(input.minimum)) said.minimum = input.minimum;
    if (isNumber(input.maximum)) said.maximum = input.maximum;
  }
  const choices = choicesOf(input);
  if (choices.length) said.enum = choices;
  if (input.description) said.description = input.description;
  return said;
}

/** An input of a published endpoint, as the form has it. */
export function formInput(name, said) {
  const place = said.node !== undefined ? said : (said.to?.[0] ?? {});
  return {
    name, node: String(place.node ?? ""), input: place.input ?? "", type: said.type ?? "string",
    minimum: said.minimum, maximum: said.maximum, description: said.description ?? "",
    default: said.default, isRequired: said.default === undefined,
    choices: (said.enum ?? []).map(String).join("\n"),
  };
}

/** The JSON Schema of an endpoint's `input`. */
export function endpointSchema(inputs) {
  const properties = Object.fromEntries(
    inputs.map((input) => {
      const { node: _node, input: _input, ...schema } = wireInput(input);
      return [input.name, schema];
    }),
  );
  const required = inputs.filter(({ isRequired }) => isRequired).map(({ name }) => name);
  return { type: "object", properties, ...(required.length ? { required } : {}) };
}

/** An `input` that fits a schema: its defaults, and something for what has none. */
export function exampleInput(schema) {
  const fallback = { string: "", integer: 0, number: 0, boolean: false };
  const entries = Object.entries(schema?.properties ?? {}).map(([name, said]) => [
    name, said.default ?? said.enum?.[0] ?? said.minimum ?? fallback[said.type] ?? null,
  ]);
  return Object.fromEntries(entries);
}

/** The choices of an input, in its type; those that are none in it are left out. */
export function choicesOf(input) {
  const lines = input.choices.split("\n").map((line) => line.trim()).filter(Boolean);
  if (!isNumeric(input.type)) return input.type === "string" ? lines : [];
  return lines.map(Number).filter(Number.isFinite);
}

/** A text as a value of a type; undefined where it is none. */
export function typed(text, type) {
  if (type === "boolean") return text === true || text === "true";
  if (type === "string") return String(text);
  if (String(text).trim() === "") return undefined;
  const value = Number(text);
  if (!Number.isFinite(value)) return undefined;
  return type === "integer" ? Math.round(value) : value;
}

export function isNumeric(type) {
  return type === "integer" || type === "number";
}

function isNumber(value) {
  return typeof value === "number" && Number.isFinite(value);
}
