"use strict";

// The default export of `../config`: the fields of the original's, as far as they mean something
// here. Secrets are not in this process at all, and what needs them is empty.

const path = require("node:path");

const yes = (value, otherwise) => (value ?? otherwise).toLowerCase() === "true";
const number = (value, otherwise) => Number(value || otherwise);

function makeConfig(z, surroundings) {
  const env = process.env;
  return {
    ...ofComfyUI(z, surroundings, env),
    ...ofServer(env),
    ...ofWebhooks(env),
    awsRegion: env.AWS_REGION ?? env.AWS_DEFAULT_REGION ?? null,
    azureStorageAccount: env.AZURE_STORAGE_ACCOUNT ?? null,
    azureStorageConnectionString: null,
    azureStorageKey: null,
    azureStorageSasToken: null,
    cacheDir: env.CACHE_DIR || path.join(env.HOME ?? "", ".cache/comfyui-api"),
    httpAuthHeader: {},
    lruCacheSizeBytes: number(env.LRU_CACHE_SIZE_GB, 0) * 1024 ** 3,
    manifest: null,
    saladMetadata: salad(env),
    workflowDir: env.WORKFLOW_DIR || "/workflows",
  };
}

function ofComfyUI(z, surroundings, env) {
  const comfyDir = env.COMFY_HOME || "/opt/ComfyUI";
  const modelDir = env.MODEL_DIR || path.join(comfyDir, "models");
  const comfyHost = env.DIRECT_ADDRESS || "127.0.0.1";
  const comfyPort = env.COMFYUI_PORT_HOST || "8188";
  return {
    comfyDir,
    comfyHost,
    comfyPort,
    comfyURL: `http://${comfyHost}:${comfyPort}`,
    comfyWSURL: `ws://${comfyHost}:${comfyPort}/ws`,
    inputDir: env.INPUT_DIR || path.join(comfyDir, "input"),
    modelDir,
    models: Object.fromEntries(
      Object.entries(surroundings.models).map(([folder, all]) => [
        folder,
        { dir: path.join(modelDir, folder), all, enum: z.enum(all) },
      ]),
    ),
    outputDir: env.OUTPUT_DIR || path.join(comfyDir, "output"),
    samplers: z.enum(surroundings.samplers),
    schedulers: z.enum(surroundings.schedulers),
    warmupCkpt: surroundings.warmup_checkpoint ?? undefined,
  };
}

function ofServer(env) {
  const wrapperPort = number(env.PORT, 3000);
  return {
    alwaysRestartComfyUI: yes(env.ALWAYS_RESTART_COMFYUI, "false"),
    logLevel: (env.LOG_LEVEL || "info").toLowerCase(),
    markdownSchemaDescriptions: yes(env.MARKDOWN_SCHEMA_DESCRIPTIONS, "true"),
    maxBodySize: number(env.MAX_BODY_SIZE_MB, 100) * 1024 ** 2,
    maxQueueDepth: number(env.MAX_QUEUE_DEPTH, 0),
    prependFilenames: yes(env.PREPEND_FILENAMES, "true"),
    selfURL: `http://localhost:${wrapperPort}`,
    wrapperHost: env.HOST || "::",
    wrapperPort,
  };
}

function ofWebhooks(env) {
  const meta = Object.entries(env).filter(([name]) => name.startsWith("SYSTEM_META_"));
  return {
    promptWebhookRetries: number(env.PROMPT_WEBHOOK_RETRIES, 3),
    systemMetaData: Object.fromEntries(
      meta.map(([name, value]) => [name.slice("SYSTEM_META_".length), value]),
    ),
    systemWebhook: "",
    systemWebhookEvents: (env.SYSTEM_WEBHOOK_EVENTS ?? "").split(",").filter(Boolean),
  };
}

/** SaladCloud's variables as an object, null where there are none. */
function salad(env) {
  const names = {
    organizationName: "SALAD_ORGANIZATION_NAME",
    organizationId: "SALAD_ORGANIZATION_ID",
    projectName: "SALAD_PROJECT_NAME",
    projectId: "SALAD_PROJECT_ID",
    containerGroupName: "SALAD_CONTAINER_GROUP_NAME",
    containerGroupId: "SALAD_CONTAINER_GROUP_ID",
    instanceId: "SALAD_INSTANCE_ID",
    machineId: "SALAD_MACHINE_ID",
  };
  const found = Object.entries(names).map(([field, name]) => [field, env[name]]);
  return found.some(([, value]) => value !== undefined) ? Object.fromEntries(found) : null;
}

module.exports = { makeConfig };
