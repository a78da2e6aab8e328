// The entries of a node's context menu: its values, each to be made an input of the endpoint.

/**
 * @param {(node: string, input: string) => void} publish
 * @returns {Array<object|null>} null is a line between entries
 */
export function menuItems(host, node, publish) {
  const id = host.idOf(node);
  const values = id === null ? [] : valuesOf(host, node, id);
  if (!values.length) return [];
  const options = values.map(({ label, place }) => ({
    // ComfyUI's older menus take their texts for HTML.
    content: label.replace(/[<>&]/g, "?"), callback: () => publish(place.node, place.input),
  }));
  return [null, { content: "Publish as API input", has_submenu: true, submenu: { options } }];
}

function valuesOf(host, node, id) {
  return (node.widgets ?? [])
    .filter(({ name, options }) => typeof name === "string" && options?.serialize !== false)
    .map(({ name, label }) => ({ label: label || name, place: placeOf(host, node, id, name) }))
    .filter(({ place }) => place);
}

/** The node and the input that hold a widget's value: those of a subgraph's widgets lie inside it. */
function placeOf(host, node, id, name) {
  if (node.subgraph) {
    const { inner, input } = promoted(node, name);
    return inner ? placeOf(host, inner, `${id}:${inner.id}`, input) : null;
  }
  const { input = {} } = host.definition(node.comfyClass ?? node.type) ?? {};
  return name in { ...input.required, ...input.optional } ? { node: id, input: name } : null;
}

/** Which node inside a subgraph's a widget of its stands for. */
function promoted(node, name) {
  const { subgraph } = node;
  const slot = (node.inputs ?? []).findIndex(({ widget }) => widget?.name === name);
  const link = subgraph.links?.get?.(subgraph.inputs?.[slot]?.linkIds?.[0]);
  const inner = link && subgraph.getNodeById(link.target_id);
  const input = inner?.inputs?.[link.target_slot]?.name;
  if (input) return { inner, input };
  // Some frontends keep no link, but a list.
  const listed = node.properties?.proxyWidgets ?? [];
  const [owner, widget] = listed.find(([one, its]) => its === name || `${one}: ${its}` === name) ?? [];
  return { inner: owner === undefined ? null : subgraph.getNodeById(owner) ?? subgraph.getNodeById(Number(owner)), input: widget };
}
