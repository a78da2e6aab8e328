// What went wrong, with the way to the node that it is about.

import { button, fill, h } from "./dom.js";
import { shortJson } from "./format.js";

/** The ids of the nodes that an error names, each with what is said of it. */
export function nodesOf(error) {
  const found = new Map();
  const details = error.details ?? {};
  for (const [id, said] of Object.entries(details.node_errors ?? {})) {
    const texts = (said.errors ?? []).map((one) => [one.message, one.details].filter(Boolean).join(": "));
    found.set(id, texts.join("; ") || said.class_type || "");
  }
  const named = details.node_id ?? error.node_id ?? nodeIn(error.location);
  if (named !== null && named !== undefined && !found.has(String(named))) found.set(String(named), "");
  return found;
}

function nodeIn(location) {
  return /^prompt\.([^.]+)(\.|$)/.exec(location ?? "")?.[1] ?? null;
}

/**
 * A box that shows an error.
 * @param {{message?: string, error?: string, code?: string, location?: string, details?: object}} error
 * @param {(id: string) => void} showNode
 */
export function errorBox(error, showNode) {
  const text = error.message ?? error.error ?? String(error);
  const place = [error.code, error.location].filter(Boolean).join(" · ");
  return h(
    "div.st-error",
    { role: "alert" },
    h("p.st-error-text", {}, text),
    place && h("p.st-error-code", {}, place),
    [...nodesOf(error)].map(([id, said]) => nodeLine(id, said, showNode)),
    detailsOf(error),
  );
}

function nodeLine(id, said, showNode) {
  return h("div.st-error-node", {}, nodeLink(id, showNode), said && h("span", {}, said));
}

/** A button that shows a node on the canvas. */
export function nodeLink(id, showNode) {
  return button(`Show node ${id}`, () => showNode(id), { kind: "link", icon: "arrow-up-right" });
}

function detailsOf(error) {
  const { node_errors: _shown, ...rest } = error.details ?? {};
  if (!Object.keys(rest).length) return null;
  return h("details.st-more", {}, h("summary", {}, "Details"), h("pre.st-code", { tabindex: "0" }, shortJson(rest)));
}

/** Put an error into a place for one, or take it away. */
export function showError(place, error, showNode) {
  if (error) fill(place, errorBox(error, showNode));
  else fill(place);
}
