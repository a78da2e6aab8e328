// Tabs, with the keys that people know them by.

import { h, newId } from "./dom.js";

/**
 * A list of tabs and their panels.
 * @param {string} label what the tabs are for
 * @param {Array<{id: string, label: string, panel: HTMLElement}>} tabs
 * @param {(id: string) => void} onShow
 */
export function tabList(label, tabs, onShow, className = "st-tabs") {
  const buttons = new Map();
  const list = h(`div.${className}`, { role: "tablist", "aria-label": label });
  const show = (id, { focus = false } = {}) => {
    for (const tab of tabs) choose(tab, buttons.get(tab.id), tab.id === id);
    if (focus) buttons.get(id).focus();
    onShow(id);
  };
  for (const tab of tabs) {
    const button = tabButton(tab, () => show(tab.id));
    buttons.set(tab.id, button);
    list.append(button);
  }
  list.addEventListener("keydown", (event) => {
    const next = neighbour([...buttons.keys()], list, event.key);
    if (next === null) return;
    event.preventDefault();
    show(next, { focus: true });
  });
  return { list, show, buttons };
}

function tabButton(tab, onClick) {
  const id = newId("st-tab");
  if (tab.panel) {
    tab.panel.id ||= newId("st-panel");
    tab.panel.setAttribute("role", "tabpanel");
    tab.panel.setAttribute("aria-labelledby", id);
  }
  return h(
    "button.st-tab",
    { type: "button", role: "tab", id, "data-tab": tab.id, "aria-controls": tab.panel?.id, on: { click: onClick } },
    h("span", {}, tab.label),
  );
}

function choose(tab, button, isChosen) {
  button.setAttribute("aria-selected", String(isChosen));
  button.tabIndex = isChosen ? 0 : -1;
  if (tab.panel) tab.panel.hidden = !isChosen;
}

function neighbour(ids, list, key) {
  const now = ids.indexOf(list.querySelector("[aria-selected=true]")?.dataset.tab);
  const step = { ArrowRight: 1, ArrowLeft: -1 }[key];
  if (step) return ids[(now + step + ids.length) % ids.length];
  if (key === "Home") return ids[0];
  return key === "End" ? ids[ids.length - 1] : null;
}
