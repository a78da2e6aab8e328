// The address to call, and the form for the API key.

import { button, h, iconButton, newId, say } from "./dom.js";
import { copyFrom } from "./copying.js";
import { checkbox, field, textInput } from "./fields.js";

/** The form for the key: kept in this browser, shown to nobody. */
export function keyForm(ctx, onSaved = () => {}) {
  const input = textInput({ type: "password", autocomplete: "off", placeholder: ctx.key.get() ? "A key is set" : "" });
  const [remember, box] = checkbox("Keep it in this browser", { checked: ctx.key.isRemembered });
  const note = h("p.st-hint", { role: "status" });
  const keep = (value, said) => {
    ctx.key.set(value, { remember: box.checked });
    input.value = "";
    input.placeholder = value ? "A key is set" : "";
    say(note, said);
    onSaved();
  };
  return h(
    "form.st-stack",
    { on: { submit: (event) => {
      event.preventDefault();
      if (input.value) keep(input.value, "The key is used from now on.");
    }, keydown: (event) => {
      if (event.key === "Escape") input.value = "";
    } } },
    field("API key", input, "One of the server's API_KEYS. It stays in this browser, for this tab alone unless kept."),
    remember,
    h("div.st-buttons", {}, button("Use", null, { type: "submit", icon: "check" }),
      button("Forget", () => keep("", "The key is forgotten."), { kind: "plain" })),
    note,
  );
}

/** The address of the API, with a button that copies it. */
export function addressLine(ctx) {
  const text = h("code.st-address", { id: newId() });
  const copier = iconButton("Copy the address", "copy", () => copyFrom(copier, ctx.address));
  const show = () => say(text, ctx.address);
  ctx.addEventListener("address", show);
  show();
  return h("div.st-address-line", {}, text, copier);
}
