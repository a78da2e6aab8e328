// Calls as source text, to be pasted and run. Whatever the values are, they stay values.

const ENVIRONMENT = "STATELESS_API_KEY";

// Unseen in a page, but not in a terminal (DEL and the C1 controls act as keys there), and marks
// that make text read in another order than it runs.
const UNSEEN = /[\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

const escaped = (found) => `\\u${found.charCodeAt(0).toString(16).padStart(4, "0")}`;

/** A value as JSON whose every character can be seen. */
export function visibleJson(value) {
  return JSON.stringify(value, null, 2).replace(UNSEEN, escaped);
}

/**
 * A call in one of LANGUAGES.
 * @param {string} language
 * @param {{url: string, body: object, answer?: "json"|"zip"|"file", isAsync?: boolean,
 *   file?: string, key?: {literal?: string}|null}} call `key` null: none is needed; without a
 *   literal it is read from the environment
 */
export function snippet(language, call) {
  return WRITERS[language]({ answer: "json", key: null, file: "output", ...call });
}

export const LANGUAGES = [
  ["curl", "curl"],
  ["python", "Python"],
  ["javascript", "JavaScript"],
];

const WRITERS = { curl, python, javascript };

const ACCEPT = { zip: "application/zip", file: "application/octet-stream" };

/** The name of the file that an answer other than JSON is written to. */
function fileOf(call) {
  return call.answer === "zip" ? `${call.file}.zip` : `${call.file}.${call.extension ?? "png"}`;
}

// -- curl

function curl(call) {
  const lines = [`curl -sS ${shell(call.url)}`, "-H 'Content-Type: application/json'"];
  if (ACCEPT[call.answer] && !call.isAsync) {
    lines.push(`-H 'Accept: ${ACCEPT[call.answer]}'`, `--fail-with-body -o ${shell(fileOf(call))}`);
  }
  if (call.key) lines.push(`-H ${shellHeader(call.key)}`);
  lines.push("--data-binary @- <<'JSON'");
  // Nothing is special in this here-document, save that zsh takes an exclamation mark for a
  // reference to its history even here.
  const json = visibleJson(call.body).replaceAll("!", "\\u0021");
  return `${lines.join(" \\\n  ")}\n${json}\nJSON\n`;
}

function shellHeader(key) {
  if (key.literal === undefined) return `"X-API-Key: $${ENVIRONMENT}"`;
  return shell(`X-API-Key: ${key.literal}`);
}

/** A text as one word of a POSIX shell. */
export function shell(text) {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

// -- Python

function python(call) {
  const imports = call.isAsync || call.answer !== "json" ? [] : ["base64"];
  if (call.key && call.key.literal === undefined) imports.push("os");
  if (call.answer === "json" && !call.isAsync) imports.push("pathlib");
  return [
    ...imports.map((name) => `import ${name}`),
    ...(imports.length ? [""] : []),
    "import requests",
    "",
    `BODY = ${pythonLiteral(call.body)}`,
    "",
    "response = requests.post(",
    `    ${pythonText(call.url)},`,
    ...pythonHeaders(call),
    "    json=BODY,",
    ")",
    "if not response.ok:",
    "    raise SystemExit(response.text)",
    ...pythonEnd(call),
    "",
  ].join("\n");
}

function pythonHeaders(call) {
  const headers = [];
  if (ACCEPT[call.answer] && !call.isAsync) headers.push(`"Accept": "${ACCEPT[call.answer]}"`);
  if (call.key) {
    const { literal } = call.key;
    const value = literal === undefined ? `os.environ["${ENVIRONMENT}"]` : pythonText(literal);
    headers.push(`"X-API-Key": ${value}`);
  }
  return headers.length ? [`    headers={${headers.join(", ")}},`] : [];
}

function pythonEnd(call) {
  if (call.isAsync) return ["print(response.json())"];
  if (call.answer !== "json") {
    const name = pythonText(fileOf(call));
    return [`with open(${name}, "wb") as file:`, "    file.write(response.content)"];
  }
  return [
    "reply = response.json()",
    'for name, data in zip(reply["filenames"], reply["images"]):',
    '    if data.startswith(("http://", "https://", "s3://")):  # uploaded',
    "        print(data)",
    "    else:",
    "        file = pathlib.Path(pathlib.Path(name).name)  # here, without its folders",
    "        file.write_bytes(base64.b64decode(data))",
  ];
}

/** A text as a Python literal: what JSON escapes, Python reads the same way. */
function pythonText(text) {
  return visibleJson(text);
}

/** A JSON value as a Python literal. */
export function pythonLiteral(value, indent = "") {
  if (value === null || value === undefined) return "None";
  if (typeof value === "boolean") return value ? "True" : "False";
  if (typeof value === "number") return Number.isFinite(value) ? String(value) : "None";
  if (typeof value === "string") return pythonText(value);
  return Array.isArray(value) ? pythonList(value, indent) : pythonDict(value, indent);
}

function pythonList(items, indent) {
  if (items.every((item) => typeof item !== "object" || item === null)) {
    return `[${items.map((item) => pythonLiteral(item)).join(", ")}]`;
  }
  const inner = `${indent}    `;
  return `[\n${items.map((item) => `${inner}${pythonLiteral(item, inner)},\n`).join("")}${indent}]`;
}

function pythonDict(object, indent) {
  const entries = Object.entries(object).filter(([, value]) => value !== undefined);
  if (!entries.length) return "{}";
  const inner = `${indent}    `;
  const lines = entries.map(
    ([key, value]) => `${inner}${pythonText(key)}: ${pythonLiteral(value, inner)},\n`,
  );
  return `{\n${lines.join("")}${indent}}`;
}

// -- JavaScript

function javascript(call) {
  const isFiles = !call.isAsync;
  return [
    "// Node.js 18 or newer, as a module: call.mjs",
    ...(isFiles ? ['import { writeFile } from "node:fs/promises";'] : []),
    ...(isFiles && call.answer === "json" ? ['import { basename } from "node:path";'] : []),
    ...(isFiles ? [""] : []),
    `const body = ${scriptLiteral(call.body)};`,
    "",
    `const response = await fetch(${scriptLiteral(call.url)}, {`,
    '  method: "POST",',
    `  headers: ${scriptHeaders(call)},`,
    "  body: JSON.stringify(body),",
    "});",
    "if (!response.ok) throw new Error(await response.text());",
    ...scriptEnd(call),
    "",
  ].join("\n");
}

function scriptHeaders(call) {
  const headers = ['"Content-Type": "application/json"'];
  if (ACCEPT[call.answer] && !call.isAsync) headers.push(`Accept: "${ACCEPT[call.answer]}"`);
  if (call.key) {
    const { literal } = call.key;
    const value = literal === undefined ? `process.env.${ENVIRONMENT}` : scriptLiteral(literal);
    headers.push(`"X-API-Key": ${value}`);
  }
  return `{ ${headers.join(", ")} }`;
}

function scriptEnd(call) {
  if (call.isAsync) return ["console.log(await response.json());"];
  if (call.answer !== "json") {
    const name = scriptLiteral(fileOf(call));
    return [`await writeFile(${name}, Buffer.from(await response.arrayBuffer()));`];
  }
  return [
    "const reply = await response.json();",
    "for (const [index, data] of reply.images.entries()) {",
    "  if (/^(https?|s3):/.test(data)) console.log(data); // uploaded",
    '  else await writeFile(basename(reply.filenames[index]), Buffer.from(data, "base64"));',
    "}",
  ];
}

/** A JSON value as a JavaScript literal. */
function scriptLiteral(value) {
  // In a literal this one name would set the prototype.
  return visibleJson(value).replace(/(?<!\\)"__proto__":/g, '["__proto__"]:');
}
