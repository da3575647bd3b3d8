/**
 * What this page knows of an account's chat, kept up by what it is told (docs/chat.md, section 3).
 *
 * A conversation is known from its end backwards, without holes: from its floor on.
 */

const RANKS = { sent: 0, arrived: 1, delivered: 2, read: 3, failed: 4 };
const MAX_PREVIEW = 120;

export const keyOf = (entry) => `${entry.from} ${entry.id}`;
export const isRoom = (name) => name.startsWith("#");
export const serverOf = (address) => address.slice(address.lastIndexOf("@") + 1);

/** An address as it is called here: people and rooms of the own server by their names alone. */
export function called(address, you) {
  return serverOf(address) === serverOf(you) ? address.slice(0, address.lastIndexOf("@")) : address;
}

function filled(talk) {
  return { last: 0, read: 0, unread: 0, preview: "", time: 0, status: "", topic: "", members: 0, open: true, ...talk };
}

export class Mirror {
  you = "";
  /** The number of the last change that is known. */
  cursor = 0;
  blocked = [];
  online = new Set();
  /** By their names: `{talk, entries, floor, complete}`. */
  conversations = new Map();

  conversation(name) {
    let found = this.conversations.get(name);
    if (!found) {
      found = { talk: filled({ with: name }), entries: new Map(), floor: null, complete: false };
      this.conversations.set(name, found);
    }
    return found;
  }

  /** The conversations, those first where something was said last. */
  listed() {
    return [...this.conversations.values()].sort(
      (one, other) => other.talk.last - one.talk.last || (one.talk.with < other.talk.with ? -1 : 1),
    );
  }

  lines(name) {
    return [...this.conversation(name).entries.values()].sort((one, other) => one.pos - other.pos);
  }

  greeted({ you, seq = 0, talks = [], blocked = [], online = [] }) {
    this.you = you;
    if (this.cursor === 0 || seq < this.cursor) {
      // The first time; or the database is another one, and nothing that was known holds.
      this.conversations.clear();
      this.cursor = seq;
    }
    for (const talk of talks) this.conversation(talk.with).talk = filled(talk);
    this.blocked = blocked;
    this.online = new Set(online);
  }

  synced({ changes = [], seq = 0 }) {
    for (const change of changes) {
      if (change.op === "entry") this.#entry(change.entry);
      else this.conversation(change.talk.with).talk = filled(change.talk);
    }
    this.cursor = Math.max(this.cursor, seq);
  }

  loaded(name, { entries = [], more = false }) {
    const found = this.conversation(name);
    for (const entry of entries) {
      if (!found.entries.has(keyOf(entry))) found.entries.set(keyOf(entry), entry);
    }
    if (entries.length) found.floor = Math.min(entries[0].pos, found.floor ?? entries[0].pos);
    else found.floor ??= 0;
    found.complete = !more;
  }

  /** Takes over an event; false where something before it was missed, and has to be asked for. */
  told(event) {
    if (event.op === "presence") {
      for (const [who, online] of event.people) this.online[online ? "add" : "delete"](who);
      return true;
    }
    if (event.op === "blocked") {
      this.blocked = event.blocked;
      return true;
    }
    if (!["entry", "states", "talk"].includes(event.op)) return true;
    const { since = 0, seq = 0 } = event;
    if (since > this.cursor) return false;
    if (seq < this.cursor) return true;
    if (event.op === "entry") this.#entry(event.entry);
    else if (event.op === "talk") this.conversation(event.talk.with).talk = filled(event.talk);
    else this.#states(event);
    this.cursor = seq;
    return true;
  }

  #entry(entry) {
    const found = this.conversation(entry.with);
    const { talk } = found;
    if (entry.pos > talk.last) {
      const unread = talk.unread + (entry.state === undefined && entry.pos > talk.read ? 1 : 0);
      const preview = entry.text.slice(0, MAX_PREVIEW);
      found.talk = { ...talk, last: entry.pos, time: entry.time, preview, unread };
      found.floor ??= entry.pos;
    }
    const known = found.entries.get(keyOf(entry));
    if (known?.state && RANKS[known.state] > RANKS[entry.state]) entry = { ...entry, state: known.state };
    if (known || (found.floor !== null && entry.pos >= found.floor)) found.entries.set(keyOf(entry), entry);
  }

  #states({ with: name, items }) {
    const states = new Map(items);
    for (const [key, entry] of this.conversation(name).entries) {
      const state = states.get(entry.pos);
      if (state && entry.state && RANKS[state] > RANKS[entry.state]) {
        this.conversation(name).entries.set(key, { ...entry, state });
      }
    }
  }
}
