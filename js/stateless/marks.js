// Marks in node titles: `@name` makes a node's value an input of the published endpoint,
// `@name=widget` one of several.

const MARK = /(^|\s)@([A-Za-z_]\w*)(?:=([A-Za-z_][\w.]*))?(?=\s|$)/g;

/** A name that an input may have. */
export const INPUT_NAME = /^[A-Za-z_]\w*$/;

/** The marks of a title. @returns {Array<{name: string, widget: string|null}>} */
export function marksOf(title) {
  return [...String(title ?? "").matchAll(MARK)].map(([, , name, widget]) => ({
    name, widget: widget ?? null,
  }));
}

/** A title with a mark more. */
export function withMark(title, name, widget) {
  return `${withoutMark(title, name)} @${name}${widget ? `=${widget}` : ""}`.trim();
}

/** A title without the mark of a name. */
export function withoutMark(title, name) {
  return String(title ?? "").replace(MARK, (all, _before, found) => (found === name ? "" : all)).trim();
}

/** A title without any mark. */
export function plainTitle(title) {
  return String(title ?? "").replace(MARK, "").trim();
}

/** Whether a widget's name can stand in a mark. */
export function canMark(widget) {
  return /^[A-Za-z_][\w.]*$/.test(widget);
}

/** A name like a widget's that an input may have and that is not taken. */
export function freeName(widget, taken) {
  const base = widget.trim().replace(/\W+/g, "_").replace(/^(\d)/, "_$1") || "value";
  let name = base;
  for (let number = 2; taken.has(name); number += 1) name = `${base}_${number}`;
  return name;
}
