// Progress bars.

import { h, mark } from "./dom.js";
import { percent } from "./format.js";

/** A bar that says what it is the progress of. */
export function progressBar(label) {
  const bar = h("div.st-bar", { role: "progressbar", "aria-label": label, "aria-valuemin": "0", "aria-valuemax": "100" });
  bar.append(h("div.st-bar-fill"));
  return bar;
}

/** Set a bar. @param {number|null} share 0 to 1, null where it is not known */
export function setProgress(bar, share) {
  const isKnown = Number.isFinite(share);
  bar.classList.toggle("st-unknown", !isKnown);
  mark(bar, "aria-valuenow", isKnown ? Math.round(share * 100) : null);
  const width = isKnown ? percent(share) : "";
  if (bar.firstChild.style.width !== width) bar.firstChild.style.width = width;
}
