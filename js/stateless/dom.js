// Building elements. Text becomes text nodes, and addresses are looked at before they are used:
// nothing that came from outside can become markup or code.

const PROPERTIES = new Set(["value", "checked", "disabled", "hidden", "open", "indeterminate"]);

/**
 * Make an element.
 * @param {string} tag its name, with classes behind dots: "button.st-button"
 * @param {object} given attributes; `on` holds listeners, PROPERTIES are set as properties,
 *   null, undefined and false leave an attribute out
 * @param {...(Node|string|number|null|undefined|false|Array)} children
 */
export function h(tag, given = {}, ...children) {
  const [name, ...classes] = tag.split(".");
  const element = document.createElement(name);
  if (classes.length) element.className = classes.join(" ");
  for (const [key, value] of Object.entries(given)) set(element, key, value);
  element.append(...nodes(children));
  return element;
}

function set(element, key, value) {
  if (key === "on") {
    for (const [event, listener] of Object.entries(value)) element.addEventListener(event, listener);
  } else if (PROPERTIES.has(key)) {
    if (value !== undefined) element[key] = value;
  } else if (key === "href" || key === "src") {
    const address = key === "href" ? safeLink(value) : safeSource(value);
    if (address) element.setAttribute(key, address);
  } else if (value !== null && value !== undefined && value !== false) {
    element.setAttribute(key, value === true ? "" : String(value));
  }
}

function nodes(children) {
  return children
    .flat(Infinity)
    .filter((child) => child !== null && child !== undefined && child !== false)
    .map((child) => (child instanceof Node ? child : document.createTextNode(String(child))));
}

/** Put other children into an element. */
export function fill(element, ...children) {
  element.replaceChildren(...nodes(children));
  return element;
}

/** Set an element's text, touching the page only where it changes. */
export function say(element, text) {
  const wanted = text === null || text === undefined ? "" : String(text);
  if (element.textContent !== wanted) element.textContent = wanted;
}

/** Set or remove an attribute, touching the page only where it changes. */
export function mark(element, name, value) {
  if (value === null || value === undefined || value === false) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, String(value));
}

/** Return an address that a link may have, null for every other one (as `javascript:`). */
export function safeLink(value) {
  return checked(value, ["http:", "https:", "blob:"]);
}

/** Return an address that an image, a video or a sound may have, null for every other one. */
export function safeSource(value) {
  const text = String(value ?? "");
  if (/^data:(image|video|audio)\/[a-z0-9.+-]+;base64,/i.test(text)) {
    return /^data:image\/svg/i.test(text) ? null : text;
  }
  return checked(value, ["http:", "https:", "blob:"]);
}

function checked(value, protocols) {
  if (value === null || value === undefined || value === "") return null;
  try {
    const url = new URL(String(value), globalThis.location?.href);
    return protocols.includes(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}

/** An icon of PrimeIcons, which ComfyUI's frontends bring; screen readers pass over it. */
export function icon(name) {
  return h(`i.pi.pi-${name}`, { "aria-hidden": "true" });
}

/** A button. @param {{kind?: "primary"|"plain"|"danger", icon?: string, title?: string}} options */
export function button(label, onClick, options = {}) {
  const { kind, icon: name, title, ...rest } = options;
  return h(
    `button.st-button${kind ? `.st-${kind}` : ""}`,
    { type: "button", title, on: onClick ? { click: onClick } : {}, ...rest },
    name && icon(name),
    label && h("span", {}, label),
  );
}

/** A button that shows an icon alone, and says what it does to screen readers and as a tooltip. */
export function iconButton(label, name, onClick, options = {}) {
  return button("", onClick, {
    kind: "plain", icon: name, title: label, "aria-label": label, ...options,
  });
}

let lastId = 0;

/** A new id for an element. */
export function newId(prefix = "st") {
  lastId += 1;
  return `${prefix}-${lastId}`;
}
