"use strict";

// Turns a workflow file, and the neighbours that it imports, into CommonJS, without checking types.

const fs = require("node:fs");
const path = require("node:path");
const vm = require("node:vm");
const { createRequire } = require("node:module");
const { parentPort, workerData } = require("node:worker_threads");
const { isOurs, neighbour } = require("./resolve");

const fromPackages = createRequire(path.join(workerData.packages, "package.json"));
const ts = fromPackages("typescript");

/** Wrong text in a file: `reason`, and the `line` of `file`, counted from 1. */
class Wrong extends Error {
  constructor(file, reason, line) {
    super(reason);
    Object.assign(this, { file, line });
  }
}

function transpiled(entry) {
  const modules = {};
  const open = [entry];
  while (open.length) {
    const file = open.pop();
    if (file in modules) continue;
    const source = fs.readFileSync(file, "utf8").replace(/^\uFEFF|^#!.*/, "");
    if (file.endsWith(".json")) {
      modules[file] = { code: source };
      continue;
    }
    const parsed = ts.preProcessFile(source, true, true);
    modules[file] = converted(file, source);
    for (const { fileName } of parsed.importedFiles) {
      if (file === entry && isOurs(fileName)) continue;
      const found = neighbour(file, fileName);
      if (found) open.push(found);
    }
  }
  return modules;
}

function converted(file, source) {
  if (/\.[cm]?js$/.test(file) && !usesModuleSyntax(file, source)) {
    return { code: checked(file, source) };
  }
  const result = ts.transpileModule(source, {
    fileName: file,
    reportDiagnostics: true,
    compilerOptions: {
      allowJs: true,
      esModuleInterop: true,
      module: ts.ModuleKind.CommonJS,
      sourceMap: true,
      target: ts.ScriptTarget.ES2022,
    },
  });
  const [wrong] = result.diagnostics.filter((d) => d.category === ts.DiagnosticCategory.Error);
  if (wrong) {
    const text = ts.flattenDiagnosticMessageText(wrong.messageText, " ");
    const line = wrong.file && wrong.file.getLineAndCharacterOfPosition(wrong.start).line + 1;
    throw new Wrong(file, text, line);
  }
  const code = result.outputText.replace(/\n?\/\/# sourceMappingURL=.*\s*$/, "\n");
  return { code, map: JSON.parse(result.sourceMapText) };
}

function usesModuleSyntax(file, source) {
  const parsed = ts.createSourceFile(file, source, ts.ScriptTarget.ESNext, false);
  return ts.isExternalModule(parsed);
}

function checked(file, source) {
  try {
    new vm.Script(source, { filename: file });
  } catch (error) {
    const line = /^.*:(\d+)$/m.exec(error.stack.split("\n")[0]);
    throw new Wrong(file, `${error.name}: ${error.message}`, line ? Number(line[1]) : undefined);
  }
  return source;
}

function reply({ file }) {
  try {
    return { modules: transpiled(file) };
  } catch (error) {
    return { failed: { reason: error.message, file: error.file, line: error.line } };
  }
}

parentPort.on("message", ({ id, question }) => parentPort.postMessage({ id, reply: reply(question) }));
