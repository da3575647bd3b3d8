/** What views share: how a handler is connected, the buttons of rows, the pages of lists, and the questions before what cannot be undone. */

import { ask, h, toast } from "../../ui/dom.js";

/**
 * Makes a button of a row.
 *
 * @param {object} options
 * @param {string} options.what the text
 * @param {string} options.about the row's name
 * @param {string} [options.label] for screen readers
 * @param {boolean} [options.disabled]
 * @param {() => unknown} options.onclick
 */
export function rowButton({ what, about, label = `${what} ${about}`, disabled = false, onclick }) {
  return h(
    "button.small.quiet",
    { type: "button", disabled, dataset: { focus: `${what}:${about}` }, "aria-label": label, onclick },
    what,
  );
}

/**
 * Says how a handler is connected, unless it is by the socket of this machine.
 *
 * @param {{over?: string, address?: string | null}} row
 */
export function connected({ over, address }) {
  if (over === "tls") return `over TLS from ${address}`;
  return over === "stdio" ? "over stdio" : "";
}

/** @import { Child } from "../../ui/dom.js" */

/**
 * Makes the line below a list that is shown page by page.
 *
 * @param {object} options
 * @param {Child} options.shown says which page is shown
 * @param {(() => unknown) | false} options.back false where there is no page before
 * @param {(() => unknown) | false} options.on false where there is no page behind
 * @param {[string, string]} [options.names]
 */
export function pager({ shown, back, on, names = ["Back", "More"] }) {
  /** @type {(focus: string, turn: (() => unknown) | false, text: string) => HTMLElement} */
  const button = (focus, turn, text) =>
    h("button.small", { type: "button", disabled: !turn, dataset: { focus }, onclick: turn || undefined }, text);
  return h("div.pager", null, button("back", back, names[0]), h("span", null, shown), button("on", on, names[1]));
}

/**
 * Asks whether to do something that cannot be undone; then does it.
 *
 * @param {{title: string, action: string, body: Child, run: (form: HTMLFormElement) => Promise<unknown>}} options
 */
export function confirm({ title, action, body, run }) {
  return ask({ title, danger: true, action, body, run });
}

/**
 * Does something at once; if it fails, shows the error and returns undefined.
 *
 * @template Result
 * @param {() => Promise<Result>} run
 */
export async function attempt(run) {
  try {
    return await run();
  } catch (error) {
    toast(error.message, "bad");
    return undefined;
  }
}
