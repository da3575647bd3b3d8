/** The theme: dark, light, or the system's; and the colours of the style sheet, for pictures. */

const KEY = "bester:theme";
/** @type {Set<() => void>} */
const listeners = new Set();
/** @type {Map<string, string>} */
const colours = new Map();

export function current() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
}

function changed() {
  colours.clear();
  for (const listener of listeners) listener();
}

export function start() {
  try {
    const kept = localStorage.getItem(KEY);
    if (kept === "dark" || kept === "light") document.documentElement.dataset.theme = kept;
  } catch {
    // Without a storage the system decides each time.
  }
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed);
}

export function toggle() {
  const next = current() === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = next;
  try {
    localStorage.setItem(KEY, next);
  } catch {
    // The choice lasts as long as the page.
  }
  changed();
}

/**
 * Calls a listener when the theme changes; returns a function that ends this.
 *
 * @param {() => void} listener
 */
export function onchange(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/**
 * Returns a custom property of the style sheet, as a canvas takes it.
 *
 * @param {string} name
 */
export function colour(name) {
  let found = colours.get(name);
  if (found === undefined) {
    const probe = document.createElement("span");
    probe.style.color = `var(--${name})`;
    document.body.append(probe);
    found = getComputedStyle(probe).color;
    colours.set(name, found);
    probe.remove();
  }
  return found;
}

/** Whether the user wants no animations. */
export const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
