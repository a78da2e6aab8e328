// How numbers, sizes and times are written.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"];

/** Bytes in the unit that fits. */
export function bytes(count) {
  if (!Number.isFinite(count)) return "?";
  let value = count;
  let unit = 0;
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return `${unit === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${UNITS[unit]}`;
}

/** Milliseconds as a duration. */
export function duration(ms) {
  if (!Number.isFinite(ms)) return "";
  if (ms < 1000) return `${Math.max(0, Math.round(ms))} ms`;
  if (ms < 60_000) return `${(ms / 1000).toFixed(1)} s`;
  const seconds = Math.round(ms / 1000);
  const [hours, minutes] = [Math.floor(seconds / 3600), Math.floor((seconds % 3600) / 60)];
  return hours ? `${hours} h ${minutes} min` : `${minutes} min ${seconds % 60} s`;
}

/** How long ago a moment was. @param {number} then Unix milliseconds */
export function ago(then, now = Date.now()) {
  const seconds = Math.max(0, Math.round((now - then) / 1000));
  if (seconds < 5) return "just now";
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ago`;
  return new Date(then).toLocaleString();
}

/** A moment in Unix milliseconds, from milliseconds, seconds or an ISO date; null for none. */
export function moment(value) {
  if (value === null || value === undefined || value === "") return null;
  if (typeof value === "number") return value < 1e11 ? value * 1000 : value;
  const parsed = Date.parse(value);
  return Number.isNaN(parsed) ? null : parsed;
}

/** A share from 0 to 1 in percent. */
export function percent(share) {
  return `${Math.round(Math.min(1, Math.max(0, share || 0)) * 100)}%`;
}

/** A value as JSON to look at, with long texts such as images cut short. */
export function shortJson(value, limit = 160) {
  const shorten = (_key, item) => {
    if (typeof item !== "string" || item.length <= limit) return item;
    return `${item.slice(0, 60)}… (${item.length.toLocaleString("en")} characters)`;
  };
  return JSON.stringify(value, shorten, 2);
}

/** The last part of a path, as a name for a file; never empty. */
export function fileName(path) {
  return String(path ?? "").split(/[\\/]/).pop().replace(/[\u0000-\u001f\u007f]/g, "_") || "output";
}
