// What a graph's inputs are: of which type, within which limits, and whether they are files.

const MODEL_FILE = /\.(safetensors|sft|ckpt|pth?|bin|gguf|onnx|pkl)$/i;
const MODEL_INPUT =
  /^(ckpt|lora|vae|unet|clip|control_net|style_model|gligen|model|upscale_model|hypernetwork)\w*_name\d*$|^(clip_name\d|model_name)$/;
const MEDIA_INPUT = /^(image|video|audio|file)$/;

/**
 * Every input of a graph that is a value, not a link.
 * @param {object} graph in the API format
 * @param {(classType: string) => object|null} definition what ComfyUI says of a class
 * @param {Record<string, string[]>} models the files of each model folder
 * @returns {Array<object>} node, input, title, value, kind, and `media` or `model` for files
 */
export function inputsOf(graph, definition, models = {}) {
  const known = new Set(Object.values(models).flat());
  return Object.entries(graph).flatMap(([node, said]) => {
    const defined = specs(definition(said.class_type));
    return Object.entries(said.inputs)
      .filter(([, value]) => isValue(value))
      .map(([input, value]) => {
        const spec = defined[input];
        return {
          node, input, value, classType: said.class_type,
          title: said._meta?.title || said.class_type,
          file: fileKind(input, value, spec, known),
          ...described(spec, value),
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
  if (Object.keys(options).some((key) => /(^|_)upload$/.test(key) && options[key])) return "media";
  const choices = choicesOf(spec);
  if (choices && (known.has(value) || MODEL_FILE.test(value))) return "model";
  if (choices && !choices.length && MODEL_INPUT.test(input)) return "model";
  return MEDIA_INPUT.test(input) && !choices ? "media" : null;
}

/** The values that a combo has, in either of ComfyUI's two forms; null for what is none. */
function choicesOf(spec) {
  if (Array.isArray(spec?.[0])) return spec[0];
  return spec?.[0] === "COMBO" ? (spec[1]?.options ?? []) : null;
}

/** The type and limits that an endpoint's input begins with. */
function described(spec, value) {
  const options = spec?.[1] ?? {};
  const choices = choicesOf(spec);
  if (choices) return { type: typeOf(choices[0] ?? value), choices };
  const types = { INT: "integer", FLOAT: "number", BOOLEAN: "boolean", STRING: "string" };
  return {
    type: types[spec?.[0]] ?? typeOf(value),
    minimum: safeLimit(options.min),
    maximum: safeLimit(options.max),
    isLong: Boolean(options.multiline),
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
