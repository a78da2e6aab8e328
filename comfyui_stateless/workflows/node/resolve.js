"use strict";

// What an import in a workflow file means.

const fs = require("node:fs");
const path = require("node:path");

const ENDINGS = ["", ".ts", ".js", ".cts", ".cjs", ".mts", ".mjs", ".json", "/index.ts", "/index.js"];
const OURS = /^\.\.\/(config|types)(\.[jt]s)?$/;

/** Whether an import means `../config` or `../types`, as seen from the original's own folder. */
function isOurs(specifier) {
  return OURS.test(specifier);
}

/** Return the file that a relative import in `file` means, undefined if there is none. */
function neighbour(file, specifier) {
  if (!/^\.{1,2}(\/|$)/.test(specifier)) return undefined;
  const wanted = path.resolve(path.dirname(file), specifier);
  // TypeScript's sources are imported under the name that they will have as JavaScript.
  const source = wanted.replace(/\.([cm]?)js$/, ".$1ts");
  return [...ENDINGS.map((ending) => wanted + ending), source].find(isFile);
}

function isFile(name) {
  return fs.statSync(name, { throwIfNoEntry: false })?.isFile() ?? false;
}

module.exports = { isOurs, neighbour };
