/** Sends a message for real, and shows its answer as it comes: replies, or parts and a button that cancels them. */

import { h, setText } from "./dom.js";
import { count } from "./format.js";

/** @import { Client, Report } from "../js/bester.js" */

const MOST_SHOWN = 50;
const MOST_TEXT = 20_000;
const EVERY_MS = 80;
const TIMEOUT_S = 60;

export class Answer {
  constructor() {
    this.told = h("p.muted", { role: "status", tabindex: -1 }, "Waiting for the answer…");
    this.cancel = h("button.small", { type: "button", onclick: () => this.stop() }, "Cancel");
    this.list = h("div.parts", { tabindex: 0, role: "group", "aria-label": "Parts", "aria-live": "off", hidden: true });
    this.element = h("div.stack", null, h("div.told", null, this.told, this.cancel), this.list);
    this.number = 0;
  }

  #stopping = new AbortController();
  /** @type {any[]} */
  #fresh = [];
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;

  /** Cancels the message; nothing happens where it has its report. */
  stop() {
    this.#stopping.abort();
  }

  /**
   * Resolves with the report, good or bad, or with null where the message was cancelled here.
   *
   * @param {Client} client
   * @param {string} type
   * @param {any} data
   * @returns {Promise<Report | null>}
   */
  async run(client, type, data) {
    const { signal } = this.#stopping;
    const parts = client.stream(type, data, { route: client.features.includes("route"), timeout: TIMEOUT_S, signal });
    try {
      for (;;) {
        const next = await parts.next();
        if (next.done) return next.value;
        this.#take(next.value.data);
      }
    } catch (error) {
      if (error.report) return error.report;
      if (signal.aborted) return null;
      throw error;
    } finally {
      this.#end();
    }
  }

  /** @param {any} data */
  #take(data) {
    this.number += 1;
    this.#fresh.push(data);
    if (this.#fresh.length > MOST_SHOWN) this.#fresh.shift();
    this.#timer ??= setTimeout(() => this.#show(), EVERY_MS);
  }

  /** Adds what came since the last time; of many only the last ones stay. */
  #show() {
    this.#timer = undefined;
    const { scrollTop, clientHeight, scrollHeight } = this.list;
    const follows = scrollTop + clientHeight > scrollHeight - 40; // nobody has scrolled back to read
    this.list.append(...this.#fresh.splice(0).map((data) => h("pre", null, shownJson(data))));
    while (this.list.children.length > MOST_SHOWN) this.list.firstElementChild?.remove();
    this.list.hidden = this.number === 0;
    if (follows) this.list.scrollTop = this.list.scrollHeight;
    // Screen readers are told at the end: a fast answer would never let them finish.
    this.told.setAttribute("aria-busy", "true");
    setText(this.told, this.#counted(" so far"));
  }

  #counted(yet = "") {
    const all = `${count(this.number)} ${this.number === 1 ? "message" : "messages"}${yet}`;
    return this.number > MOST_SHOWN ? `${all}; the last ${MOST_SHOWN} are shown` : all;
  }

  #end() {
    clearTimeout(this.#timer);
    this.#show();
    this.told.removeAttribute("aria-busy");
    const cancelled = this.#stopping.signal.aborted;
    const came = this.number ? this.#counted() : "No answer";
    setText(this.told, cancelled ? `${came}. You cancelled it; what was done before stays done.` : came);
    if (this.cancel === document.activeElement) (this.number ? this.list : this.told).focus();
    this.cancel.remove();
  }
}

/** @param {any} data */
export function shownJson(data) {
  const text = JSON.stringify(data, null, 2) ?? "null";
  return text.length > MOST_TEXT ? `${text.slice(0, MOST_TEXT)}\n…` : text;
}
