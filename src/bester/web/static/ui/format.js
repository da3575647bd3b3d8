/** Formats numbers, times and sizes for people. */

/** @typedef {number | null | undefined} Maybe null and undefined are shown as a dash */

const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const one = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

/** @param {Maybe} value */
export const count = (value) => (value === null || value === undefined ? "–" : whole.format(value));

/** @param {Maybe} value */
export function rate(value) {
  if (value === null || value === undefined) return "–";
  return value >= 100 ? whole.format(value) : one.format(value);
}

/** @param {Maybe} value */
export function millis(value) {
  if (value === null || value === undefined) return "–";
  if (value >= 10_000) return `${one.format(value / 1000)} s`;
  if (value >= 100) return `${whole.format(value)} ms`;
  if (value >= 1) return `${one.format(value)} ms`;
  return value > 0 ? `${Math.max(1, Math.round(value * 1000))} µs` : "0 ms";
}

/** @param {Maybe} value */
export function bytes(value) {
  if (value === null || value === undefined) return "–";
  const units = ["B", "KiB", "MiB", "GiB"];
  let at = 0;
  while (value >= 1024 && at < units.length - 1) {
    value /= 1024;
    at += 1;
  }
  return `${at ? one.format(value) : whole.format(value)} ${units[at]}`;
}

/**
 * Returns a span such as `3 h 12 min`.
 *
 * @param {Maybe} seconds
 */
export function span(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const total = Math.max(0, Math.round(seconds));
  if (total < 60) return `${total} s`;
  if (total < 3600) return `${Math.floor(total / 60)} min`;
  if (total < 86_400) return `${Math.floor(total / 3600)} h ${Math.floor((total % 3600) / 60)} min`;
  return `${Math.floor(total / 86_400)} d ${Math.floor((total % 86_400) / 3600)} h`;
}

/**
 * Returns the time of day, as the local clock shows it.
 *
 * @param {number | string} time seconds since 1970, or an ISO text
 */
export function clock(time) {
  const date = typeof time === "number" ? new Date(time * 1000) : new Date(time);
  if (Number.isNaN(date.getTime())) return "–";
  return date.toLocaleTimeString("en-GB", { hour12: false });
}

/**
 * Returns the date and the time of day.
 *
 * @param {number | string} time seconds since 1970, or an ISO text
 */
export function day(time) {
  const date = typeof time === "number" ? new Date(time * 1000) : new Date(time);
  if (Number.isNaN(date.getTime())) return "–";
  return `${date.toLocaleDateString("en-CA")} ${date.toLocaleTimeString("en-GB", { hour12: false }).slice(0, 5)}`;
}

/**
 * Cuts a text in the middle, for pictures; the element's title has all of it.
 *
 * @param {string} text
 * @param {number} [most] characters
 */
export function short(text, most = 16) {
  if (text.length <= most) return text;
  const head = Math.ceil((most - 1) * 0.6);
  return `${text.slice(0, head)}…${text.slice(text.length - (most - 1 - head))}`;
}
