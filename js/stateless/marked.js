// The endpoint as the open graph has it: marks in the titles of its nodes, and what goes with them
// in the workflow itself, so that both are saved with it.

import { newInput, TYPES } from "./endpoint.js";
import { canMark, freeName, INPUT_NAME, marksOf, withMark, withoutMark } from "./marks.js";

/** An endpoint that nobody has said anything of yet. */
export function noEndpoint() {
  return { path: "", summary: "", description: "", inputs: [] };
}

/**
 * Read the endpoint of a graph.
 * @param {object|null} kept what the workflow holds, as `keptOf` gives it
 * @param {object} graph in the API format, with the titles
 * @param {Array<object>} found the graph's inputs, as `inputsOf` gives them
 */
export function readEndpoint(kept, graph, found) {
  const endpoint = { ...noEndpoint(), ...texts(kept) };
  const remembered = Object.entries(isObject(kept?.inputs) ? kept.inputs : {});
  const marked = marksIn(graph, found);
  for (const [name, said] of remembered) {
    const input = find(found, placeOf(said, marked.get(name)));
    if (input) endpoint.inputs.push({ ...newInput(input, name), ...details(said) });
    marked.delete(name);
  }
  for (const [name, [place]] of marked) endpoint.inputs.push(newInput(find(found, place), name));
  return endpoint;
}

/** What the workflow keeps of an endpoint, null for nothing. */
export function keptOf({ path, summary, description, inputs }) {
  if (!path && !summary && !description && !inputs.length) return null;
  const entries = inputs.map(({ name, ...rest }) => [name, { ...rest, default: rest.default ?? null }]);
  return { path, summary, description, inputs: Object.fromEntries(entries) };
}

/** Where an input is: where the workflow says, if marks agree or cannot say it, else at its mark. */
function placeOf(said, marked = []) {
  const kept = isObject(said) ? said : {};
  const isKept = ({ node, input }) => node === kept.node && input === kept.input;
  if (marked.length) return marked.find(isKept) ?? marked[0];
  return canMark(String(kept.input ?? "")) ? null : kept;
}

/**
 * The titles that nodes need for the marks to be those of `inputs`; other nodes are left alone.
 * A node of a subgraph that is used twice has two ids, and one title.
 * @param {(id: string) => {title: string}|null} nodeOf the node that has an id
 */
export function titlesFor(inputs, graph, nodeOf) {
  const titles = new Map();
  for (const [{ title: before }, ids] of idsByNode(graph, nodeOf)) {
    const [id] = ids;
    const node = graph[id];
    const marked = placesIn(node, before);
    const own = inputs.filter((one) => ids.includes(one.node) && canMark(one.input) && INPUT_NAME.test(one.name));
    if (own.length === marked.size && own.every(({ name, input }) => marked.get(name) === input)) continue;
    const bare = [...marked.keys()].reduce(withoutMark, before);
    const isOnly = values(node).length === 1;
    titles.set(id, own.reduce((title, { name, input }) => withMark(title, name, isOnly ? null : input), bare));
  }
  return titles;
}

/** A name for another input. */
export function nameFor(widget, inputs) {
  return freeName(widget, new Set(inputs.map(({ name }) => name)));
}

/** The ids that each node of the graph has. @returns {Map<object, string[]>} */
function idsByNode(graph, nodeOf) {
  const nodes = new Map();
  for (const id of Object.keys(graph)) {
    const node = nodeOf(id);
    if (node) nodes.set(node, [...(nodes.get(node) ?? []), id]);
  }
  return nodes;
}

/** The inputs that the marks of a graph name. @returns {Map<string, Array<{node: string, input: string}>>} */
function marksIn(graph, found) {
  const marked = new Map();
  for (const [node, said] of Object.entries(graph)) {
    for (const [name, input] of placesIn(said, said._meta?.title)) {
      if (find(found, { node, input })) marked.set(name, [...(marked.get(name) ?? []), { node, input }]);
    }
  }
  return marked;
}

/** The inputs that the marks in a node's title name. @returns {Map<string, string>} */
function placesIn(node, title) {
  const all = values(node);
  const places = marksOf(title).map(({ name, widget }) => [name, widget ?? (all.includes(name) ? name : all[0])]);
  return new Map(places.filter(([, input]) => all.includes(input)));
}

/** The names of a node's inputs that are values. */
function values(node) {
  return Object.entries(node.inputs).filter(([, value]) => typeof value !== "object").map(([name]) => name);
}

function find(found, place) {
  return found.find(({ node, input }) => node === place?.node && input === place?.input) ?? null;
}

// A workflow may come from anywhere: what it holds has to have the right types.
function texts(kept) {
  const given = isObject(kept) ? kept : {};
  const isText = ([key, value]) => ["path", "summary", "description"].includes(key) && typeof value === "string";
  return Object.fromEntries(Object.entries(given).filter(isText));
}

const DETAILS = {
  type: (value) => TYPES.some(([type]) => type === value),
  minimum: (value) => Number.isFinite(value),
  maximum: (value) => Number.isFinite(value),
  description: (value) => typeof value === "string",
  choices: (value) => typeof value === "string",
  isRequired: (value) => typeof value === "boolean",
  rest: isObject,
  default: (value) => value === null || ["string", "number", "boolean"].includes(typeof value),
};

function details(said) {
  const given = isObject(said) ? said : {};
  // What is not said has no limit, nor a default: it does not come back from the node's definition.
  const entries = Object.keys(DETAILS)
    .filter((key) => key === "minimum" || key === "maximum" || DETAILS[key](given[key]))
    .map((key) => [key, DETAILS[key](given[key]) ? (given[key] ?? undefined) : undefined]);
  return Object.fromEntries(entries);
}

function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
