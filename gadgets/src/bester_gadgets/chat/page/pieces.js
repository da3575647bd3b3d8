/** The pieces of the page: an item of the list, a message, a day. */

import { h, setText } from "../ui/dom.js";
import { called, isRoom, keyOf } from "./mirror.js";

const MARKS = {
  sending: ["…", "on its way"],
  sent: ["◦", "your server has it, the other one not yet"],
  arrived: ["·", "the other server has it"],
  delivered: ["✓", "delivered"],
  read: ["✓✓", "read"],
  failed: ["✗", "not delivered"],
};
const REASONS = {
  unknownAccount: "There is no such account.",
  unknownRoom: "There is no such room.",
  notMember: "You are not in this room.",
  expired: "The other server did not answer for too long.",
};
const COLOURS = 6;
const GROUP_MS = 5 * 60_000;
const LINK = /(https?:\/\/[^\s<>"]+[^\s<>".,;:!?)\]}'])/u;

export const clock = (ms) => new Date(ms).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });

const dayKey = (ms) => new Date(ms).toDateString();

function dayName(ms) {
  const when = new Date(ms);
  const now = new Date();
  if (when.toDateString() === now.toDateString()) return "Today";
  now.setDate(now.getDate() - 1);
  if (when.toDateString() === now.toDateString()) return "Yesterday";
  const year = when.getFullYear() === new Date().getFullYear() ? undefined : "numeric";
  return when.toLocaleDateString([], { weekday: "long", day: "numeric", month: "long", year });
}

/** Time as it stands in the list: the hour today, else the day. */
export function shortTime(ms) {
  if (!ms) return "";
  if (dayKey(ms) === dayKey(Date.now())) return clock(ms);
  return new Date(ms).toLocaleDateString([], { day: "numeric", month: "short" });
}

/** What stands below a conversation's name. */
export function below({ talk }, mirror) {
  if (talk.status === "invited") return `${talk.by} invites you`;
  if (talk.status === "asked") return "Waiting for its server";
  if (talk.status === "left") return "You are not in this room";
  if (mirror.blocked.includes(talk.with)) return "Blocked";
  return talk.preview || talk.topic || "Nothing said yet";
}

export function presence(name, mirror) {
  if (isRoom(name)) return h("span.dot.room", { "aria-hidden": "true" }, "#");
  const here = mirror.online.has(name);
  return h(`span.dot${here ? ".here" : ""}`, null, h("span.hidden", null, here ? "here, " : "away, "));
}

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

/** The nodes of a conversation, in order; those that are there already are used again. */
export class Lines {
  #nodes = new Map();

  clear() {
    this.#nodes.clear();
  }

  /** Shows entries in an element. `entries` may end with some that are on their way, without a state. */
  show(element, entries, { you, room, complete, newAfter }) {
    const wanted = [];
    const kept = new Map();
    const use = (key, make) => {
      const node = this.#nodes.get(key) ?? make();
      kept.set(key, node);
      wanted.push(node);
      return node;
    };
    if (complete) use("begin", () => h("p.divider", null, "This is where it begins"));
    let before = null;
    let news = newAfter === null;
    for (const entry of entries) {
      const mine = entry.from === you;
      if (!before || dayKey(before.time) !== dayKey(entry.time)) {
        use(`day ${dayKey(entry.time)} ${keyOf(entry)}`, () => h("p.divider", null, dayName(entry.time)));
        before = null;
      }
      if (!news && entry.pos > newAfter && !mine) {
        use("new", () => h("p.divider.new", null, "New"));
        news = true;
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
      at.remove();
      at = next;
    }
  }
}

function message(entry, mine, room, you) {
  const colour = [...entry.from].reduce((sum, char) => sum + char.codePointAt(0), 0) % COLOURS;
  const parts = entry.text.split(LINK);
  return h(
    `div.message.${mine ? "mine" : "theirs"}`,
    null,
    room && !mine && h(`p.sender.colour${colour}`, null, called(entry.from, you)),
    h(
      "p.text",
      null,
      parts.map((part, at) => (at % 2 ? h("a", { href: part, target: "_blank", rel: "noopener noreferrer" }, part) : part)),
    ),
    h("p.meta", null, h("time", null, clock(entry.time)), mine && h("span.mark")),
    h("p.wrong"),
  );
}

function update(node, entry, mine) {
  if (!mine) return;
  const state = entry.state ?? "sending";
  const mark = node.querySelector(".mark");
  if (mark.dataset.state === state) return;
  const [sign, words] = MARKS[state];
  mark.dataset.state = state;
  mark.title = words;
  mark.replaceChildren(h("span", { "aria-hidden": "true" }, sign), h("span.hidden", null, words));
  node.classList.toggle("failed", state === "failed");
  setText(node.querySelector(".wrong"), state === "failed" ? (REASONS[entry.reason] ?? entry.reason ?? "") : "");
}
