// The endpoint that is being made: its inputs, as the server takes them, and as a JSON Schema.

import { INPUT_NAME } from "./marks.js";

/** The types that an input may have. */
export const TYPES = [
  ["string", "Text"],
  ["integer", "Whole number"],
  ["number", "Number"],
  ["boolean", "Yes or no"],
  ["seed", "Seed, drawn if left out"],
  ["enum", "Choice"],
  ["image", "Image"],
  ["mask", "Mask"],
  ["video", "Video"],
  ["audio", "Sound"],
  ["file", "File"],
  ["model", "Model, by name or URL"],
];

const NUMERIC = new Set(["integer", "number", "seed"]);
const JSON_TYPES = { integer: "integer", seed: "integer", number: "number", boolean: "boolean" };

const PART = /^[A-Za-z0-9]([A-Za-z0-9 ._-]*[A-Za-z0-9_-])?$/;
const ENDING = /\.(json|ya?ml|py|js|ts)$/i;

/** What is wrong with a path, null for nothing. */
export function pathTrouble(path) {
  if (!path) return "Give the endpoint a name.";
  if (ENDING.test(path)) return "The name is without an ending such as .json.";
  const isGood = path.split("/").every((part) => PART.test(part));
  return isGood ? null : "Letters, digits, spaces, - _ . and / for folders; each part begins with a letter or digit.";
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
  const { node, input, type, value, minimum, maximum, description } = found;
  return {
    name, node, input, type, minimum, maximum, description: description ?? "",
    default: type === "seed" ? undefined : value, isRequired: false, choices: "", rest: {},
  };
}

/** The inputs as `PUT /workflow/{path}` takes them. */
export function wireInputs(inputs) {
  return Object.fromEntries(inputs.map((input) => [input.name, wireInput(input)]));
}

function wireInput(input) {
  const place = input.rest.to ? {} : { node: input.node, ...(input.input && { input: input.input }) };
  const said = { ...place, ...input.rest, type: input.type, ...limits(input) };
  if (input.isRequired) said.required = true;
  else if (input.default !== undefined) said.default = input.default;
  if (input.description) said.description = input.description;
  return said;
}

function limits(input) {
  const said = {};
  if (isNumeric(input.type) && isNumber(input.minimum)) said.minimum = input.minimum;
  if (isNumeric(input.type) && isNumber(input.maximum)) said.maximum = input.maximum;
  const choices = choicesOf(input);
  return choices.length ? { ...said, enum: choices } : said;
}

/** An input of a published endpoint, as the form has it; what it has no field for is kept. */
export function formInput(name, said) {
  const {
    node, input, type = "string", minimum, maximum, description = "", default: value,
    required = false, enum: choices = [], ...rest
  } = said;
  const place = rest.to?.[0] ?? { node, input };
  return {
    name, node: String(place.node ?? ""), input: place.input ?? "", type, minimum, maximum,
    description, default: value, isRequired: required, choices: choices.map(String).join("\n"), rest,
  };
}

/**
 * The JSON Schema of an endpoint's `input`, as far as it is known here.
 * @param {(input: object) => Array|undefined} offered what ComfyUI offers for an input
 */
export function endpointSchema(inputs, offered = () => undefined) {
  const properties = Object.fromEntries(inputs.map((input) => [input.name, property(input, offered(input))]));
  const required = inputs.filter(({ isRequired }) => isRequired).map(({ name }) => name);
  return { type: "object", properties, required, additionalProperties: false };
}

function property(input, offered) {
  const said = { type: JSON_TYPES[input.type] ?? "string", ...limits(input) };
  if (input.type === "enum" && !said.enum && offered?.length) said.enum = offered;
  if (input.type === "enum" && said.enum && !said.enum.every((one) => typeof one === "string")) delete said.type;
  if (!input.isRequired && input.default !== undefined) said.default = input.default;
  if (input.description) said.description = input.description;
  return said;
}

/** An `input` that fits a schema: its defaults, and something for what has to be said. */
export function exampleInput(schema) {
  const fallback = { string: "", integer: 0, number: 0, boolean: false };
  const required = new Set(schema?.required ?? []);
  const entries = Object.entries(schema?.properties ?? {})
    .filter(([name, said]) => required.has(name) || said.default !== undefined)
    .map(([name, said]) => [
      name, said.default ?? said.examples?.[0] ?? said.enum?.[0] ?? said.minimum ?? fallback[said.type] ?? null,
    ]);
  return Object.fromEntries(entries);
}

/** The choices of an input, in its type; those that are none in it are left out. */
export function choicesOf(input) {
  const lines = input.choices.split("\n").map((line) => line.trim()).filter(Boolean);
  if (isNumeric(input.type)) return lines.map(Number).filter(Number.isFinite);
  if (input.type === "boolean") return [];
  return input.type === "enum" && typeof input.default === "number" ? lines.map(Number).filter(Number.isFinite) : lines;
}

/** A text as a value of a type; undefined where it is none. */
export function typed(text, type) {
  if (type === "boolean") return text === true || text === "true";
  if (!isNumeric(type)) return String(text);
  if (String(text).trim() === "") return undefined;
  const value = Number(text);
  if (!Number.isFinite(value)) return undefined;
  return type === "number" ? value : Math.round(value);
}

export function isNumeric(type) {
  return NUMERIC.has(type);
}

function isNumber(value) {
  return typeof value === "number" && Number.isFinite(value);
}
