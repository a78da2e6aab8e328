"use strict";

// What a workflow says of itself: its input as JSON Schema (2020-12), and its texts.

async function describe({ RequestSchema, summary, description }, fromPackages) {
  const { zodToJsonSchema } = fromPackages("zod-to-json-schema");
  const schema = zodToJsonSchema(RequestSchema, {
    $refStrategy: "none",
    pipeStrategy: "input",
    // What a schema strips it also takes.
    removeAdditionalStrategy: "strict",
    // Unlike the 2020-12 that it does not know, in tuples alone.
    target: "jsonSchema7",
    postProcess: withoutDrawn,
  });
  delete schema.$schema;
  return { schema: renewed(schema), summary: text(summary), description: text(description) };
}

function withoutDrawn(schema, definition) {
  if (schema && definition.isDrawn) delete schema.default;
  return schema;
}

const VALUES = new Set(["const", "default", "enum", "examples"]);
const NAMED = new Set(["$defs", "definitions", "patternProperties", "properties"]);

/** Write tuples as 2020-12 does; leave what is a value, not a schema, as it is. */
function renewed(schema) {
  if (Array.isArray(schema)) return schema.map(renewed);
  if (schema === null || typeof schema !== "object") return schema;
  // True is what it is anyway.
  if (schema.additionalProperties === true) delete schema.additionalProperties;
  const { items, additionalItems, ...rest } = mapped(schema, (value, keyword) => {
    if (VALUES.has(keyword)) return value;
    return NAMED.has(keyword) ? mapped(value, renewed) : renewed(value);
  });
  if (!Array.isArray(items)) return items === undefined ? rest : { ...rest, items };
  return { ...rest, prefixItems: items, ...(additionalItems && { items: additionalItems }) };
}

function mapped(object, change) {
  return Object.fromEntries(Object.entries(object).map(([k, value]) => [k, change(value, k)]));
}

function text(value) {
  return typeof value === "string" ? value : undefined;
}

module.exports = { describe };
