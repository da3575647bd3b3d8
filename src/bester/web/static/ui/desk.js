/** What the pages for clients share: the bar at the top, and signing in. */

import { field, h, replace } from "./dom.js";
import * as theme from "./theme.js";

/** Makes the theme's button and the link past the bar work. */
export function startBar() {
  theme.start();
  document.getElementById("theme").addEventListener("click", theme.toggle);
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault();
    document.getElementById("main").focus();
  });
}

/**
 * Shows the form for signing in, in place of the page.
 *
 * @param {string} hint whose account it takes, and what for
 * @param {string} reason why one has to, or "": an error's message
 * @param {(username: string, password: string, form: HTMLFormElement) => Promise<void>} signIn throws what is wrong,
 *   which is shown
 * @param {Element | null} more what else is asked in the form
 */
export function askWho(hint, reason, signIn, more = null) {
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
          await signIn(form.elements.username.value, form.elements.password.value, form);
        } catch (error) {
          wrong.textContent = error.message;
        }
        go.disabled = false;
      },
    },
    h("h2", null, "Sign in"),
    h("p.muted", null, hint),
    field("Username", { name: "username", required: true, autocomplete: "username", autocapitalize: "none" }),
    field("Password", { name: "password", type: "password", required: true, autocomplete: "current-password" }),
    more,
    wrong,
    go,
  );
  replace(document.getElementById("main"), form);
  form.elements.username.focus();
}
