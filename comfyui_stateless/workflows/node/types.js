"use strict";

// The exports of `../types` that exist when a file runs and that a workflow has a use for.

function isWorkflow(value) {
  return (
    value !== null &&
    typeof value === "object" &&
    "RequestSchema" in value &&
    "generateWorkflow" in value
  );
}

function makeTypes(z) {
  const ComfyNodeSchema = z.object({
    class_type: z.string(),
    inputs: z.any(),
    _meta: z.any().optional(),
  });
  const flag = (value) => z.boolean().optional().default(value);
  const count = (value) => z.number().optional().default(value);
  const JPEGOptionsSchema = z.object({
    quality: count(80),
    progressive: flag(false),
    chromaSubsampling: z.string().optional().default("4:2:0"),
    optimizeCoding: flag(true),
    mozjpeg: flag(false),
    trellisQuantisation: flag(false),
    overshootDeringing: flag(false),
    optimizeScans: flag(false),
    quantisationTable: count(0),
  });
  const WebpOptionsSchema = z.object({
    quality: z.number().int().optional().default(80),
    alphaQuality: z.number().int().optional().default(100),
    lossless: flag(false),
    nearLossless: flag(false),
    smartSubsample: flag(false),
    preset: z
      .enum(["default", "photo", "picture", "drawing", "icon", "text"])
      .optional()
      .default("default"),
    effort: z.number().int().min(0).max(6).optional().default(4),
  });
  return {
    ComfyNodeSchema,
    JPEGOptionsSchema,
    OutputConversionOptionsSchema: z.object({
      format: z.enum(["jpeg", "jpg", "webp"]),
      options: z.union([JPEGOptionsSchema, WebpOptionsSchema]).optional(),
    }),
    WebpOptionsSchema,
    WorkflowSchema: z.object({ RequestSchema: z.object({}), generateWorkflow: z.function() }),
    isWorkflow,
  };
}

module.exports = { makeTypes };
