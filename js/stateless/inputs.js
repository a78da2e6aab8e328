// What a graph's inputs are: of which type, within which limits, and whether they are files.

import { plainTitle } from "./marks.js";

const MODEL_FILE = /\.(safetensors|sft|ckpt|pth?|bin|gguf|onnx|pkl)$/i;
const MODEL_INPUT =
  /^(ckpt|lora|vae|unet|clip|control_net|style_model|gligen|model|upscale_model|hypernetwork)\w*_name\d*$|^(clip_name\d|model_name)$/;
const SEED = /^(noise_)?seed$/;
const MEDIA = ["image", "video", "audio", "file"];

/**
 * Every input of a graph that is a value, not a link.
 * @param {object} graph in the API format
 * @param {(classType: string) => object|null} definition what ComfyUI says of a class
 * @param {Record<string, string[]>} models the files of each model folder
 * @returns {Array<object>} node, input, title, value, type, limits, and of which kind of `file`
 */
export function inputsOf(graph, definition, models = {}) {
  const known = new Set(Object.values(models).flat());
  return Object.entries(graph).flatMap(([node, said]) => {
    const defined = specs(definition(said.class_type));
    return Object.entries(said.inputs)
      .filter(([, value]) => isValue(value))
      .map(([input, value]) => {
        const spec = defined[input];
        const file = fileKind(input, value, spec, known);
        return {
          node, input, value, file, title: plainTitle(said._meta?.title) || said.class_type,
          ...described(input, spec, value, file),
        };
      });
  });
}

/** Those that name files, and so may be URLs. */
export function fileInputs(inputs) {
  return inputs.filter(({ file }) => file);
}

function isValue(value) {
  return value !== null && ["string", "number", "boolean"].includes(typeof value);
}

function specs(definition) {
  const given = definition?.input ?? {};
  return { ...given.optional, ...given.required };
}

function fileKind(input, value, spec, known) {
  if (typeof value !== "string") return null;
  const options = spec?.[1] ?? {};
  const upload = Object.keys(options).find((key) => /(^|_)upload$/.test(key) && options[key]);
  if (upload) return MEDIA.find((kind) => upload.includes(kind)) ?? "file";
  const choices = choicesOf(spec);
  if (choices && (known.has(value) || MODEL_FILE.test(value))) return "model";
  if (choices && !choices.length && MODEL_INPUT.test(input)) return "model";
  return MEDIA.includes(input) && !choices ? input : null;
}

/** The values that a combo has, in either of ComfyUI's two forms; null for what is none. */
function choicesOf(spec) {
  if (Array.isArray(spec?.[0])) return spec[0];
  return spec?.[0] === "COMBO" ? (spec[1]?.options ?? []) : null;
}

/** The type and limits that an endpoint's input begins with. */
function described(input, spec, value, file) {
  const options = spec?.[1] ?? {};
  const choices = choicesOf(spec);
  if (file) return { type: file, choices };
  if (choices) return { type: "enum", choices };
  if (spec?.[0] === "INT" && SEED.test(input)) return { type: "seed" };
  const types = { INT: "integer", FLOAT: "number", BOOLEAN: "boolean", STRING: "string" };
  return {
    type: types[spec?.[0]] ?? typeOf(value),
    minimum: safeLimit(options.min),
    maximum: safeLimit(options.max),
    description: typeof options.tooltip === "string" ? options.tooltip : undefined,
  };
}

function typeOf(value) {
  if (typeof value === "number") return Number.isInteger(value) ? "integer" : "number";
  return typeof value === "boolean" ? "boolean" : "string";
}

/** A limit that a JavaScript number holds: 2^64 - 1, the limit of seeds, is none of them. */
function safeLimit(limit) {
  return Number.isFinite(limit) && Math.abs(limit) <= Number.MAX_SAFE_INTEGER ? limit : undefined;
}
