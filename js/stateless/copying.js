// The clipboard, also where the browser gives it to secure pages only, and files to save.

import { h } from "./dom.js";

/** Copy a text. Returns whether that worked. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    return copyBySelection(text);
  }
}

// On http:// addresses other than this machine there is no navigator.clipboard.
function copyBySelection(text) {
  const before = document.activeElement;
  const area = h("textarea.st-offscreen", { readonly: true, "aria-hidden": "true", tabindex: "-1" });
  area.value = text;
  document.body.append(area);
  area.select();
  try {
    return document.execCommand("copy");
  } catch {
    return false;
  } finally {
    area.remove();
    before?.focus?.();
  }
}

/** Have the browser save a file. */
export function save(name, content, type) {
  const url = URL.createObjectURL(new Blob([content], { type }));
  const link = h("a", { href: url, download: name });
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/** Make a copy button say for a moment that it has copied. */
export async function copyFrom(button, text) {
  const label = button.querySelector("span");
  const isDone = await copy(text);
  const shown = label ?? button;
  const before = (button.dataset.label ??= shown.textContent);
  clearTimeout(Number(button.dataset.timer));
  if (label) label.textContent = isDone ? "Copied" : "Not copied";
  button.classList.toggle("st-done", isDone);
  button.querySelector("i")?.classList.replace("pi-copy", isDone ? "pi-check" : "pi-times");
  button.dataset.timer = setTimeout(() => {
    if (label) label.textContent = before;
    button.classList.remove("st-done");
    const shape = button.querySelector("i")?.classList;
    shape?.remove("pi-check", "pi-times");
    shape?.add("pi-copy");
  }, 1600);
  return isDone;
}
