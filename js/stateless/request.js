// The open graph, and what the form says, as a request.

export const FORMATS = {
  jpeg: { label: "JPEG", quality: 80, isLossless: false },
  webp: { label: "WebP", quality: 80, isLossless: true },
  png: { label: "PNG", quality: null, isLossless: false },
  avif: { label: "AVIF", quality: 50, isLossless: true },
};

/** Where outputs can go: the field of the request, and those inside it: [name, label, required, choices]. */
export const UPLOADS = {
  s3: {
    label: "S3 bucket",
    fields: [["bucket", "Bucket", true], ["prefix", "Prefix", false]],
  },
  azure_blob_upload: {
    label: "Azure container",
    fields: [["container", "Container", true], ["blob_prefix", "Prefix", false]],
  },
  hf_upload: {
    label: "Hugging Face repository",
    fields: [
      ["repo", "Repository", true], ["repo_type", "Type", false, ["model", "dataset"]],
      ["revision", "Revision", false], ["directory", "Folder", false],
    ],
  },
  http_upload: { label: "HTTP PUT", fields: [["url_prefix", "URL prefix", true]] },
};

/** What the form says before anyone has touched it. */
export const NO_OPTIONS = Object.freeze({
  id: "", answer: "json", format: "", quality: null, lossless: false, metadata: null,
  upload: "", target: {}, waits: true, webhook: "", timeout: null, priority: null,
  embedsWorkflow: false,
});

/**
 * Build the body of `POST /prompt`.
 * @param {object} graph in the API format
 * @param {Map<string, string>} urls `inputKey` of an input → what it gets instead
 * @param {object} options as NO_OPTIONS
 * @param {object} [workflow] the same in the editor's format, for those who want it in the images
 */
export function requestBody(graph, urls, options, workflow) {
  const body = { prompt: withUrls(graph, urls), ...optionFields(options) };
  if (options.embedsWorkflow && workflow) {
    body.extra_data = { extra_pnginfo: { workflow } };
  }
  return body;
}

/** The fields of a request beside its graph. */
export function optionFields(options) {
  const body = {};
  if (options.id) body.id = options.id;
  if (options.format) body.convert_output = conversion(options);
  if (options.upload) body[options.upload] = target(options);
  if (options.webhook) body.webhook_v2 = options.webhook;
  if (options.timeout > 0) body.timeout_s = options.timeout;
  if (Number.isInteger(options.priority) && options.priority) body.priority = options.priority;
  return body;
}

/** Whether the answer to such a request is 202. */
export function isAsync(options) {
  return Boolean(options.webhook) || Boolean(options.upload && !options.waits);
}

function conversion({ format, quality, lossless, metadata }) {
  const options = {};
  if (quality !== null && FORMATS[format].quality !== null) options.quality = quality;
  if (lossless && FORMATS[format].isLossless) options.lossless = true;
  if (metadata !== null) options.metadata = metadata;
  return Object.keys(options).length ? { format, options } : { format };
}

function target({ upload, target: given, waits }) {
  const said = UPLOADS[upload].fields
    .map(([name]) => [name, given[name]?.trim()])
    .filter(([, value]) => value);
  return { ...Object.fromEntries(said), async: !waits };
}

/** The name of a node's input in a Map. */
export function inputKey(node, input) {
  return JSON.stringify([node, input]);
}

function withUrls(graph, urls) {
  const made = {};
  for (const [id, { class_type, inputs }] of Object.entries(graph)) {
    const given = Object.entries(inputs).map(
      ([name, value]) => [name, urls.get(inputKey(id, name)) || value],
    );
    made[id] = { class_type, inputs: Object.fromEntries(given) };
  }
  return made;
}
