// What a call has brought: the files, how long each stage took, and the reply as it came.

import { button, fill, h, iconButton, safeLink, safeSource } from "./dom.js";
import { copyFrom } from "./copying.js";
import { bytes, duration, fileName, shortJson } from "./format.js";

const STAGES = [
  ["preprocess_time", "Inputs"],
  ["queue_time", "Queue"],
  ["comfy_round_trip_time", "ComfyUI"],
  ["postprocess_time", "Conversion"],
  ["upload_time", "Upload"],
];

/** Makes the views of replies; the files of the one before are let go. */
export class Result {
  #ctx;
  #urls = [];

  constructor(ctx) {
    this.#ctx = ctx;
  }

  /**
   * @param {{isAccepted: boolean, took: number, titles: Map<string, string>}} given isAccepted: the
   *   answer was 202; titles: of the nodes, by their ids
   */
  show(reply, { isAccepted, took, titles }) {
    for (const url of this.#urls.splice(0)) URL.revokeObjectURL(url);
    return h(
      "div.st-result",
      { role: "region", "aria-label": "Result" },
      h("h4", {}, isAccepted ? "Accepted" : `Done in ${duration(reply.stats?.total_time ?? took)}`),
      isAccepted && h("p.st-hint", {}, "The outputs go where you said; the Jobs tab shows how far it is."),
      this.#files(reply),
      (reply.texts ?? []).map(({ node_id, text }) => h("pre.st-code", { tabindex: "0", "aria-label": `Text of node ${node_id}` }, text)),
      timings(reply.stats, titles, (id) => this.#ctx.showNode(id)),
      this.#raw(reply),
    );
  }

  #files(reply) {
    const outputs = reply.outputs ?? [];
    if (!outputs.length) return null;
    return h("div.st-files", {}, outputs.map((output, index) => this.#file(output, reply.images?.[index])));
  }

  #file(output, data) {
    const address = this.#address(output, data);
    const size = output.width ? `${output.width} × ${output.height} · ` : "";
    return h(
      "figure.st-file",
      {},
      preview(output, address),
      h("figcaption", {}, h("span.st-file-name", { title: output.filename }, fileName(output.filename)),
        h("span.st-file-size", {}, size + bytes(output.size_bytes)),
        address && saveLink(output, address)),
    );
  }

  /** Where the page finds an output: the address of its upload, or of its bytes in this page. */
  #address(output, data) {
    if (typeof data !== "string") return null;
    if (/^https?:/i.test(data)) return safeLink(data);
    if (/^[a-z0-9]+:\/\//i.test(data)) return null;
    try {
      const content = Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
      // Only what cannot run as a page gets its own type.
      const isMedia = /^(image|video|audio)\//.test(output.media_type) && !/svg/.test(output.media_type);
      const url = URL.createObjectURL(new Blob([content], { type: isMedia ? output.media_type : "application/octet-stream" }));
      this.#urls.push(url);
      return url;
    } catch {
      return null;
    }
  }

  #raw(reply) {
    const code = h("pre.st-code", { tabindex: "0", "aria-label": "The reply as JSON" });
    const copyAll = button("Copy JSON", () => copyFrom(copyAll, JSON.stringify(reply, null, 2)), { icon: "copy" });
    const more = h("details.st-more", {}, h("summary", {}, "Raw JSON"), code, copyAll);
    more.addEventListener("toggle", () => {
      if (more.open && !code.textContent) fill(code, shortJson(reply));
    });
    return more;
  }
}

function preview(output, address) {
  const label = `Output of node ${output.node_id}`;
  if (safeSource(address)) {
    if (output.type === "image") return h("a", { href: address, target: "_blank", rel: "noopener" }, h("img", { src: address, alt: label, loading: "lazy" }));
    if (output.type === "video") return h("video", { src: address, controls: true, "aria-label": label });
    if (output.type === "audio") return h("audio", { src: address, controls: true, "aria-label": label });
  }
  return h("div.st-file-kind", {}, output.media_type);
}

function saveLink(output, address) {
  const name = fileName(output.filename);
  if (!address.startsWith("blob:")) return h("a.st-link", { href: address, target: "_blank", rel: "noopener noreferrer" }, "Open");
  return h("a.st-icon-link", { href: address, download: name, title: "Save", "aria-label": `Save ${name}` }, h("i.pi.pi-download", { "aria-hidden": "true" }));
}

/** How long each stage, and each node, took. */
function timings(stats, titles, showNode) {
  if (!stats) return null;
  const total = Math.max(1, stats.total_time ?? 0);
  const stages = STAGES.filter(([name]) => Number.isFinite(stats[name])).map(([name, label]) => timeRow(label, stats[name], total));
  const nodes = Object.entries(stats.comfy_execution?.nodes ?? {})
    .sort(([, one], [, other]) => tookOf(other) - tookOf(one))
    .map(([id, node]) => timeRow(nodeLabel(id, titles.get(id), showNode), node.cached ? null : tookOf(node), total));
  return h(
    "details.st-more",
    { open: true },
    h("summary", {}, "Timings"),
    h("div.st-times", {}, stages, nodes.length > 0 && h("div.st-times-head", {}, "Nodes"), nodes),
  );
}

function tookOf(node) {
  return node.cached ? -1 : node.end - node.start;
}

function nodeLabel(id, title, showNode) {
  const link = iconButton(`Show node ${id}`, "arrow-up-right", () => showNode(id));
  return h("span.st-time-node", {}, h("span", { title: `Node ${id}` }, title ?? `Node ${id}`), link);
}

function timeRow(label, ms, total) {
  const bar = h("span.st-time-bar", { "aria-hidden": "true" });
  if (ms !== null) bar.style.setProperty("--share", String(Math.min(1, ms / total)));
  return h("div.st-time", {}, h("span.st-time-label", {}, label), bar, h("span.st-time-value", {}, ms === null ? "cached" : duration(ms)));
}
