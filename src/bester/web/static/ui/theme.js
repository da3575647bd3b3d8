/** Dark, light, or what the system says; and the colours of the style sheet for pictures. */

const KEY = "bester:theme";
const listeners = new Set();
let cache = new Map();

export function current() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light");
}

function changed() {
  cache = new Map();
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
    // It lasts as long as the page.
  }
  changed();
}

export function onchange(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** A custom property of the style sheet, as a canvas takes it. */
export function colour(name) {
  if (!cache.has(name)) {
    const probe = document.createElement("span");
    probe.style.color = `var(--${name})`;
    document.body.append(probe);
    cache.set(name, getComputedStyle(probe).color);
    probe.remove();
  }
  return cache.get(name);
}

export const still = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
