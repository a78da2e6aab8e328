"use strict";

// Runs one workflow file on this thread: evaluates it once, then describes it and builds graphs.

const path = require("node:path");
const vm = require("node:vm");
const { SourceMap, createRequire, isBuiltin } = require("node:module");
const { parentPort, workerData } = require("node:worker_threads");
const { makeConfig } = require("./config");
const { describe } = require("./describe");
const { isOurs, neighbour } = require("./resolve");
const { LongTexts } = require("./texts");
const { makeTypes } = require("./types");

const { program, packages } = workerData;
const fromPackages = createRequire(path.join(packages, "package.json"));
const { z } = fromPackages("zod");
const MAX_REASON = 500;
const PLACE = /workflow:\/\/\/(\d+):(\d+):(\d+)/;
const MISSING =
  "there are zod, ../config, ../types, Node.js's own modules, files beside this one, and packages " +
  "in a node_modules folder beside it";
const names = Object.keys(program.modules);
const loaded = new Map();

// Seen by describe(): a default that is a function is made for each call, and is no fixed one.
const withDefault = z.ZodType.prototype.default;
z.ZodType.prototype.default = function (value) {
  const schema = withDefault.call(this, value);
  schema._def.isDrawn = typeof value === "function";
  return schema;
};
const config = makeConfig(z, program.surroundings);
const types = makeTypes(z);

// The frames of Node's own that an import goes through leave no room for the file's among ten.
Error.stackTraceLimit = 50;

/** Something a file does wrong that has no stack of its own. */
class Wrong extends Error {}

function importFrom(file, specifier) {
  const found = neighbour(file, specifier);
  if (isOurs(specifier) && (file === program.file || !found)) return ours(specifier);
  if (isBuiltin(specifier)) return require(specifier);
  if (/^zod(\/|$)/.test(specifier)) return fromPackages(specifier);
  if (found && found in program.modules) return run(found).exports;
  try {
    return createRequire(file)(found ?? specifier);
  } catch (error) {
    if (error.code !== "MODULE_NOT_FOUND" || !error.message.includes(`'${specifier}'`)) throw error;
    throw new Error(`cannot import ${specifier}: ${MISSING}`);
  }
}

function ours(specifier) {
  return specifier.includes("config")
    ? { __esModule: true, default: config }
    : { __esModule: true, ...types };
}

/** Evaluate a module once; `last` is the value of its last statement. */
function run(file) {
  if (loaded.has(file)) return loaded.get(file);
  const module = { exports: {}, filename: file, id: file };
  loaded.set(file, module);
  if (file.endsWith(".json")) {
    module.exports = JSON.parse(program.modules[file].code);
    return module;
  }
  const require = (specifier) => importFrom(file, specifier);
  require.resolve = createRequire(file).resolve;
  // As the original does: its files may end in an expression instead of exporting anything.
  const evaluate = vm.compileFunction("return eval(arguments[5])", [
    "exports",
    "require",
    "module",
    "__filename",
    "__dirname",
  ]);
  // By number: a name with a space in it is not taken.
  const code = `${program.modules[file].code}\n//# sourceURL=workflow:///${names.indexOf(file)}`;
  module.last = evaluate(module.exports, require, module, file, path.dirname(file), code);
  return module;
}

function workflowOf({ exports, last }) {
  const candidates = [exports?.default, exports?.default?.default, exports, last];
  const found = candidates.find(types.isWorkflow);
  if (!found) {
    throw new Wrong(
      "it exports no workflow: an object with RequestSchema and generateWorkflow, as its default",
    );
  }
  if (typeof found.RequestSchema?.safeParseAsync !== "function") {
    throw new Wrong("RequestSchema is no zod schema");
  }
  if (found.RequestSchema._def?.typeName === undefined) {
    throw new Wrong("RequestSchema is not of zod 3, as zod/v4's are: import it from zod");
  }
  if (typeof found.generateWorkflow !== "function") {
    throw new Wrong("generateWorkflow is no function");
  }
  return found;
}

let workflow;
let broken;
try {
  workflow = workflowOf(run(program.file));
} catch (error) {
  broken = failure(error);
}

async function use(question) {
  const texts = new LongTexts(question.mark, question.texts);
  const checked = await workflow.RequestSchema.safeParseAsync(texts.putBack(question.input));
  if (!checked.success) return { issues: JSON.stringify(checked.error.issues.map(issue)) };
  if (question.do === "check") return {};
  // Before the file's own code, which may change it.
  const input = texts.stringify(checked.data);
  const graph = await workflow.generateWorkflow(checked.data);
  checkGraph(graph);
  return { graph: texts.stringify(graph), input, texts: texts.more };
}

function issue({ path: where, message, unionErrors }) {
  const branches = (unionErrors ?? []).flatMap((error) => error.issues.map((i) => i.message));
  const reasons = [...new Set(branches)].join(", or: ");
  return { path: where, message: reasons ? `${message}: ${reasons}` : message };
}

function checkGraph(graph) {
  const isObject = (value) => value !== null && typeof value === "object" && !Array.isArray(value);
  if (!isObject(graph) || Object.keys(graph).length === 0) {
    throw new Wrong(`generateWorkflow returned no graph but ${JSON.stringify(graph) ?? "nothing"}`);
  }
  for (const [id, node] of Object.entries(graph)) {
    if (!isObject(node) || typeof node.class_type !== "string" || !isObject(node.inputs)) {
      throw new Wrong(`generateWorkflow returned a node ${id} without class_type or inputs`);
    }
  }
}

function failure(error) {
  if (error instanceof Wrong) return { reason: error.message };
  const isError = error !== null && typeof error === "object" && "message" in error;
  const reason = isError ? `${error.name ?? "Error"}: ${error.message}` : `${String(error)} was thrown`;
  const trace = String((isError && error.stack) || reason);
  // A message may be a whole document.
  return { reason: reason.replace(/\s+/g, " ").slice(0, MAX_REASON), ...placed(trace) };
}

/** Give a stack the names and lines of the files as they were written; say which comes first. */
function placed(trace) {
  let first;
  const lines = trace.split("\n").filter((text) => !text.includes(__dirname + path.sep));
  const mapped = lines.map((text) =>
    text.replace(PLACE, (_, index, line, column) => {
      const file = names[index];
      const place = { file, line: originally(file, Number(line), Number(column)) };
      first ??= place;
      return `${place.file}:${place.line}`;
    }),
  );
  return { ...first, trace: mapped.join("\n") };
}

function originally(file, line, column) {
  const { map } = program.modules[file];
  const entry = map && new SourceMap(map).findEntry(line - 1, column - 1);
  return entry?.originalLine === undefined ? line : entry.originalLine + 1;
}

async function reply(question) {
  if (broken) return { failed: JSON.stringify(broken) };
  try {
    if (question.do === "describe") {
      return { described: JSON.stringify(await describe(workflow, fromPackages)) };
    }
    return await use(question);
  } catch (error) {
    return { failed: JSON.stringify(failure(error)) };
  }
}

// Thrown by a timer, or a promise that nobody waits for: whose call that was cannot be told.
process.on("uncaughtException", (error) => {
  parentPort.postMessage({ crashed: failure(error) });
  process.exit(1);
});
parentPort.on("message", async ({ id, question }) => {
  parentPort.postMessage({ id, reply: await reply(question) });
});
