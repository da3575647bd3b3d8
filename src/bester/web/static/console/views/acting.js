/** What the views' rows and lists can do: their buttons, pages of them, and questions before what has no way back. */

import { ask, h, toast } from "../../ui/dom.js";

/** A button of a row; `about` is whose, `label` what a screen reader says. */
export function rowButton({ what, about, label = `${what} ${about}`, disabled = false, onclick }) {
  return h(
    "button.small.quiet",
    { type: "button", disabled, dataset: { focus: `${what}:${about}` }, "aria-label": label, onclick },
    what,
  );
}

/** Below a list of which a page is shown: which one, and the ways to the others. */
export function pager({ shown, back, on, names = ["Back", "More"] }) {
  const button = (focus, turn, text) =>
    h("button.small", { type: "button", disabled: !turn, dataset: { focus }, onclick: turn }, text);
  return h("div.pager", null, button("back", back, names[0]), h("span", null, shown), button("on", on, names[1]));
}

/** Asks whether something is to be done that has no way back; then does it. */
export function confirm({ title, action, body, run }) {
  return ask({ title, danger: true, action, body, run });
}

/** Does something at once, and says so where that fails. */
export async function attempt(run) {
  try {
    return await run();
  } catch (error) {
    toast(error.message, "bad");
    return undefined;
  }
}
