/** The form for signing in, of every page. */

import { byId, control, field, h, replace } from "./dom.js";

/** @import { Child } from "./dom.js" */

/**
 * Shows the form for signing in, in place of the page's content.
 *
 * @param {object} options
 * @param {string} options.hint which accounts can sign in, and what for
 * @param {string} [options.reason] why one has to sign in again: an error's message
 * @param {string} [options.username] filled in already
 * @param {Child} [options.more] further controls of the form
 * @param {(username: string, password: string, form: HTMLFormElement) => Promise<void>} options.signIn throws an error,
 *   whose message is shown
 */
export function askWho({ hint, reason = "", username = "", more = null, signIn }) {
  const wrong = h("p.wrong", { role: "alert" }, reason);
  const go = h("button.primary", { type: "submit" }, "Sign in");
  const form = h(
    "form.card.sign-in",
    {
      onsubmit: async (event) => {
        event.preventDefault();
        go.disabled = true;
        wrong.textContent = "";
        try {
          await signIn(control(form, "username").value, control(form, "password").value, form);
        } catch (error) {
          wrong.textContent = error.message;
          control(form, "password").select();
        }
        go.disabled = false;
      },
    },
    h("h2", null, "Sign in"),
    h("p.muted", null, hint),
    field("Username", {
      name: "username",
      value: username,
      required: true,
      autocomplete: "username",
      autocapitalize: "none",
    }),
    field("Password", { name: "password", type: "password", required: true, autocomplete: "current-password" }),
    more,
    wrong,
    go,
  );
  replace(byId("main"), form);
  control(form, username ? "password" : "username").focus();
}
