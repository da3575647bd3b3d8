/** Builds the pieces of the page: an item of the list, a message, a day. */

import { h, setText } from "../ui/dom.js";
import { called, isRoom, keyOf } from "./mirror.js";

/** @import { Conversation, Entry, Mirror } from "./mirror.js" */

/** @type {Record<string, [string, string]>} */
const MARKS = {
  sending: ["…", "on its way"],
  sent: ["◦", "your server has it, the other one not yet"],
  arrived: ["·", "the other server has it"],
  delivered: ["✓", "delivered"],
  read: ["✓✓", "read"],
  failed: ["✗", "not delivered"],
};
/** @type {Record<string, string>} */
const REASONS = {
  unknownAccount: "There is no such account.",
  unknownRoom: "There is no such room.",
  notMember: "You are not in this room.",
  expired: "The other server did not answer for too long.",
};
const COLOURS = 6;
const GROUP_MS = 5 * 60_000;
const LINK = /(https?:\/\/[^\s<>"]+[^\s<>".,;:!?)\]}'])/u;

/** @param {number} ms */
export const clock = (ms) => new Date(ms).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });

/** @param {number} ms */
const dayKey = (ms) => new Date(ms).toDateString();

/** @param {number} ms */
function dayName(ms) {
  const when = new Date(ms);
  const now = new Date();
  if (when.toDateString() === now.toDateString()) return "Today";
  now.setDate(now.getDate() - 1);
  if (when.toDateString() === now.toDateString()) return "Yesterday";
  const year = when.getFullYear() === new Date().getFullYear() ? undefined : "numeric";
  return when.toLocaleDateString([], { weekday: "long", day: "numeric", month: "long", year });
}

/**
 * Returns the time for the list: of today the hour, else the day.
 *
 * @param {number} ms
 */
export function shortTime(ms) {
  if (!ms) return "";
  if (dayKey(ms) === dayKey(Date.now())) return clock(ms);
  return new Date(ms).toLocaleDateString([], { day: "numeric", month: "short" });
}

/**
 * Returns the text below a conversation's name.
 *
 * @param {Conversation} conversation
 * @param {Mirror} mirror
 */
export function below({ talk }, mirror) {
  if (talk.status === "invited") return `${talk.by} invites you`;
  if (talk.status === "asked") return "Waiting for its server";
  if (talk.status === "left") return "You are not in this room";
  if (mirror.blocked.includes(talk.with)) return "Blocked";
  return talk.preview || talk.topic || "Nothing said yet";
}

/**
 * @param {string} name
 * @param {Mirror} mirror
 */
export function presence(name, mirror) {
  if (isRoom(name)) return h("span.dot.room", { "aria-hidden": "true" }, "#");
  const here = mirror.online.has(name);
  return h(`span.dot${here ? ".here" : ""}`, null, h("span.hidden", null, here ? "here, " : "away, "));
}

/**
 * Builds an item of the list.
 *
 * @param {Conversation} conversation
 * @param {Mirror} mirror
 * @param {{current: boolean, onclick: () => void}} options
 */
export function item(conversation, mirror, { current, onclick }) {
  const { talk } = conversation;
  const name = called(talk.with, mirror.you).replace(/^#/, "");
  return h(
    "li",
    null,
    h(
      "button.item",
      { type: "button", "aria-current": current ? "true" : null, onclick, "data-focus": talk.with, title: talk.with },
      presence(talk.with, mirror),
      h("span.name", null, name),
      h("time", null, shortTime(talk.time)),
      h("span.below", null, below(conversation, mirror)),
      talk.unread > 0 &&
        h("span.count", null, talk.unread > 99 ? "99+" : talk.unread, h("span.hidden", null, " unread")),
    ),
  );
}

/** Keeps the nodes of a conversation, in order, and uses them again. */
export class Lines {
  /** @type {Map<string, HTMLElement>} */
  #nodes = new Map();

  clear() {
    this.#nodes.clear();
  }

  /**
   * Shows entries in an element.
   *
   * @param {HTMLElement} element
   * @param {Entry[]} entries may end with some that are on their way, without a state
   * @param {object} options
   * @param {string} options.you
   * @param {boolean} options.room
   * @param {boolean} options.complete whether the first entry is the conversation's first
   * @param {number | null} options.newAfter the place behind which entries are new, or null
   */
  show(element, entries, { you, room, complete, newAfter }) {
    /** @type {HTMLElement[]} */
    const wanted = [];
    /** @type {Map<string, HTMLElement>} */
    const kept = new Map();
    /** @type {(key: string, make: () => HTMLElement) => HTMLElement} */
    const use = (key, make) => {
      const node = this.#nodes.get(key) ?? make();
      kept.set(key, node);
      wanted.push(node);
      return node;
    };
    if (complete) use("begin", () => h("p.divider", null, "This is where it begins"));
    /** @type {Entry | null} */
    let before = null;
    let markNew = newAfter !== null;
    for (const entry of entries) {
      const mine = entry.from === you;
      if (!before || dayKey(before.time) !== dayKey(entry.time)) {
        use(`day ${dayKey(entry.time)} ${keyOf(entry)}`, () => h("p.divider", null, dayName(entry.time)));
        before = null;
      }
      if (markNew && newAfter !== null && entry.pos > newAfter && !mine) {
        use("new", () => h("p.divider.new", null, "New"));
        markNew = false;
      }
      const first = !before || before.from !== entry.from || entry.time - before.time > GROUP_MS;
      const node = use(keyOf(entry), () => message(entry, mine, room, you));
      node.classList.toggle("first", first);
      update(node, entry, mine);
      before = entry;
    }
    this.#nodes = kept;
    let at = element.firstChild;
    for (const node of wanted) {
      if (node === at) at = at.nextSibling;
      else element.insertBefore(node, at);
    }
    while (at) {
      const next = at.nextSibling;
      element.removeChild(at);
      at = next;
    }
  }
}

/**
 * @param {Entry} entry
 * @param {boolean} mine
 * @param {boolean} room
 * @param {string} you
 */
function message(entry, mine, room, you) {
  const colour = [...entry.from].reduce((sum, char) => sum + (char.codePointAt(0) ?? 0), 0) % COLOURS;
  const parts = entry.text.split(LINK);
  return h(
    `div.message.${mine ? "mine" : "theirs"}`,
    null,
    room && !mine && h(`p.sender.colour${colour}`, null, called(entry.from, you)),
    h(
      "p.text",
      null,
      parts.map((part, at) =>
        at % 2 ? h("a", { href: part, target: "_blank", rel: "noopener noreferrer" }, part) : part,
      ),
    ),
    h("p.meta", null, h("time", null, clock(entry.time)), mine && h("span.mark")),
    h("p.wrong"),
  );
}

/**
 * @param {HTMLElement} node
 * @param {Entry} entry
 * @param {boolean} mine
 */
function update(node, entry, mine) {
  const mark = /** @type {HTMLElement | null} */ (node.querySelector(".mark"));
  const wrong = node.querySelector(".wrong");
  if (!mine || !mark || !wrong) return;
  const state = entry.state ?? "sending";
  if (mark.dataset.state === state) return;
  const [sign, words] = MARKS[state];
  mark.dataset.state = state;
  mark.title = words;
  mark.replaceChildren(h("span", { "aria-hidden": "true" }, sign), h("span.hidden", null, words));
  node.classList.toggle("failed", state === "failed");
  setText(wrong, state === "failed" ? (REASONS[entry.reason ?? ""] ?? entry.reason ?? "") : "");
}
