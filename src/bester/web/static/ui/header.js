/** The header of every page: the title, who is signed in, the theme, signing out; and the region for toasts. */

import { byId, h, s, setText } from "./dom.js";
import * as theme from "./theme.js";

const THEME = "M12 3a9 9 0 1 0 0 18zM12 3a9 9 0 0 1 0 18";
const SIGN_OUT = "M14 4h5v16h-5M3 12h11M10 8l4 4-4 4";

/**
 * Makes a button of a header, with an icon and a label; a narrow header shows only the icon.
 *
 * @param {string} icon an SVG path on 24 by 24
 * @param {string} label
 * @param {string} name for screen readers
 * @param {() => unknown} onclick
 */
export function headerButton(icon, label, name, onclick) {
  return h(
    "button.quiet",
    { type: "button", onclick, "aria-label": name },
    s("svg", { viewBox: "0 0 24 24", "aria-hidden": "true" }, s("path", { d: icon })),
    h("span.label", null, label),
  );
}

export class Header {
  #status = h("p.status.muted", { role: "status" });
  #middle = h("div.middle");
  #more = h("div.more");
  #signOut;

  /**
   * Builds the header at the top of the page, whose content is in the element `main`.
   *
   * @param {object} options
   * @param {string} options.title
   * @param {boolean} [options.isHeading] false where the content has the heading of the first level
   * @param {() => unknown} options.onSignOut
   */
  constructor({ title, isHeading = true, onSignOut }) {
    theme.start();
    this.#signOut = headerButton(SIGN_OUT, "Sign out", "Sign out", onSignOut);
    const skip = h("a.skip", { href: "#main", onclick: toContent }, "Skip to the content");
    const header = h(
      "header.bar",
      null,
      h(
        "div.brand",
        null,
        h("img", { src: "/ui/icon.svg", alt: "", width: 30, height: 30 }),
        h("div.names", null, h(isHeading ? "h1" : "b", null, title), this.#status),
      ),
      this.#middle,
      h(
        "div.tools",
        null,
        this.#more,
        headerButton(THEME, "Theme", "Theme: switch between dark and light", theme.toggle),
        this.#signOut,
      ),
    );
    document.body.prepend(skip, header);
    document.body.append(h("div", { id: "toasts", role: "status", "aria-live": "polite" }));
    this.signedOut();
  }

  /** @param {string} text who is signed in, or how the connection is */
  say(text) {
    setText(this.#status, text);
  }

  signedOut() {
    this.say("not signed in");
    this.#signOut.hidden = true;
    this.#middle.replaceChildren();
    this.#more.replaceChildren();
  }

  /**
   * Shows what only someone who is signed in needs.
   *
   * @param {object} [parts]
   * @param {Node[]} [parts.middle] such as a navigation
   * @param {Node[]} [parts.more] more tools
   */
  signedIn({ middle = [], more = [] } = {}) {
    this.#signOut.hidden = false;
    this.#middle.replaceChildren(...middle);
    this.#more.replaceChildren(...more);
  }
}

/** @param {Event} event */
function toContent(event) {
  event.preventDefault(); // a page may keep its own state in the hash
  byId("main").focus();
}
